"""Single fields of a row of data, checked; every error names the file, the row and the field."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue_record import RATINGS, Split

ID_FIELDS = ("id", "dialog_id", "custom_id")

FIELDS = frozenset(
    ("id", "emotion", "situation", "utterance", "split", "history", "response", "rating", "source",
     "responses", "messages", "conversations", "system", "instruction", "input", "output", "prompt",
     "completion", "label", "chosen", "rejected")
)  # fmt: skip
"""The fields of dialogues, which `--map` can name."""

MAX_SHOWN = 60
"""Characters of a wrong value in an error."""


@dataclass(frozen=True)
class Row:
    """One row of a file of data.

    Attributes:
        number: counted from 1; in a CSV file the header is row 1.
        where: file and row, as an error begins: `data.jsonl: row 3`.
        values: by field.
    """

    number: int
    where: str
    values: dict[str, Any]

    def wrong(self, what: str) -> EmpathyEdgeError:
        """An error about this row."""
        return EmpathyEdgeError(printable(f"{self.where}: {what}"))

    def at(self, place: str) -> Row:
        """The same row, with a part of it named in errors."""
        return Row(self.number, f"{self.where}: {place}", self.values)

    def of(self, values: Any, place: str) -> Row:
        """An object inside the row as a row of its own."""
        if not isinstance(values, dict):
            raise self.wrong(f"{place} is not a JSON object.")
        return Row(self.number, f"{self.where}: {place}", values)

    def value(self, field: str) -> Any:
        """What a field holds; None where it is not there, or NaN, as tables have it for nothing."""
        value = self.values.get(field)
        return None if isinstance(value, float) and math.isnan(value) else value

    def has(self, *fields: str) -> bool:
        """Whether all these fields are there and not empty."""
        return all(self.value(field) not in (None, "", []) for field in fields)

    def text(self, field: str) -> str:
        """A text that must be there."""
        value = self.value(field)
        if value is None or (isinstance(value, str) and not value.strip()):
            raise self.wrong(f"'{field}' is missing or empty.")
        if not isinstance(value, str):
            raise self.wrong(f"'{field}' is {shown(value)}; it must be a text.")
        return value.strip()

    def optional_text(self, field: str) -> str:
        """A text that may be missing; a number, as of a class, is taken as a text."""
        value = self.value(field)
        if value is None:
            return ""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise self.wrong(f"'{field}' is {shown(value)}; it must be a text.")
        return value.strip()

    def id(self) -> str:
        """The row's own id, or one made from its number."""
        for field in ID_FIELDS:
            if found := self.optional_text(field):
                return found
        return f"row-{self.number}"

    def split(self) -> Split:
        """`train` unless the row says `test`."""
        value = self.value("split")
        if value in (None, "", "train"):
            return "train"
        if value != "test":
            raise self.wrong(f"'split' is {shown(value)}; it must be 'train' or 'test'.")
        return "test"

    def rating(self, field: str) -> int | None:
        """A rating, if there is one."""
        value = self.value(field)
        if value is None or value == "":
            return None
        try:
            number = -1.0 if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = -1.0
        if number not in RATINGS:
            raise self.wrong(f"'{field}' is {shown(value)}; a rating is 1, 2 or 3.")
        return int(number)


def where_of(path: Path, number: int, line: int | None = None) -> str:
    """File and row, and the line where that is another number."""
    return f"{path}: row {number}" if line in (None, number) else f"{path}: row {number} (line {line})"


def printable(text: str) -> str:
    """A text without control characters, which could change what a terminal shows; line ends stay."""
    return "".join(character for character in text if character.isprintable() or character == "\n")


def shown(value: object) -> str:
    """A wrong value, shortened for an error."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
