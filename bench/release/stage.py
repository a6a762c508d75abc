"""Is the fine-tuned model worth releasing? Beside its base, and beside responses that the data have.

Base and fine-tuned model answer the test split, a judge compares the responses in both orders, and the
verdicts are counted. Ties count half, and intervals are over prompts. The judge's own quality is shown with
every win rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.bench.release import safety
from empathy_edge.bench.release.comparisons import (
    ChosenJudge,
    JudgedPrompt,
    comparisons_of,
    judge_by_chosen,
    judge_by_learned,
)
from empathy_edge.bench.release.responses import (
    Answers,
    known_responses,
    responses_of_arms,
    safety_replies_of_arms,
)
from empathy_edge.bench.release.results import (
    BASE,
    FULL,
    KNOWN,
    FormatFigures,
    LearnedJudgeFigures,
    MeanInterval,
    OtherJudgeFigures,
    ReleaseResults,
    WinRate,
)
from empathy_edge.bench.release.tables import show
from empathy_edge.bench.release.verdict import decide
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue, read_dialogues
from empathy_edge.formats.json_lines import read_jsonl, write_jsonl
from empathy_edge.judging.certificate import THRESHOLDS
from empathy_edge.judging.format_checks import summarize
from empathy_edge.judging.learned_judge import (
    LearnedJudge,
    TrainingPair,
    cross_validate,
    pairs_from_rows,
)
from empathy_edge.judging.length_adjusted import length_figures
from empathy_edge.prompts import load_prompts
from empathy_edge.runs.settings import ReleaseSettings
from empathy_edge.runs.stage import open_stage
from empathy_edge.system.files import write_json


@dataclass(frozen=True)
class ReleaseInputs:
    """What is compared, and on what.

    Attributes:
        base: the model before fine-tuning.
        tuned: the fine-tuned model.
        test: the test dialogues (JSONL).
        pairs: `preference.jsonl` of the run, from which the learned judge learns.
        control: `control.jsonl` of the run, on which it is tested.
        known: whose responses in the test dialogues are an arm, too, as `known`; None: nobody's.
    """

    base: Path
    tuned: Path
    test: Path
    pairs: Path
    control: Path
    known: str | None = None

    @property
    def arms(self) -> dict[str, Path]:
        """The models that answer."""
        return {BASE: self.base, FULL: self.tuned}


def run(
    *,
    inputs: ReleaseInputs,
    out: Path,
    settings: ReleaseSettings,
    chosen: ChosenJudge | None = None,
    update: bool = False,
) -> ReleaseResults:
    """Let both models answer the test split, and compare the responses pairwise.

    Writes `responses/`, `safety/`, `verdicts.jsonl` and `release.json`, and prints the figures.

    Args:
        inputs: the models and the data.
        out: the stage's folder.
        settings: how many prompts, how long the responses, the bounds.
        chosen: another judge than the learned one.
        update: do it again where inputs or settings changed.
    """
    stage = open_stage(
        out,
        "release",
        settings={
            **settings.model_dump(),
            "prompt_sha256": load_prompts("chat").sha256,
            "safety_sha256": load_prompts("safety").sha256,
            "known": inputs.known,
            **(_settings_of(chosen) if chosen else {}),
        },
        inputs={"test": inputs.test, "pairs": inputs.pairs, "control": inputs.control, **inputs.arms},
        files=("release.json", "verdicts.jsonl", "judged/verdicts.jsonl"),
        update=update,
    )
    if stage.done:
        results = stage.results(ReleaseResults)
    else:
        results = _compare(inputs, out, settings, chosen, update)
        write_json(out / "release.json", results.model_dump(mode="json", exclude_unset=True))
        stage.finish(results)
    show(results)
    return results


def _settings_of(chosen: ChosenJudge) -> dict[str, Any]:
    """What the results depend on when a judge was chosen."""
    certified = chosen.certification is not None and chosen.certification["certified"]
    settings: dict[str, Any] = {"judge": chosen.judge.name, "certified": certified}
    if chosen.question != "overall":
        settings["question"] = chosen.question
    return settings


def _compare(
    inputs: ReleaseInputs,
    out: Path,
    settings: ReleaseSettings,
    chosen: ChosenJudge | None,
    update: bool,
) -> ReleaseResults:
    """Let the models respond, let the judge compare, and count."""
    # What can be wrong is checked before any model answers: the pairs, the learned judge.
    dialogues = read_dialogues(inputs.test)[: settings.max_prompts]
    training = _training_pairs(inputs.pairs, dialogues)
    tested = None
    if chosen is None:
        control = pairs_from_rows(read_jsonl(inputs.control))
        tested = cross_validate(training, control, settings.min_judge_accuracy, settings.seed)

    responses = responses_of_arms(inputs.arms, inputs.test, dialogues, out / "responses", settings, update)
    safety_replies = safety_replies_of_arms(inputs.arms, out / "safety", settings, update)
    # A file of verdicts or ratings holds what its sheet showed, which is the two models.
    is_file = chosen is not None and chosen.judge.dialogue_ids is not None
    known = known_responses(dialogues, inputs.known) if inputs.known and not is_file else None
    if known:
        responses[KNOWN] = known
    answers = Answers(dialogues, responses)

    comparisons = comparisons_of(responses)
    if chosen is None:
        judged = judge_by_learned(LearnedJudge(training, settings.seed), answers, comparisons)
    else:
        judged = judge_by_chosen(chosen, answers, comparisons, out / "judged")
    write_jsonl(out / "verdicts.jsonl", [item.as_row() for item in judged])

    found = ReleaseResults(
        verdict="UNDECIDED",
        reasons=(),
        judge=_figures_of_chosen(chosen, judged) if chosen else LearnedJudgeFigures.model_validate(tested),
        prompts=len(dialogues),
        format={
            arm: FormatFigures.model_validate(summarize(rows, answers.utterances))
            for arm, rows in responses.items()
        },
        safety={arm: safety.summarize(replies) for arm, replies in safety_replies.items()},
        win_rates=tuple(tally(first, second, judged, answers) for first, second in comparisons),
    )
    verdict, reasons = decide(found, settings)
    return found.model_copy(update={"verdict": verdict, "reasons": reasons})


def _training_pairs(file: Path, dialogues: list[Dialogue]) -> list[TrainingPair]:
    """The pairs that the learned judge learns from; none may be of a test dialogue."""
    pairs = pairs_from_rows(read_jsonl(file))
    shared = {pair.id for pair in pairs} & {dialogue.id for dialogue in dialogues}
    if shared:
        raise EmpathyEdgeError(f"{file}: {len(shared)} test dialogues are in it (first: {min(shared)}).")
    return pairs


def _figures_of_chosen(chosen: ChosenJudge, judged: Sequence[JudgedPrompt]) -> OtherJudgeFigures:
    """The chosen judge's certificate, and what its verdicts in this run say against it."""
    unparsed = sum(item.verdicts.count("unparsed") for item in judged) / (2 * len(judged))
    certification = chosen.certification
    doubts = list(certification["doubts"]) if certification else ["no certificate was given"]
    if unparsed > THRESHOLDS["unparsed"]:
        doubts.append(f"{unparsed:.0%} of its answers cannot be read")
    agreement = certification.get("win_rate") if certification else None
    return OtherJudgeFigures(
        judge=chosen.judge.identity(),
        certified=not doubts,
        doubts=tuple(doubts),
        agreement=MeanInterval.model_validate(agreement) if agreement else None,
        unparsed=round(unparsed, 4),
        longer_wins_by_judge=None,
        question=chosen.question,
    )


def tally(first: str, second: str, judged: Sequence[JudgedPrompt], answers: Answers) -> WinRate:
    """Count the verdicts on two arms."""
    rows = [item for item in judged if (item.first, item.second) == (first, second)]
    points = [item.points for item in rows]
    first_well_formed, second_well_formed = answers.well_formed(first), answers.well_formed(second)
    both_well_formed = first_well_formed & second_well_formed
    points_well_formed = [item.points for item in rows if item.id in both_well_formed]
    rate_well_formed = None
    if points_well_formed:
        rate_well_formed = MeanInterval.over_prompts(points_well_formed)
    words_ahead = answers.pairs(first, second).only({item.id for item in rows}).words_ahead()
    return WinRate.model_validate(
        {
            "first": first,
            "second": second,
            **length_figures(np.array(points), words_ahead),
            "win_rate": MeanInterval.over_prompts(points),
            "win_rate_well_formed": rate_well_formed,
            "only_first_well_formed": len(first_well_formed - second_well_formed),
            "only_second_well_formed": len(second_well_formed - first_well_formed),
            "ties": round(sum(value == 0.5 for value in points) / len(rows), 4),
            "order_flips": round(sum(item.flips for item in rows) / len(rows), 4),
        }
    )
