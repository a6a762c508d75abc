"""Single fields of a row of data, checked; every error names the file, the row and the field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue_record import RATINGS, Split

ID_FIELDS = ("id", "dialog_id", "custom_id")

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
        return EmpathyEdgeError(f"{self.where}: {what}")

    def at(self, place: str) -> Row:
        """The same row, with a part of it named in errors."""
        return Row(self.number, f"{self.where}: {place}", self.values)

    def of(self, values: Any, place: str) -> Row:
        """An object inside the row as a row of its own."""
        if not isinstance(values, dict):
            raise self.wrong(f"{place} is not a JSON object.")
        return Row(self.number, f"{self.where}: {place}", values)

    def has(self, *fields: str) -> bool:
        """Whether all these fields are there and not empty."""
        return all(self.values.get(field) not in (None, "", []) for field in fields)

    def text(self, field: str) -> str:
        """A text that must be there."""
        value = self.values.get(field)
        if value is None or (isinstance(value, str) and not value.strip()):
            raise self.wrong(f"'{field}' is missing or empty.")
        if not isinstance(value, str):
            raise self.wrong(f"'{field}' is {shown(value)}; it must be a text.")
        return value.strip()

    def optional_text(self, field: str) -> str:
        """A text that may be missing; a number, as of a class, is taken as a text."""
        value = self.values.get(field)
        if value is None:
            return ""
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
        value = self.values.get("split")
        if value in (None, "", "train"):
            return "train"
        if value != "test":
            raise self.wrong(f"'split' is {shown(value)}; it must be 'train' or 'test'.")
        return "test"

    def rating(self, field: str) -> int | None:
        """A rating, if there is one."""
        value = self.values.get(field)
        if value is None or value == "":
            return None
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = -1.0
        if number not in RATINGS:
            raise self.wrong(f"'{field}' is {shown(value)}; a rating is 1, 2 or 3.")
        return int(number)


def shown(value: object) -> str:
    """A wrong value, shortened for an error."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
