"""Is a test dialogue among the rows that a model is trained on? By id, and by nearly the same words."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import read_jsonl

SAME = 0.7
"""The Jaccard index of two texts' three-word runs from which on they count as nearly the same."""

Shingles = frozenset[tuple[str, ...]]


def shingles(text: str) -> Shingles:
    """A text's runs of three words; a shorter text is one run."""
    words = re.findall(r"[\w']+", text.lower())
    return frozenset(tuple(words[place : place + 3]) for place in range(max(1, len(words) - 2)))


class NearDuplicates:
    """Texts seen so far, found again by nearly the same words (exact Jaccard, by an inverted index)."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._texts: list[Shingles] = []
        self._places: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Remember a text."""
        runs = shingles(text)
        for run in runs:
            self._places[run].append(len(self._texts))
        self._texts.append(runs)

    def has(self, text: str) -> bool:
        """Whether a text that was added is nearly the same."""
        runs = shingles(text)
        shared: Counter[int] = Counter()
        for run in runs:
            shared.update(self._places.get(run, ()))
        return any(count / len(runs | self._texts[place]) >= SAME for place, count in shared.items())


def leaked_ids(rows: Iterable[tuple[str, str]], test: Iterable[tuple[str, str]]) -> list[str]:
    """The ids of those (id, utterance) of `rows` that are in `test` as well."""
    kept = list(test)
    ids, words = {identifier for identifier, _ in kept}, NearDuplicates(text for _, text in kept)
    return [identifier for identifier, text in rows if identifier in ids or words.has(text)]


def refuse_leaks(rows: Path) -> None:
    """Refuse a training file (`sft.jsonl`, `preference.jsonl`) that has dialogues of the `test.jsonl` beside it.

    Raises:
        EmpathyEdgeError: names how many, and the first.
    """
    test = rows.parent / "test.jsonl"
    if not test.is_file():
        return
    kept = [(row["id"], row["utterance"]) for row in read_jsonl(test)]
    leaked = leaked_ids(((str(row.get("id", "")), _last_said(row)) for row in read_jsonl(rows)), kept)
    if leaked:
        raise EmpathyEdgeError(
            f"{rows}: {len(leaked)} rows are test dialogues of {test.name} (first: {leaked[0]}).\n"
            "  Remove them from the training file, or the figures on the test split mean nothing."
        )


def _last_said(row: dict[str, Any]) -> str:
    return next((item["content"] for item in reversed(row["prompt"]) if item["role"] == "user"), "")
