"""Read dialogues from a file in any form that is known; what the forms are is in `data_forms`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError, did_you_mean
from empathy_edge.formats.data_forms import Found, dialogues_of, may_repeat_ids
from empathy_edge.formats.data_rows import open_rows
from empathy_edge.formats.dialogue_record import (
    Dialogue,
    PreferencePair,
    Response,
    Split,
    paper_split,
)
from empathy_edge.formats.row_fields import Row, printable

__all__ = (
    "Dialogue", "DialogueStream", "PreferencePair", "Response", "Split", "paper_split", "read_data",
    "read_dialogues",
)  # fmt: skip

TEST_FILE = re.compile(r"(?<![a-z])test(?![a-z])")
"""The names of files that hold the test split of a published set."""

Columns = Mapping[str, str]
"""Field → the column or key of the user's file that holds it."""


@dataclass(frozen=True)
class DataFile:
    """What is in a file of data.

    Attributes:
        container: JSON Lines, CSV, …, in words.
        forms: name of the form → how many dialogues have it.
        rows: how many the file has.
        dialogues: in their order.
    """

    container: str
    forms: Counter[str]
    rows: int
    dialogues: list[Dialogue]


class DialogueStream:
    """The dialogues of a file, one after the other: a large file is never in memory as a whole.

    Attributes:
        container: JSON Lines, CSV, …, in words.
        forms: name of the form → how many of the dialogues so far have it.
    """

    def __init__(self, path: Path, columns: Columns | None = None) -> None:
        """Open the file; arguments and errors are those of `read_data`, of a row when it is reached."""
        opened = open_rows(path, list((columns or {}).values()))
        self.container = opened.container
        self.forms: Counter[str] = Counter()
        self._path = path
        self._rows = _Counted(opened.rows, columns or {})

    @property
    def rows(self) -> int:
        """How many rows were read so far."""
        return self._rows.count

    def __iter__(self) -> Iterator[Dialogue]:
        split: Split = "test" if TEST_FILE.search(self._path.name.lower()) else "train"
        used: dict[str, int] = {}
        for found in dialogues_of(self._rows, split):
            dialogue = _with_own_id(self._path, found, used)
            used[dialogue.id] = found.row.number
            self.forms[found.form] += 1
            yield dialogue
        if not used:
            raise EmpathyEdgeError(f"{self._path}: a header but no dialogue; it needs at least one row.")


def read_dialogues(path: Path) -> list[Dialogue]:
    """The dialogues of a file: JSON Lines, JSON, CSV, Parquet or text, also gzipped, in any known form.

    Raises:
        EmpathyEdgeError: the file is missing, empty or not UTF-8, or a row is wrong; names the row and field.
    """
    return list(DialogueStream(path))


def read_data(path: Path, columns: Columns | None = None) -> DataFile:
    """As `read_dialogues`, with what the file was recognised as.

    Args:
        path: the file.
        columns: what the fields are called in it, where it has names of its own.

    Raises:
        EmpathyEdgeError: as `read_dialogues`, or a column is not there; names those that are.
    """
    opened = DialogueStream(path, columns)
    dialogues = list(opened)
    return DataFile(opened.container, opened.forms, opened.rows, dialogues)


def _with_own_id(path: Path, found: Found, used: Mapping[str, int]) -> Dialogue:
    """The dialogue, with the row's number in its id where rows may share ids."""
    dialogue = found.dialogue
    if dialogue.id not in used:
        return dialogue
    if may_repeat_ids(found.form):
        name = f"{dialogue.id}-{found.row.number}"
        while name in used:
            name += f"-{found.row.number}"
        return replace(dialogue, id=name)
    raise EmpathyEdgeError(
        printable(
            f"{path}: row {found.row.number}: the dialogue id '{dialogue.id}' is already used "
            f"in row {used[dialogue.id]}. Give every dialogue its own id."
        )
    )


class _Counted:
    """Rows with the user's names replaced by ours; counts them."""

    def __init__(self, rows: Iterator[Row], columns: Columns) -> None:
        self._rows = rows
        self._columns = columns
        self.count = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.count += 1
            yield _renamed(row, self._columns, is_first=self.count == 1) if self._columns else row


def _renamed(row: Row, columns: Columns, *, is_first: bool) -> Row:
    missing = [column for column in columns.values() if column not in row.values]
    if missing and is_first:
        found = ", ".join(map(str, row.values))
        near = did_you_mean(missing[0], map(str, row.values))
        raise row.wrong(f"no column '{missing[0]}' (--map); found: {found}.{near}")
    values = {name: value for name, value in row.values.items() if name not in columns.values()}
    values |= {field: row.values.get(column) for field, column in columns.items()}
    return Row(row.number, row.where, values)
