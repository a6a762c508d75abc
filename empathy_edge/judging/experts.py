"""Exchanges that experts rated, as pairs for a judge: does it order them as the experts did?

Each exchange is of another person, so a pair shows both replies with what was said. The experts take the same
test: each against the mean of the others. The annotations are those of Kumar et al. (arXiv 2506.10150).
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue
from empathy_edge.judging.questions import RATED_BY_EXPERTS
from empathy_edge.judging.response_pairs import ResponsePairs

MIN_DIFFERENCE = 1.0
"""The mean levels of two exchanges must differ by at least this to be a pair."""

DIMENSIONS = {question: f"level_{question.replace('-', '_')}" for question in RATED_BY_EXPERTS}
"""A judge's question → the experts' column (EPITOME's three mechanisms, levels 0 to 2)."""

_SITUATION = (
    "Two different people each tell of something, and each gets a reply; both are quoted with the reply."
)

Levels = dict[str, dict[str, float]]
"""Question → expert → level."""


@dataclass(frozen=True)
class Exchange:
    """What someone said, what was replied, and each expert's level on each dimension."""

    id: str
    said: str
    reply: str
    levels: Levels


def read_experts(folder: Path) -> list[Exchange]:
    """Read the annotations' repository.

    Its files are `original_data/sample_epitome.csv` and `annotations/epitome/expert*_ratings.csv`.

    Raises:
        EmpathyEdgeError: a file or a column is missing, or there are fewer than two experts.
    """
    texts = _read_rows(
        folder / "original_data" / "sample_epitome.csv", ["sp_id", "seeker_post", "response_post"]
    )
    files = sorted((folder / "annotations" / "epitome").glob("expert*_ratings.csv"))
    if len(files) < 2:
        raise EmpathyEdgeError(
            f"{folder}: needs annotations/epitome/expert1_ratings.csv and at least one more expert."
        )
    levels: dict[str, Levels] = {}
    for file in files:
        for row in _read_rows(file, ["sp_id", *DIMENSIONS.values()]):
            for question, level in _levels_in(row).items():
                levels.setdefault(row["sp_id"], {}).setdefault(question, {})[file.stem] = level
    return [
        Exchange(row["sp_id"], row["seeker_post"], row["response_post"], levels[row["sp_id"]])
        for row in texts
        if row["sp_id"] in levels
    ]


def _levels_in(row: Mapping[str, str]) -> dict[str, float]:
    """Question → the level that the expert gave; a question that was left empty is not there."""
    return {question: float(row[column]) for question, column in DIMENSIONS.items() if row[column]}


def _read_rows(file: Path, columns: list[str]) -> list[dict[str, str]]:
    try:
        with open(file, encoding="utf-8-sig", newline="") as handle:
            table = csv.DictReader(handle)
            missing = [name for name in columns if name not in (table.fieldnames or [])]
            if missing:
                raise EmpathyEdgeError(f"{file}: has no column {', '.join(missing)}.")
            return list(table)
    except (OSError, UnicodeDecodeError) as error:
        raise EmpathyEdgeError(f"{file}: cannot be read: {error}.") from None


def pairs_of(exchanges: list[Exchange], question: str, max_pairs: int, seed: int) -> ResponsePairs:
    """At most `max_pairs` pairs of exchanges whose mean levels differ, the higher level first."""
    ordered = []
    for one, other in combinations(exchanges, 2):
        lead = mean(one.levels[question].values()) - mean(other.levels[question].values())
        if abs(lead) >= MIN_DIFFERENCE:
            ordered.append((one, other) if lead > 0 else (other, one))
    chosen = random.Random(seed).sample(ordered, min(max_pairs, len(ordered)))
    dialogues, better, worse, members = [], {}, {}, {}
    for higher, lower in chosen:
        name = f"{higher.id}~{lower.id}"
        dialogues.append(Dialogue(name, "", _SITUATION, "(see the replies)", (), "test"))
        better[name] = {"text": _quoted(higher)}
        worse[name] = {"text": _quoted(lower)}
        members[name] = (higher.id, lower.id)
    return ResponsePairs(dialogues, better, worse, members)


def _quoted(exchange: Exchange) -> str:
    return f'to someone who said "{exchange.said}": {exchange.reply}'


def experts_agreement(exchanges: list[Exchange], question: str) -> dict[str, float]:
    """Expert → the share of pairs ordered as the others' mean orders them; an equal level counts half."""
    experts = sorted(set[str]().union(*(item.levels[question] for item in exchanges)))
    found = {}
    for expert in experts:
        points = list(_points_of(expert, exchanges, question))
        found[expert.removesuffix("_ratings")] = round(mean(points), 4) if points else float("nan")
    return found


def _points_of(expert: str, exchanges: list[Exchange], question: str) -> Iterator[float]:
    """1 for each pair that the expert orders as the others' mean does, 0.5 for an equal level, else 0."""
    rated = [item.levels[question] for item in exchanges if expert in item.levels[question]]
    for one, other in combinations(rated, 2):
        lead_of_others = _mean_without(expert, one) - _mean_without(expert, other)
        if abs(lead_of_others) < MIN_DIFFERENCE:
            continue
        lead = one[expert] - other[expert]
        if lead == 0:
            yield 0.5
        else:
            yield 1.0 if (lead > 0) == (lead_of_others > 0) else 0.0


def _mean_without(expert: str, levels: Mapping[str, float]) -> float:
    return mean(level for name, level in levels.items() if name != expert)
