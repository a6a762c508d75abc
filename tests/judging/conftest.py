"""Fixtures of these tests: rated responses whose words decide their rating."""

import csv
import random
from pathlib import Path

import pytest

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
