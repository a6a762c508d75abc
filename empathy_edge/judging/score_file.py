"""`empathy-edge score rate`: rate the responses in files, and say why each got its score."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np

from empathy_edge.console import out as stdout
from empathy_edge.console import progress, say, table, tell
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import DialogueStream
from empathy_edge.formats.json_lines import writing_jsonl
from empathy_edge.judging.base_scorer import BaseScorer, Reasons, describe, describe_reasons, expected_rating
from empathy_edge.judging.evaluation import RatingFigures
from empathy_edge.judging.open_scorer import open_scorer
from empathy_edge.judging.rated import rows_to_score
from empathy_edge.judging.response_pairs import iterate_responses
from empathy_edge.judging.statistics import bootstrap

RESAMPLES, SEED = 2000, 0
MIN_PROMPTS = 20
"""With fewer prompts the bootstrap's interval is clearly too narrow."""

AT_ONCE = 250
"""Responses that are scored at a time; what a scorer computes of them is in memory."""


class RatedArm(TypedDict):
    """One file: how many responses, their mean expected rating, and its 95 % interval where they suffice."""

    arm: str
    responses: int
    mean: float
    low: float | None
    high: float | None


class RatedFiles(TypedDict):
    """What `rate` found: each file, and the scorer's own figures on dialogues that it did not see."""

    arms: list[RatedArm]
    scorer: RatingFigures


class _Said(NamedTuple):
    """What was responded to."""

    situation: str
    utterance: str


class _Scored(NamedTuple):
    """A response with its score and the reasons for it."""

    text: str
    score: float
    reasons: Reasons


@dataclass
class _Arm:
    """The scores of one file of responses, and the responses with the highest and the lowest one."""

    name: str
    scores: list[float] = field(default_factory=list)
    best: _Scored | None = None
    worst: _Scored | None = None

    def add(self, scored: _Scored) -> None:
        self.scores.append(scored.score)
        if self.best is None or scored.score > self.best.score:
            self.best = scored
        if self.worst is None or scored.score < self.worst.score:
            self.worst = scored


def rate(responses: tuple[Path, ...], dialogues: Path, scorer_file: Path, out: Path | None) -> RatedFiles:
    """Score each file of responses (`id`, `text`), and show each file's mean with its interval over prompts.

    Args:
        responses: files; each is one arm.
        dialogues: what was responded to.
        scorer_file: what `score train` or `score tune` wrote.
        out: a new file for every score with its reasons, if wanted.

    Raises:
        EmpathyEdgeError: a row without its dialogue, or `out` exists.
    """
    if out is not None and out.exists():
        raise EmpathyEdgeError(f"{out}: exists already; choose another name. Nothing was scored.")
    scorer = open_scorer(scorer_file)
    said = {item.id: _Said(item.situation, item.utterance) for item in DialogueStream(dialogues)}
    counts = [_count(file, said, dialogues) for file in responses]
    arms: list[RatedArm] = []
    with writing_jsonl(out) if out else contextlib.nullcontext(_nowhere) as write:
        for file, count in zip(responses, counts, strict=True):
            arm = _rate_file(file, said, scorer, count, write)
            arms.append(_rated_arm(arm))
            _show_extremes(arm)
    lines = [[item["arm"], str(item["responses"]), _mean_rating(item)] for item in arms]
    stdout.print(table("Expected rating, 1 to 3", ["arm", "responses", "mean [95 %]"], lines))
    tell(f"The scorer's own figures: {describe(scorer.figures)}.")
    return {"arms": arms, "scorer": scorer.figures}


def _nowhere(row: Any) -> None:
    """Where no file is wanted."""


def _count(file: Path, said: Mapping[str, _Said], dialogues: Path) -> int:
    """How many responses a file has, each to one of the dialogues."""
    number = 0
    for number, row in enumerate(iterate_responses(file), 1):
        if row["id"] not in said:
            raise EmpathyEdgeError(f"{file}: row {number}: no dialogue '{row['id']}' in {dialogues}.")
    if number == 0:
        raise EmpathyEdgeError(f"{file}: the file is empty; there is nothing to score.")
    return number


def _rate_file(
    file: Path, said: Mapping[str, _Said], scorer: BaseScorer, count: int, write: Callable[[Any], None]
) -> _Arm:
    """Score the responses in parts, so that it does not matter how many there are."""
    arm = _Arm(file.stem)
    with progress() as bar:
        task = bar.add_task("rating", total=count, note="")
        for rows in _in_parts(iterate_responses(file), AT_ONCE):
            prompts = [said[row["id"]] for row in rows]
            probabilities, reasons = scorer.score(rows_to_score(prompts, [row["text"] for row in rows]))
            scores = expected_rating(probabilities)
            for row, score, chances, why in zip(rows, scores, probabilities, reasons, strict=True):
                arm.add(_Scored(row["text"], float(score), why))
                write(
                    {
                        "arm": arm.name,
                        "id": row["id"],
                        "score": round(float(score), 4),
                        "probabilities": [round(float(value), 4) for value in chances],
                        "why": why,
                    }
                )
            bar.advance(task, len(rows))
    return arm


def _in_parts(rows: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    while part := list(islice(rows, size)):
        yield part


def _rated_arm(arm: _Arm) -> RatedArm:
    """The mean with its interval over prompts, which needs some prompts."""
    scores = np.array(arm.scores)
    mean, low, high = float(scores.mean()), None, None
    if len(scores) >= MIN_PROMPTS:
        interval = bootstrap(scores, resamples=RESAMPLES, seed=SEED)
        mean, low, high = interval.mean, interval.low, interval.high
    return {"arm": arm.name, "responses": len(scores), "mean": mean, "low": low, "high": high}


def _mean_rating(item: RatedArm) -> str:
    if item["low"] is None:
        return f"{item['mean']:.3f} (too few for an interval)"
    return f"{item['mean']:.3f} [{item['low']:.3f}, {item['high']:.3f}]"


def _show_extremes(arm: _Arm) -> None:
    for word, scored in (("best", arm.best), ("worst", arm.worst)):
        if scored is not None:
            say(
                f"{arm.name}, {word} ({scored.score:.2f}): {scored.text}\n"
                f"    {describe_reasons(scored.reasons)}"
            )
