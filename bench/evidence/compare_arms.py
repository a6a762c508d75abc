"""Win rates between arms from ratings of single replies: all, of equal length, and both well-formed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from empathy_edge.bench.evidence.test_split import HUMAN
from empathy_edge.bench.release.responses import known_responses
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue, read_dialogues
from empathy_edge.judging.format_checks import well_formed
from empathy_edge.judging.length_adjusted import length_figures
from empathy_edge.judging.raters.rater import ToRate
from empathy_edge.judging.raters.sheet_rater import SheetRater
from empathy_edge.judging.response_pairs import read_responses
from empathy_edge.judging.statistics import Interval, score_interval

MISPLACED = "another prompt's"
"""The human response to another prompt: a reader who reads seldom prefers it."""


@dataclass(frozen=True)
class Arm:
    """A model's replies, or people's.

    Attributes:
        name: of the arm.
        ratings: 0 to 100, float64 [prompts].
        well_formed: which replies pass all checks of format, bool [prompts].
        words: of each reply, [prompts].
    """

    name: str
    ratings: np.ndarray
    well_formed: np.ndarray
    words: np.ndarray


@dataclass(frozen=True)
class Compared:
    """How often the first arm's reply is rated above the second's; equal ratings count half.

    Attributes:
        first: name of the arm.
        second: name of the arm.
        win_rate: over all prompts, with a 95 % interval over prompts.
        ties: the share of equal ratings.
        both_well_formed: over the prompts where both replies are.
        prompts_well_formed: how many these are.
        equal_length: the win rate of replies of equal length; None where length and arm cannot be told apart.
    """

    first: str
    second: str
    win_rate: Interval
    ties: float
    both_well_formed: Interval
    prompts_well_formed: int
    equal_length: Interval | None


def rated_arms(test: Path, folder: Path, sheet: Path) -> dict[str, Arm]:
    """The arms in a folder of responses, people's response, and the control, with their ratings.

    Raises:
        RatingsMissing: the sheet was written, or extended, and somebody must fill it in.
        EmpathyEdgeError: an arm has not answered all dialogues.
    """
    dialogues = read_dialogues(test)
    replies = _replies(dialogues, folder)
    items = [
        ToRate(dialogue.prompt(), [rows[place]["text"] for rows in replies.values()])
        for place, dialogue in enumerate(dialogues)
    ]
    rater = SheetRater(sheet, certificate=())
    rater.prepare(items)
    ratings = np.array(rater.rate_many(items)).T
    return {
        name: Arm(
            name,
            of_arm,
            np.array([well_formed(row, said.utterance) for row, said in zip(rows, dialogues, strict=True)]),
            np.array([len(row["text"].split()) for row in rows], dtype=float),
        )
        for (name, rows), of_arm in zip(replies.items(), ratings, strict=True)
    }


def arms_of(folder: Path) -> list[str]:
    """The names of the models whose responses are in the folder."""
    return sorted(file.stem for file in folder.glob("*.jsonl"))


def _replies(dialogues: list[Dialogue], folder: Path) -> dict[str, list[dict[str, str]]]:
    """Arm → rows with text and finish_reason, in the order of the dialogues."""
    found = {}
    for file in sorted(folder.glob("*.jsonl")):
        refuse_name(file.stem)
        rows = read_responses(file)
        missing = [item.id for item in dialogues if item.id not in rows]
        if missing:
            raise EmpathyEdgeError(
                f"{file}: has no response to {len(missing)} dialogues; run `answer` again."
            )
        found[file.stem] = [{"finish_reason": "stop", **rows[item.id]} for item in dialogues]
    people = known_responses(dialogues, HUMAN)
    if people is None:
        raise EmpathyEdgeError("A dialogue has no response by a person.")
    found[HUMAN] = [{"text": row["text"], "finish_reason": "stop"} for row in people]
    shift = len(dialogues) // 2  # far away: they stand in the order of emotions
    if not shift:
        raise EmpathyEdgeError("With one dialogue there is no response to another prompt to compare with.")
    found[MISPLACED] = found[HUMAN][shift:] + found[HUMAN][:shift]
    return found


def compare(first: Arm, second: Arm) -> Compared:
    """The first arm's win rate against the second."""
    points = (first.ratings > second.ratings) + (first.ratings == second.ratings) / 2
    both = first.well_formed & second.well_formed
    adjusted = length_figures(points, first.words - second.words)["length_adjusted"]
    equal_length = None
    if adjusted:
        equal_length = Interval(adjusted["mean"], adjusted["low"], adjusted["high"], np.nan)
    return Compared(
        first.name,
        second.name,
        win_rate=score_interval(points),
        ties=float((points == 0.5).mean()),
        both_well_formed=score_interval(points[both]),
        prompts_well_formed=int(both.sum()),
        equal_length=equal_length,
    )


def table_of_arms(arms: Mapping[str, Arm]) -> str:
    """A Markdown table: how each arm is rated."""
    lines = ["| arm | mean rating [95 %] | well-formed | median words |", "|---|---|---|---|"]
    for arm in sorted(arms.values(), key=lambda arm: -arm.ratings.mean()):
        mean = score_interval(arm.ratings / 100)
        lines.append(
            f"| {arm.name} | {100 * mean.mean:.1f} [{100 * mean.low:.1f}, {100 * mean.high:.1f}] "
            f"| {arm.well_formed.mean():.1%} | {np.median(arm.words):g} |"
        )
    return "\n".join(lines)


def table_of_pairs(compared: Sequence[Compared]) -> str:
    """A Markdown table: who wins how often against whom."""
    lines = [
        "| pair | win rate [95 %] | ties | at equal length | both well-formed |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {item.first} against {item.second} | {_share(item.win_rate)} | {item.ties:.0%} "
        f"| {_share(item.equal_length) if item.equal_length else 'cannot be told'} "
        f"| {_share(item.both_well_formed)} (n = {item.prompts_well_formed}) |"
        for item in compared
    ]
    return "\n".join(lines)


def refuse_name(arm: str) -> None:
    """Refuse the names of the arms that the dialogues themselves give."""
    if arm in (HUMAN, MISPLACED):
        raise EmpathyEdgeError(f"{arm}: is the name of what people replied; give the model another name.")


def _share(interval: Interval) -> str:
    if np.isnan(interval.mean):
        return "–"
    return f"{interval.mean:.1%} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
