"""Win rates between arms on the test split: both orders, ties kept, intervals over prompts, the judge beside them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.bench.gate import safety
from empathy_edge.bench.gate.known_bad import write_known_bad
from empathy_edge.bench.gate.responses import respond
from empathy_edge.bench.gate.severe import severe_flips
from empathy_edge.console import out as stdout
from empathy_edge.console import table, tell
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.dialogue import Dialogue, read_dialogues, read_jsonl, write_jsonl
from empathy_edge.judging.certify import THRESHOLDS
from empathy_edge.judging.compare import BACK, POINTS, ask, covered, length_figures, words_ahead_of
from empathy_edge.judging.format_checks import CHECKS, summarize, well_formed
from empathy_edge.judging.judges import Judge, ScorerJudge, identity
from empathy_edge.judging.statistics import bootstrap_mean
from empathy_edge.judging.word_judge import PairwiseScorer, certify, pairs_from_rows, verdict
from empathy_edge.prompts import load_prompts
from empathy_edge.runs.recipe import WinrateSettings
from empathy_edge.runs.stage import open_stage
from empathy_edge.system.files import write_json

BASE, FULL, KNOWN_BAD = "base", "fine-tuned", "known-bad"
KNOWN_BAD_TOKENS = 64
"""A damaged model seldom stops; that it did not is known after this many tokens."""
SAFETY_TOKENS = 96


def run(
    *,
    arms: dict[str, Path],
    test: Path,
    pairs: Path,
    control: Path,
    out: Path,
    settings: WinrateSettings,
    minimum_accuracy: float,
    judge: Judge | None = None,
    standing: dict[str, Any] | None = None,
    question: str = "overall",
    scorer: Path | None = None,
    update: bool = False,
) -> dict[str, Any]:
    """Let each arm answer the test split, judge them pairwise; writes `responses/`, `verdicts.jsonl`, `winrate.json`.

    Args:
        arms: arm → model; `base` and `fine-tuned` (the merged checkpoint) among them, the rest are artifacts. A damaged copy of the
            fine-tuned model, and the fine-tuned model against itself, run along as controls.
        test: the test dialogues (JSONL).
        pairs: `preference.jsonl` of the run, which the judge learns from.
        control: `control.jsonl` of the run, which the judge is tested on.
        out: the stage's folder.
        settings: how many prompts, how long the responses, the bootstrap.
        minimum_accuracy: what the judge's held-out accuracy must reach to be certified.
        judge: who compares, instead of the scorer that learns from `pairs`.
        standing: whether that judge is certified (`certify.standing`, for `question`); without it, it is not.
        question: what that judge is asked (prompts/judge.yaml).
        scorer: an absolute scorer (`score train`, `score tune`), to count severe flips.
        update: do it again where inputs or settings changed.
    """
    stage = open_stage(
        out,
        "winrate",
        settings={
            **settings.model_dump(),
            "minimum_accuracy": minimum_accuracy,
            "prompt_sha256": load_prompts("chat").sha256,
            "safety_sha256": load_prompts("safety").sha256,
            "arms": list(arms),
            **(_settings_of(judge, standing, question) if judge else {}),
        },
        inputs={
            "test": test,
            "pairs": pairs,
            "control": control,
            **arms,
            **({"scorer": scorer} if scorer else {}),
        },
        update=update,
    )
    if not stage.done:
        rater = (
            opened(scorer, judge) if scorer else None
        )  # one that does not load is said before anyone answers
        dialogues = read_dialogues(test)[: settings.max_prompts]
        training = pairs_from_rows(read_jsonl(pairs))
        shared = {pair.id for pair in training} & {dialogue.id for dialogue in dialogues}
        if shared:
            raise EmpathyEdgeError(f"{pairs}: {len(shared)} test dialogues are in it (first: {min(shared)}).")
        described = (
            certify(training, pairs_from_rows(read_jsonl(control)), minimum_accuracy, settings.seed)
            if judge is None
            else {}
        )
        responses = _responses(arms, test, dialogues, out / "responses", settings, update)
        guarded = {
            arm: safety.summarize(rows) for arm, rows in _guarded(arms, out / "safety", update).items()
        }
        compared = _comparisons(list(arms))
        if judge is None:
            own = PairwiseScorer(training, settings.seed)
            verdicts = [
                row
                for first, second in compared
                for row in _judge(own, dialogues, first, second, responses[first], responses[second])
            ]
        else:
            judged = covered(judge, dialogues)
            verdicts = [
                row for pair in compared for row in _asked(judge, question, judged, *pair, responses, out)
            ]
            described = _described(judge, standing, verdicts) | {"question": question}
        write_jsonl(out / "verdicts.jsonl", verdicts)
        said = {dialogue.id: dialogue.utterance for dialogue in dialogues}
        result: dict[str, Any] = {
            "judge": described,
            "prompts": len(dialogues),
            "said": said,
            "format": {arm: summarize(rows, said) for arm, rows in responses.items()},
            "safety": guarded,
            "severe_flips": severe_flips(rater, dialogues, responses, FULL) if rater else None,
            "win_rates": [
                _win_rate(first, second, verdicts, responses, said, settings) for first, second in compared
            ],
        }
        write_json(out / "winrate.json", result)
        stage.finish(**result)
    show(stage.manifest["results"])
    return stage.manifest


def _settings_of(judge: Judge, standing: dict[str, Any] | None, question: str) -> dict[str, Any]:
    """What of the judge another result depends on."""
    asked = {} if question == "overall" else {"question": question}
    return {"judge": judge.name, "certified": bool(standing and standing["certified"]), **asked}


def opened(scorer: Path, judge: Judge | None) -> Any:
    """The scorer; the judge's own where it is the same file, so that no model is loaded and no response rated twice."""
    if isinstance(judge, ScorerJudge) and judge.file.samefile(scorer):
        return judge.scorer
    require_extra("sklearn", "score", "Counting severe flips")
    from empathy_edge.judging.open_scorer import open_scorer

    return open_scorer(scorer)


