"""Is a test dialogue among the rows that a model is trained on? Compared by id and by words."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from empathy_edge.data import check_prompts
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import read_jsonl

MIN_JACCARD = 0.7
"""Two texts are near duplicates when the Jaccard index of their shingles is at least this."""

Shingle = tuple[str, ...]
Shingles = frozenset[Shingle]


def shingles(text: str) -> Shingles:
    """A text's runs of three consecutive words, in lower case; a shorter text is one run."""
    words = re.findall(r"[\w']+", text.lower())
    return frozenset(tuple(words[start : start + 3]) for start in range(max(1, len(words) - 2)))


class NearDuplicates:
    """Texts to compare others with (exact Jaccard index, by an inverted index from shingles to texts)."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._texts: list[Shingles] = []
        self._texts_with: dict[Shingle, list[int]] = defaultdict(list)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Add a text."""
        found = shingles(text)
        for shingle in found:
            self._texts_with[shingle].append(len(self._texts))
        self._texts.append(found)

    def has(self, text: str) -> bool:
        """Whether a near duplicate of the text was added."""
        found = shingles(text)
        shared: Counter[int] = Counter()
        for shingle in found:
            shared.update(self._texts_with.get(shingle, ()))
        for number, count in shared.items():
            if count / len(found | self._texts[number]) >= MIN_JACCARD:
                return True
        return False


def leaked_ids(rows: Iterable[tuple[str, str]], test: Iterable[tuple[str, str]]) -> list[str]:
    """The ids of those `rows` (id, utterance) that are in `test` as well, by id or as near duplicates."""
    test = list(test)
    test_ids = {identifier for identifier, _ in test}
    test_utterances = NearDuplicates(utterance for _, utterance in test)
    return [
        identifier
        for identifier, utterance in rows
        if identifier in test_ids or test_utterances.has(utterance)
    ]


def refuse_leaks(rows: Path) -> None:
    """Refuse a training file that has dialogues of the `test.jsonl` in its folder, or prompts of `check`.

    Raises:
        EmpathyEdgeError: names how many, and the first.
    """
    training = [(str(row.get("id", "")), _last_utterance(row)) for row in read_jsonl(rows)]
    test_file = rows.parent / "test.jsonl"
    if test_file.is_file():
        test = [(row["id"], row["utterance"]) for row in read_jsonl(test_file)]
        _refuse(rows, leaked_ids(training, test), f"test dialogues of {test_file.name}")
    prompts = NearDuplicates(row["messages"][-1]["content"] for row in read_jsonl(check_prompts()))
    found = [identifier for identifier, utterance in training if prompts.has(utterance)]
    _refuse(rows, found, "prompts of `empathy-edge check`")


def _refuse(rows: Path, leaked: list[str], what: str) -> None:
    if leaked:
        raise EmpathyEdgeError(
            f"{rows}: {len(leaked)} rows are {what} (first: {leaked[0]}).\n"
            "  Remove them from the training file, or figures on what the model has learned mean nothing."
        )


def _last_utterance(row: dict[str, Any]) -> str:
    """What the person said last; empty for a row that is wrong, which is said where rows are checked."""
    prompt = row.get("prompt")
    for message in reversed(prompt if isinstance(prompt, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            return str(message.get("content", ""))
    return ""
