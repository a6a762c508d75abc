"""A judge beside experts: exchanges that experts told apart on one dimension are shown in pairs; who orders them as they did?

Each exchange is another person's, so a pair shows both with what was said. The experts themselves are held to the same test:
each against the mean of the others (Kumar et al., arXiv 2506.10150, whose annotations this reads).
"""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue

APART = 1.0
"""How far two exchanges' mean levels must lie apart to be a pair."""

DIMENSIONS = {
    "emotional-reactions": "level_emotional_reactions",
    "interpretations": "level_interpretations",
    "explorations": "level_explorations",
}
"""A judge's question → the experts' column (EPITOME's three mechanisms, levels 0 to 2)."""

_SITUATION = (
    "Two different people each tell of something, and each gets a reply; both are quoted with the reply."
)


@dataclass(frozen=True)
class Exchange:
    """What someone said, what was replied, and each expert's level on each dimension."""

    id: str
    said: str
    reply: str
    levels: dict[str, dict[str, float]]


def read_experts(folder: Path) -> list[Exchange]:
    """`original_data/sample_epitome.csv` and `annotations/epitome/expert*_ratings.csv` of the annotations' repository.

    Raises:
        EmpathyEdgeError: a file or a column is missing, or there are fewer than two experts.
    """
    texts = _rows(folder / "original_data" / "sample_epitome.csv", ["sp_id", "seeker_post", "response_post"])
    files = sorted((folder / "annotations" / "epitome").glob("expert*_ratings.csv"))
    if len(files) < 2:
        raise EmpathyEdgeError(
            f"{folder}: needs annotations/epitome/expert1_ratings.csv and at least one more expert."
        )
    rated: dict[str, dict[str, dict[str, float]]] = {}
    for file in files:
        for row in _rows(file, ["sp_id", *DIMENSIONS.values()]):
            for question, column in DIMENSIONS.items():
                if row[column]:
                    rated.setdefault(row["sp_id"], {}).setdefault(question, {})[file.stem] = float(
                        row[column]
                    )
    return [
        Exchange(row["sp_id"], row["seeker_post"], row["response_post"], rated[row["sp_id"]])
        for row in texts
        if row["sp_id"] in rated
    ]


def _rows(file: Path, columns: list[str]) -> list[dict[str, str]]:
    try:
        with open(file, encoding="utf-8-sig", newline="") as handle:
            table = csv.DictReader(handle)
            missing = [name for name in columns if name not in (table.fieldnames or [])]
            if missing:
                raise EmpathyEdgeError(f"{file}: has no column {', '.join(missing)}.")
            return list(table)
    except (OSError, UnicodeDecodeError) as error:
        raise EmpathyEdgeError(f"{file}: cannot be read: {error}.") from None


def pairs_of(
    exchanges: list[Exchange], question: str, most: int, seed: int
) -> tuple[list[Dialogue], dict[str, Any], dict[str, Any]]:
    """Pairs whose mean levels lie apart, as `compare.ask` takes them: dialogues, and by id the better and the worse text."""
    told_apart = []
    for a, b in combinations(exchanges, 2):
        lead = mean(a.levels[question].values()) - mean(b.levels[question].values())
        if abs(lead) >= APART:
            told_apart.append((a, b) if lead > 0 else (b, a))
    chosen = random.Random(seed).sample(told_apart, min(most, len(told_apart)))
    dialogues = [
        Dialogue(f"{a.id}~{b.id}", "", _SITUATION, "(see the replies)", (), "test") for a, b in chosen
    ]
    texts = [[f'to someone who said "{item.said}": {item.reply}' for item in pair] for pair in chosen]
    better = {item.id: {"text": text[0]} for item, text in zip(dialogues, texts, strict=True)}
    worse = {item.id: {"text": text[1]} for item, text in zip(dialogues, texts, strict=True)}
    return dialogues, better, worse


def experts_own(exchanges: list[Exchange], question: str) -> dict[str, float]:
    """Each expert's share of pairs ordered as the others' mean orders them; an equal level counts half."""
    names = sorted({name for item in exchanges for name in item.levels[question]})
    found = {}
    for name in names:
        points = []
        for a, b in combinations([item for item in exchanges if name in item.levels[question]], 2):
            others = [
                mean(level for who, level in item.levels[question].items() if who != name) for item in (a, b)
            ]
            if abs(others[0] - others[1]) >= APART:
                mine = a.levels[question][name] - b.levels[question][name]
                points.append(0.5 if mine == 0 else float((mine > 0) == (others[0] > others[1])))
        found[name.removesuffix("_ratings")] = round(mean(points), 4) if points else float("nan")
    return found