def show(result: dict[str, Any]) -> None:
    """Print format checks and win rates as tables."""
    stdout.print(
        table(
            f"Responses to {result['prompts']} test prompts",
            ["arm", "well-formed", "stopped", "1–97 words", "no loop", "same language", "median words"],
            [
                [
                    arm,
                    *(f"{row[key]:.1%}" for key in ("ok", *CHECKS)),
                    f"{row['median_words']:g}",
                ]
                for arm, row in result["format"].items()
            ],
        )
    )
    guard = result["safety"]
    stdout.print(
        table(
            f"Replies to {next(iter(guard.values()))['prompts']} prompts about self-harm, delusions and harm to others (rules, not judgement)",
            ["arm", "flagged", "self-harm", "delusion", "harmful", "points to help"],
            [
                [
                    arm,
                    str(row["flagged"]),
                    *(str(row["by_kind"][kind]) for kind in safety.KINDS),
                    str(row["points_to_help"]),
                ]
                for arm, row in guard.items()
            ],
        )
    )
    if severe := result.get("severe_flips"):
        stdout.print(
            table(
                f"Ratings by {severe['scorer']} ({severe['figures']})",
                ["arm", "mean rating, 1–3", "fell from 3 to 1", "95 % upper bound", "rose from 1 to 3"],
                [
                    [
                        arm,
                        f"{row['mean_rating']:.2f}",
                        f"{len(row['fell'])}/{row['prompts']}",
                        f"{row['high']:.1%}",
                        str(row["rose"]),
                    ]
                    for arm, row in severe["arms"].items()
                ],
            )
        )
        if severe["doubts"]:
            tell(f"  This scorer may not decide: {'; '.join(severe['doubts'])}.")
    judge = result["judge"]
    title = f"Win rates by {judge['judge']}, {describe_judge(judge)}"
    stdout.print(
        table(
            title,
            ["comparison", "win rate", "95 % interval", "ties", "both well-formed"],
            [
                [
                    f"{row['first']} against {row['second']}",
                    f"{row['win_rate']['mean']:.1%}",
                    f"[{row['win_rate']['low']:.1%}, {row['win_rate']['high']:.1%}]",
                    f"{row['ties']:.1%}",
                    "–"
                    if row["win_rate_well_formed"] is None
                    else f"{row['win_rate_well_formed']['mean']:.1%} (n={row['win_rate_well_formed']['n']})",
                ]
                for row in result["win_rates"]
            ],
        )
    )


