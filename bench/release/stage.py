"""Is the fine-tuned model worth releasing? Beside its base, and beside responses that the data have.

Base and fine-tuned model answer the test split, a judge compares the responses in both orders, and the
verdicts are counted. Ties count half, and intervals are over prompts. The judge's own quality is shown with
every win rate. Data without a test split are replaced by shipped prompts. Without a judge, and without pairs
from which one could learn, there is no win rate: some replies are shown instead.
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
    by_id,
    known_responses,
    read_rows,
    responses_of_arms,
    safety_replies_of_arms,
)
from empathy_edge.bench.release.results import (
    BASE,
    FULL,
    KNOWN,
    FormatFigures,
    JudgeFigures,
    LearnedJudgeFigures,
    MeanInterval,
    NoJudgeFigures,
    OtherJudgeFigures,
    ReleaseResults,
    WinRate,
)
from empathy_edge.bench.release.shipped_prompts import DEFAULT_COUNT, shipped_prompts
from empathy_edge.bench.release.tables import Example, show
from empathy_edge.bench.release.verdict import decide
from empathy_edge.console import say
from empathy_edge.data import check_prompts
from empathy_edge.errors import EmpathyEdgeError, no_such_file
from empathy_edge.finetune.given_rows import is_empty
from empathy_edge.formats.dialogue import Dialogue, read_dialogues
from empathy_edge.formats.json_lines import read_jsonl, write_jsonl
from empathy_edge.judging.certificate import THRESHOLDS
from empathy_edge.judging.format_checks import summarize
from empathy_edge.judging.learned_judge import (
    FEWEST_PAIRS,
    LearnedJudge,
    LearnedJudgeTest,
    TrainingPair,
    cross_validate,
    pairs_from_rows,
)
from empathy_edge.judging.length_adjusted import length_figures
from empathy_edge.prompts import load_prompts
from empathy_edge.runs.settings import ReleaseSettings
from empathy_edge.runs.stage import open_stage
from empathy_edge.system.files import write_json

SHIPPED = "prompts.jsonl"
"""The shipped prompts that were answered: `judge sheet make` takes them as its dialogues."""

EXAMPLES = 4
"""Prompts whose replies are shown where there is no win rate."""


@dataclass(frozen=True)
class ReleaseInputs:
    """What is compared, and on what.

    Attributes:
        base: the model before fine-tuning.
        tuned: the fine-tuned model.
        test: the test dialogues (JSONL); None: shipped prompts.
        pairs: `preference.jsonl` of the run, from which the learned judge learns; None: there are none.
        control: `control.jsonl` of the run, on which it is tested; None: there are none.
        known: whose responses in the test dialogues are an arm, too, as `known`; None: nobody's.
    """

    base: Path
    tuned: Path
    test: Path | None
    pairs: Path | None
    control: Path | None
    known: str | None = None

    @classmethod
    def of_rows(cls, rows: Path | None, *, base: Path, tuned: Path, known: str | None) -> ReleaseInputs:
        """With what the folder that `distill` made has of test dialogues and pairs; None: no folder.

        Raises:
            EmpathyEdgeError: the folder is missing, or has no rows.
        """
        if rows is None:
            return cls(base=base, tuned=tuned, test=None, pairs=None, control=None, known=known)
        if not rows.is_dir():
            raise no_such_file(rows, "Give the folder that `distill` made, or none.", what="folder")
        files = {name: rows / f"{name}.jsonl" for name in ("sft", "preference", "control", "test")}
        if not any(file.is_file() for file in files.values()):
            raise EmpathyEdgeError(f"{rows}: has no rows. Give the folder that `distill` made, or none.")
        return cls(
            base=base,
            tuned=tuned,
            test=None if is_empty(files["test"]) else files["test"],
            pairs=files["preference"] if files["preference"].is_file() else None,
            control=files["control"] if files["control"].is_file() else None,
            known=known,
        )

    @property
    def arms(self) -> dict[str, Path]:
        """The models that answer."""
        return {BASE: self.base, FULL: self.tuned}

    @property
    def prompts(self) -> Path:
        """The file that holds the prompts, and perhaps more of them than are answered."""
        return self.test or check_prompts()

    @property
    def data(self) -> dict[str, Path]:
        """The files that the results depend on, by role."""
        files = {"test": self.prompts, "pairs": self.pairs, "control": self.control}
        return {role: file for role, file in files.items() if file is not None}


def run(
    *,
    inputs: ReleaseInputs,
    out: Path,
    settings: ReleaseSettings,
    chosen: ChosenJudge | None = None,
    update: bool = False,
) -> ReleaseResults:
    """Let both models answer the prompts, and compare the responses pairwise.

    Writes `responses/`, `safety/`, `verdicts.jsonl` and `release.json`, and prints the figures. Shipped
    prompts are kept in `prompts.jsonl`.

    Args:
        inputs: the models and the data.
        out: the stage's folder.
        settings: how many prompts, how long the responses, the bounds.
        chosen: another judge than the learned one.
        update: do it again where inputs or settings changed.
    """
    if inputs.test is None:
        settings = settings.model_copy(update={"max_prompts": settings.max_prompts or DEFAULT_COUNT})
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
        inputs=inputs.data | inputs.arms,
        files=("release.json", "verdicts.jsonl", SHIPPED, "judged/verdicts.jsonl"),
        update=update,
    )
    dialogues = _dialogues(inputs, settings)
    if stage.done:
        results = stage.results(ReleaseResults)
    else:
        results = _compare(inputs, dialogues, out, settings, chosen, update)
        write_json(out / "release.json", results.model_dump(mode="json", exclude_unset=True))
        stage.finish(results)
    show(results, [] if results.win_rates else _examples(dialogues, out / "responses"))
    return results


def _dialogues(inputs: ReleaseInputs, settings: ReleaseSettings) -> list[Dialogue]:
    """What is answered; says so where these are shipped prompts."""
    if inputs.test is not None:
        return read_dialogues(inputs.test)[: settings.max_prompts]
    dialogues = shipped_prompts(settings.max_prompts or DEFAULT_COUNT)
    say(
        f"No test split: {len(dialogues)} shipped prompts of `check`, spread over emotions, are answered. "
        "`finetune` refuses rows that hold one, so that no model it trained has seen them."
    )
    return dialogues


def _examples(dialogues: list[Dialogue], folder: Path) -> list[Example]:
    """A few prompts with both models' responses, evenly spread."""
    files = [folder / f"{arm}.jsonl" for arm in (BASE, FULL)]
    if not all(file.is_file() for file in files):
        return []
    base, tuned = (by_id(read_rows(file)) for file in files)
    step = max(1, len(dialogues) // EXAMPLES)
    shown = dialogues[::step][:EXAMPLES]
    return [Example(item.utterance, base[item.id]["text"], tuned[item.id]["text"]) for item in shown]


def _settings_of(chosen: ChosenJudge) -> dict[str, Any]:
    """What the results depend on when a judge was chosen."""
    certified = chosen.certification is not None and chosen.certification["certified"]
    settings: dict[str, Any] = {"judge": chosen.judge.name, "certified": certified}
    if chosen.question != "overall":
        settings["question"] = chosen.question
    return settings


def _compare(
    inputs: ReleaseInputs,
    dialogues: list[Dialogue],
    out: Path,
    settings: ReleaseSettings,
    chosen: ChosenJudge | None,
    update: bool,
) -> ReleaseResults:
    """Let the models respond, let the judge compare, and count."""
    # What can be wrong is checked before any model answers: the pairs, the learned judge.
    training = _training_pairs(inputs, dialogues)
    tested = _test_learned(inputs, training, settings) if chosen is None else None

    responses = responses_of_arms(inputs.arms, inputs.prompts, dialogues, out / "responses", settings, update)
    safety_replies = safety_replies_of_arms(inputs.arms, out / "safety", settings, update)
    # A file of verdicts or ratings holds what its sheet showed, which is the two models.
    is_file = chosen is not None and chosen.judge.dialogue_ids is not None
    known = known_responses(dialogues, inputs.known) if inputs.known and not is_file else None
    if known:
        responses[KNOWN] = known
    answers = Answers(dialogues, responses)

    comparisons = comparisons_of(responses) if chosen or tested else []
    judged: list[JudgedPrompt] = []
    if chosen:
        judged = judge_by_chosen(chosen, answers, comparisons, out / "judged")
    elif tested:
        judged = judge_by_learned(LearnedJudge(training, settings.seed), answers, comparisons)
    write_jsonl(out / "verdicts.jsonl", [item.as_row() for item in judged])

    found = ReleaseResults(
        verdict="UNDECIDED",
        reasons=(),
        judge=_judge_figures(chosen, tested, judged, len(training)),
        prompts=len(dialogues),
        format={
            arm: FormatFigures.model_validate(summarize(rows, answers.utterances))
            for arm, rows in responses.items()
        },
        safety={arm: safety.summarize(replies) for arm, replies in safety_replies.items()},
        win_rates=tuple(tally(first, second, judged, answers) for first, second in comparisons),
    )
    if inputs.test is None:
        write_jsonl(out / SHIPPED, [dialogue.row() for dialogue in dialogues])
        found = found.model_copy(update={"shipped_prompts": True})
    if not comparisons:
        found = found.model_copy(update={"only_well_formed": _only_well_formed(answers)})
    verdict, reasons = decide(found, settings)
    return found.model_copy(update={"verdict": verdict, "reasons": reasons})


def _training_pairs(inputs: ReleaseInputs, dialogues: list[Dialogue]) -> list[TrainingPair]:
    """The pairs that the learned judge learns from; none may be of a test dialogue."""
    if inputs.pairs is None:
        return []
    pairs = pairs_from_rows(read_jsonl(inputs.pairs))
    if inputs.test is None:  # a shipped prompt may share its id with a dialogue of the user's
        return pairs
    shared = {pair.id for pair in pairs} & {dialogue.id for dialogue in dialogues}
    if shared:
        raise EmpathyEdgeError(
            f"{inputs.pairs}: {len(shared)} test dialogues are in it (first: {min(shared)})."
        )
    return pairs


def _test_learned(
    inputs: ReleaseInputs, training: list[TrainingPair], settings: ReleaseSettings
) -> LearnedJudgeTest | None:
    """How good the judge is that learns from the pairs; None where these are too few for one."""
    if len(training) < FEWEST_PAIRS:
        return None
    control = pairs_from_rows(read_jsonl(inputs.control)) if inputs.control else []
    return cross_validate(training, control, settings.min_judge_accuracy, settings.seed)


def _judge_figures(
    chosen: ChosenJudge | None,
    tested: LearnedJudgeTest | None,
    judged: Sequence[JudgedPrompt],
    training_pairs: int,
) -> JudgeFigures:
    if chosen:
        return _figures_of_chosen(chosen, judged)
    if tested:
        return LearnedJudgeFigures.model_validate(tested)
    pairs = "no preference pairs" if not training_pairs else f"only {training_pairs} preference pairs"
    doubt = (
        f"which replies are better was not judged, since there are {pairs} for a judge to learn from; "
        "a --judge with a --certificate decides it, or people do (`judge sheet make`)"
    )
    return NoJudgeFigures(judge="none", certified=False, doubts=(doubt,))


def _only_well_formed(answers: Answers) -> dict[str, int]:
    """How many prompts only one of the two models answers well-formed."""
    base, tuned = answers.well_formed(BASE), answers.well_formed(FULL)
    return {BASE: len(base - tuned), FULL: len(tuned - base)}


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
