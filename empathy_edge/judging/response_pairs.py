"""Responses to compare: what two arms answered to the same dialogues."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue
from empathy_edge.formats.json_lines import iterate_jsonl

Responses = Mapping[str, Mapping[str, Any]]
"""Dialogue id → the response's row: `text`, and what else is known (`finish_reason`, `source`)."""


@dataclass(frozen=True)
class ResponsePairs:
    """Two responses to each of some dialogues.

    Attributes:
        dialogues: what was responded to.
        first: the first arm's responses by dialogue id; when a judge is tested, those that people rated
        better.
        second: the second arm's; when a judge is tested, those that people rated worse.
        members: by dialogue id the two replies of the pair, where one reply is in several pairs; such pairs
            are not independent.
    """

    dialogues: list[Dialogue]
    first: Responses
    second: Responses
    members: Mapping[str, tuple[str, str]] | None = None

    def __len__(self) -> int:
        return len(self.dialogues)

    def only(self, ids: Container[str]) -> ResponsePairs:
        """The pairs of these dialogues."""
        return replace(self, dialogues=[item for item in self.dialogues if item.id in ids])

    def words_ahead(self) -> np.ndarray:
        """By how many words each first response is the longer one, float64 [dialogues]."""
        return words_ahead_of([item.id for item in self.dialogues], self.first, self.second)


def words_ahead_of(ids: Iterable[str], first: Responses, second: Responses) -> np.ndarray:
    """By how many words each response of `first` is longer than that of `second`, float64 [ids]."""
    leads = [len(first[name]["text"].split()) - len(second[name]["text"].split()) for name in ids]
    return np.array(leads, dtype=float)


def read_responses(file: Path) -> dict[str, dict[str, Any]]:
    """A file of responses by dialogue id; each row needs `id` and `text`.

    Raises:
        EmpathyEdgeError: a row lacks a field, a dialogue has two responses, or the rows are from several
            models (`respond` writes into each row which model it is from).
    """
    return {row["id"]: row for row in iterate_responses(file)}


def iterate_responses(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of responses one after the other; errors as of `read_responses`."""
    seen: set[str] = set()
    models: set[str | None] = set()
    for number, row in enumerate(iterate_jsonl(file), 1):
        fields = (row.get("id"), row.get("text")) if isinstance(row, dict) else (None,)
        if not all(isinstance(value, str) for value in fields):
            raise EmpathyEdgeError(f"{file}: row {number}: needs 'id' and 'text'.")
        if row["id"] in seen:
            raise EmpathyEdgeError(f"{file}: row {number}: a second response to the dialogue '{row['id']}'.")
        seen.add(row["id"])
        models.add(row.get("model"))
        if len(models) > 1:
            raise EmpathyEdgeError(
                f"{file}: row {number} is of another model, or made with other settings, than the rows "
                "before it. Give one file for each model."
            )
        yield row


def model_of(responses: Responses) -> str | None:
    """The identity of the model that gave them; None where the file does not say."""
    return next((row.get("model") for row in responses.values()), None)
