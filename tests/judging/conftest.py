"""Fixtures of these tests: rated responses whose words decide their rating."""

import csv
import random
from pathlib import Path

import pytest

from tests.conftest import dialogue_row, write_rows

COMPARED = 120
"""Prompts of the arms."""

WARM = [
    "that",
    "must",
    "be",
    "so",
    "hard",
    "and",
    "I",
    "understand",
    "how",
    "you",
    "feel",
    "it",
    "sounds",
    "lovely",
]
COLD = ["calm", "down", "whatever", "it", "was", "your", "fault", "get", "over", "it", "and", "stop"]


@pytest.fixture(scope="session")
def rated_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 dialogues, each with a warm, a mixed and a cold response, rated so for the most part."""
    chance = random.Random(0)
    file = tmp_path_factory.mktemp("rated") / "rated.csv"
    with open(file, "w", newline="", encoding="utf-8") as handle:
        sources = ("a", "b", "c")
        fields = ["dialog_id", "situation", "speaker_uttr"]
        fields += [f"response_{name}" for name in sources] + [f"rating_{name}" for name in sources]
        writer = csv.DictWriter(handle, fields)
        writer.writeheader()
        for number in range(60):
            row = {
                "dialog_id": f"d{number}",
                "situation": f"I lost number {number}",
                "speaker_uttr": "I lost it.",
            }
            for name in sources:
                rating = chance.choice((1, 2, 3))
                words = chance.choices(WARM, k=4 * rating) + chance.choices(COLD, k=4 * (3 - rating))
                row |= {f"response_{name}": " ".join(words), f"rating_{name}": rating}
            writer.writerow(row)
    return file


@pytest.fixture(scope="session")
def arms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Two arms' responses of random lengths; 'good' is in the better one, in two of three the first arm's."""
    folder = tmp_path_factory.mktemp("arms")
    chance = random.Random(0)
    rows: list[list[dict[str, str]]] = [[], []]
    for number in range(COMPARED):
        texts = [f"reply {number} " + "word " * chance.randint(1, 30) for _ in range(2)]
        texts[number % 3 == 0] += "good"
        for side, text in zip(rows, texts, strict=True):
            side.append({"id": f"d{number}", "text": text.strip(), "finish_reason": "stop"})
    said = [dialogue_row(id=f"d{n}", utterance=f"Thing {n} happened.", split="test") for n in range(COMPARED)]
    files = [write_rows(folder / f"{name}.jsonl", *side) for name, side in zip(("a", "b"), rows, strict=True)]
    return files[0], files[1], write_rows(folder / "dialogues.jsonl", *said)