def describe_judge(judge: dict[str, Any]) -> str:
    """The judge's accuracy and standing, in one line; stands beside every win rate."""
    if "held_out" not in judge:
        agreement = judge.get("agreement")
        known = (
            f"agrees with people in {agreement['mean']:.1%} [{agreement['low']:.1%}, {agreement['high']:.1%}] of pairs"
            if agreement
            else "never tested"
        )
        return f"{known}; {judge['unparsed']:.1%} unread answers; {'certified' if judge['certified'] else 'NOT certified'}"

    def figure(name: str) -> str:
        low, high = judge[name]["interval"]
        pairs = f"{judge[name]['pairs']} {name.replace('_', '-')} pairs"
        return f"{judge[name]['accuracy']:.1%} [{low:.1%}, {high:.1%}] on {pairs}"

    control = f", {figure('control')}" if judge["control"]["pairs"] else ", no control pairs"
    return f"accuracy {figure('held_out')}{control}; {'certified' if judge['certified'] else 'NOT certified'}"


def _responses(
    arms: dict[str, Path],
    test: Path,
    dialogues: list[Dialogue],
    folder: Path,
    settings: WinrateSettings,
    update: bool,
) -> dict[str, list[dict[str, Any]]]:
    """Every arm's responses, and those of the known-bad control: a stage of its own, so that another judge asks no model again."""
    stage = open_stage(
        folder,
        "responses",
        settings={
            **settings.model_dump(include={"max_prompts", "max_new_tokens"}),
            "known_bad_tokens": KNOWN_BAD_TOKENS,
            "prompt_sha256": load_prompts("chat").sha256,
            "arms": list(arms),
        },
        inputs={"test": test, **arms},
        update=update,
    )
    files = {arm: folder / f"{arm}.jsonl" for arm in (*arms, KNOWN_BAD)}
    if stage.done:
        return _kept(files, dialogues)
    found = {
        arm: respond(model, dialogues, files[arm], max_new_tokens=settings.max_new_tokens, arm=arm)
        for arm, model in arms.items()
    }
    with tempfile.TemporaryDirectory(prefix=".known-bad-", dir=folder) as scratch:
        write_known_bad(arms[FULL], Path(scratch))
        found[KNOWN_BAD] = respond(
            Path(scratch), dialogues, files[KNOWN_BAD], max_new_tokens=KNOWN_BAD_TOKENS, arm=KNOWN_BAD
        )
    stage.finish()
    return found


def _guarded(arms: dict[str, Path], folder: Path, update: bool) -> dict[str, list[dict[str, Any]]]:
    """Every arm's replies to the guard's prompts; a stage of its own, too."""
    settings = {
        "max_new_tokens": SAFETY_TOKENS,
        "prompt_sha256": load_prompts("chat").sha256,
        "safety_sha256": load_prompts("safety").sha256,
        "arms": list(arms),
    }
    stage = open_stage(folder, "safety", settings=settings, inputs={**arms}, update=update)
    prompts, files = safety.safety_prompts(), {arm: folder / f"{arm}.jsonl" for arm in arms}
    if stage.done:
        return _kept(files, prompts)
    found = {
        arm: respond(model, prompts, files[arm], max_new_tokens=SAFETY_TOKENS, arm=f"{arm}, safety")
        for arm, model in arms.items()
    }
    stage.finish()
    return found


def _kept(files: dict[str, Path], dialogues: list[Dialogue]) -> dict[str, list[dict[str, Any]]]:
    """The responses of a finished stage, in the order of the dialogues."""
    rows = {arm: {row["id"]: row for row in read_jsonl(file)} for arm, file in files.items()}
    return {arm: [by_id[dialogue.id] for dialogue in dialogues] for arm, by_id in rows.items()}


def _comparisons(arms: list[str]) -> list[tuple[str, str]]:
    """Fine-tuned against base; each artifact, and the two controls, against the fine-tuned model and against the base."""
    artifacts = [arm for arm in arms if arm not in (BASE, FULL)] + [KNOWN_BAD]
    against_full = [(arm, FULL) for arm in artifacts]
    return [(FULL, BASE), *against_full, *((arm, BASE) for arm in artifacts), (FULL, FULL)]


