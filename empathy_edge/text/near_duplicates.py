"""Is a test dialogue among the rows that a model is trained on? Compared by id and by words."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from empathy_edge.data import check_prompts
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import iterate_jsonl
from empathy_edge.prompts import load_prompts
from empathy_edge.text.rules import plain_quotes

MIN_JACCARD = 0.7
"""Two texts are near duplicates when the Jaccard index of their shingles is at least this."""

Shingle = tuple[str, ...]
Shingles = frozenset[Shingle]

BUCKETS = 1 << 20
"""Counters of shingles. Two shingles may share one: then a shingle seems more frequent than it is."""

FIRST_RECOUNT = 64
"""After so many texts the shingles are counted, and again whenever there are twice as many texts."""


def shingles(text: str) -> Shingles:
    """A text's runs of three consecutive words, in lower case; a shorter text is one run.

    Both kinds of apostrophes are one.
    """
    words = re.findall(r"[\w']+", plain_quotes(text).lower())
    return frozenset(tuple(words[start : start + 3]) for start in range(max(1, len(words) - 2)))


class NearDuplicates:
    """Texts to compare others with, by the exact Jaccard index.

    Two sets with an index of at least `MIN_JACCARD` share one of their rarest shingles (prefix filtering:
    Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007). So only the rarest shingles of each text
    are looked up, which few other texts have, and the time grows with the number of texts, not its square. A
    shingle is held as its 64-bit hash.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._texts: list[array[int]] = []
        self._texts_with: dict[int, int | list[int]] = {}
        self._counts = array("I", bytes(4 * BUCKETS))
        self._next_recount = FIRST_RECOUNT
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Add a text."""
        found = array("q", _hashes(text))
        self._texts.append(found)
        if len(self._texts) < self._next_recount:
            self._enter(len(self._texts) - 1, found)
        else:
            self._next_recount *= 2
            self._count_again()

    def has(self, text: str) -> bool:
        """Whether a near duplicate of the text was added."""
        found = _hashes(text)
        candidates: set[int] = set()
        for shingle in self._rarest(found):
            numbers = self._texts_with.get(shingle, ())
            candidates.update((numbers,) if isinstance(numbers, int) else numbers)
        return any(self._is_near(found, self._texts[number]) for number in candidates)

    def _is_near(self, found: set[int], other: array[int]) -> bool:
        shared = sum(shingle in found for shingle in other)
        return shared / (len(found) + len(other) - shared) >= MIN_JACCARD

    def _rarest(self, found: Collection[int]) -> list[int]:
        """The shingles of which every near duplicate has at least one."""
        needed = math.ceil(MIN_JACCARD * len(found) - 1e-9)
        counts, last = self._counts, BUCKETS - 1
        in_order = sorted(found, key=lambda shingle: (counts[shingle & last], shingle))
        return in_order[: len(found) - needed + 1]

    def _enter(self, number: int, found: array[int]) -> None:
        for shingle in self._rarest(found):
            others = self._texts_with.get(shingle)
            if others is None:
                self._texts_with[shingle] = number
            elif isinstance(others, int):
                self._texts_with[shingle] = [others, number]
            else:
                others.append(number)

    def _count_again(self) -> None:
        """Learn which shingles are rare, and enter every text by its rarest ones."""
        self._counts = array("I", bytes(4 * BUCKETS))
        for found in self._texts:
            for shingle in found:
                self._counts[shingle & (BUCKETS - 1)] += 1
        self._texts_with = {}
        for number, found in enumerate(self._texts):
            self._enter(number, found)


def _hashes(text: str) -> set[int]:
    return {hash(shingle) for shingle in shingles(text)}


class KeptForTests:
    """Dialogues (id, utterance) that no model may be trained on."""

    def __init__(self, test: Iterable[tuple[str, str]] = ()) -> None:
        self._ids: set[str] = set()
        self._utterances = NearDuplicates()
        for identifier, utterance in test:
            self.add(identifier, utterance)

    def add(self, identifier: str, utterance: str) -> None:
        """Add a dialogue."""
        self._ids.add(identifier)
        self._utterances.add(utterance)

    def has(self, identifier: str, utterance: str) -> bool:
        """Whether a dialogue is one of them, by its id or as a near duplicate."""
        return identifier in self._ids or self._utterances.has(utterance)


def leaked_ids(rows: Iterable[tuple[str, str]], test: Iterable[tuple[str, str]]) -> list[str]:
    """The ids of those `rows` (id, utterance) that are in `test` as well, by id or as near duplicates."""
    kept = KeptForTests(test)
    return [identifier for identifier, utterance in rows if kept.has(identifier, utterance)]


def of_safety_prompts() -> NearDuplicates:
    """What people say in the safety prompts of `release`."""
    return NearDuplicates(load_prompts("safety").texts.values())


def refuse_leaks(rows: Path, folders: Sequence[Path] = ()) -> None:
    """Refuse a training file that has test dialogues, or prompts of `check` or of `release`.

    Args:
        rows: the training file.
        folders: the dialogues of a `test.jsonl` in one of them, or beside `rows`, are test dialogues.

    Raises:
        EmpathyEdgeError: names how many, and the first.
    """
    kept: dict[str, Callable[[str, str], bool]] = {}
    for folder in dict.fromkeys([rows.parent, *folders]):
        test_file = folder / "test.jsonl"
        if test_file.is_file():
            test = [(row["id"], row["utterance"]) for row in iterate_jsonl(test_file)]
            what = f"test dialogues of {test_file}"
            if folder == rows.parent:
                kept[what] = KeptForTests(test).has
            else:  # other data may have the same ids, as row-1
                kept[what] = partial(_is_near, NearDuplicates(utterance for _, utterance in test))
    of_check = NearDuplicates(row["messages"][-1]["content"] for row in iterate_jsonl(check_prompts()))
    of_safety = of_safety_prompts()
    kept["prompts of `empathy-edge check`"] = lambda _, utterance: of_check.has(utterance)
    kept["safety prompts of `empathy-edge release`"] = lambda _, utterance: of_safety.has(utterance)
    leaked: dict[str, list[str]] = {what: [] for what in kept}
    for name, utterance in _training(rows):
        for what, has in kept.items():
            if has(name, utterance):
                leaked[what].append(name)
    for what, names in leaked.items():
        _refuse(rows, names, what)


def _is_near(others: NearDuplicates, _: str, utterance: str) -> bool:
    return others.has(utterance)


def _training(rows: Path) -> Iterator[tuple[str, str]]:
    """Id and last utterance of each row; what is wrong with a row is said where rows are checked."""
    for row in iterate_jsonl(rows):
        if isinstance(row, dict):
            yield str(row.get("id", "")), _last_utterance(row)


def _refuse(rows: Path, leaked: list[str], what: str) -> None:
    if leaked:
        raise EmpathyEdgeError(
            f"{rows}: {len(leaked)} rows are {what} (first: {leaked[0]}).\n"
            "  Remove them from the training file, or figures on what the model has learned mean nothing."
        )


def _last_utterance(row: dict[str, Any]) -> str:
    """What the person said last; empty for a row that is wrong."""
    prompt = row.get("prompt")
    for message in reversed(prompt if isinstance(prompt, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            return str(message.get("content", ""))
    return ""