def _judge(
    judge: PairwiseScorer,
    dialogues: list[Dialogue],
    first: str,
    second: str,
    ours: list[dict[str, Any]],
    theirs: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """One row per dialogue with the verdicts of both orders; points are the first arm's share: 1, 0.5 or 0 each."""
    rows = []
    for dialogue, mine, other in zip(dialogues, ours, theirs, strict=True):
        forth = verdict(judge.prefer(dialogue.utterance, mine["text"], other["text"]))
        back = verdict(judge.prefer(dialogue.utterance, other["text"], mine["text"]))
        points = (
            {"first": 1.0, "tie": 0.5, "second": 0.0}[forth] + {"first": 0.0, "tie": 0.5, "second": 1.0}[back]
        ) / 2
        rows.append(
            {
                "id": dialogue.id,
                "emotion": dialogue.emotion,
                "first": first,
                "second": second,
                "verdicts": [forth, back],
                "points": points,
            }
        )
    return rows


def _asked(
    judge: Judge,
    question: str,
    dialogues: list[Dialogue],
    first: str,
    second: str,
    responses: dict[str, list[dict[str, Any]]],
    out: Path,
) -> list[dict[str, Any]]:
    """As `_judge`, by any judge that `compare` knows; every verdict is kept in `judged/`, and asked for once."""
    (out / "judged").mkdir(exist_ok=True)
    ours, theirs = ({row["id"]: row for row in responses[arm]} for arm in (first, second))
    rows, _ = ask(judge, question, dialogues, ours, theirs, out / "judged")
    emotions = {dialogue.id: dialogue.emotion for dialogue in dialogues}
    return [
        {
            "id": row["id"],
            "emotion": emotions[row["id"]],
            "first": first,
            "second": second,
            "verdicts": [row["verdicts"][0], BACK[row["verdicts"][1]]],
            "points": sum(POINTS.get(verdict, 0.5) for verdict in row["verdicts"]) / 2,
        }
        for row in rows
    ]


def _described(
    judge: Judge, standing: dict[str, Any] | None, verdicts: list[dict[str, Any]]
) -> dict[str, Any]:
    """A judge's certificate, and what of this run's own verdicts speaks against it."""
    unparsed = sum(verdict == "unparsed" for row in verdicts for verdict in row["verdicts"]) / (
        2 * len(verdicts)
    )
    doubts = list(standing["doubts"] if standing else ["no certificate was given"])
    if unparsed > THRESHOLDS["unparsed"]:
        doubts.append(f"{unparsed:.0%} of its answers cannot be read")
    return {
        "judge": identity(judge),
        "certified": not doubts,
        "doubts": doubts,
        "agreement": (standing or {}).get("win_rate"),
        "unparsed": round(unparsed, 4),
        "longer_wins_by_judge": None,
    }


def _win_rate(
    first: str,
    second: str,
    verdicts: list[dict[str, Any]],
    responses: dict[str, list[dict[str, Any]]],
    said: dict[str, str],
    settings: WinrateSettings,
) -> dict[str, Any]:
    rows = [row for row in verdicts if (row["first"], row["second"]) == (first, second)]
    formed = {
        arm: {row["id"] for row in responses[arm] if well_formed(row, said.get(row["id"]))}
        for arm in (first, second)
    }
    both = [row["points"] for row in rows if row["id"] in formed[first] & formed[second]]
    flips = [row for row in rows if "tie" not in row["verdicts"] and row["verdicts"][0] == row["verdicts"][1]]
    by_id = {arm: {row["id"]: row for row in responses[arm]} for arm in (first, second)}
    leads = words_ahead_of([row["id"] for row in rows], by_id[first], by_id[second])
    return {
        "first": first,
        "second": second,
        **length_figures(np.array([row["points"] for row in rows]), leads),
        "win_rate": bootstrap_mean([row["points"] for row in rows], settings.bootstrap, settings.seed),
        "win_rate_well_formed": bootstrap_mean(both, settings.bootstrap, settings.seed) if both else None,
        "only_first_well_formed": len(formed[first] - formed[second]),
        "only_second_well_formed": len(formed[second] - formed[first]),
        "ties": round(sum(row["points"] == 0.5 for row in rows) / len(rows), 4),
        "order_flips": round(len(flips) / len(rows), 4),
    }
