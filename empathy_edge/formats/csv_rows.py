"""Tables opened into rows: CSV with any usual delimiter, and EmpatheticDialogues' CSV without quotes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.row_fields import FIELDS, Row, printable, where_of
from empathy_edge.formats.usual_names import name_both

MAX_FIELD = 1 << 20
"""Characters of a CSV field."""

DELIMITERS = ",;\t|"

KNOWN_COLUMNS = frozenset(
    ("utterance", "speaker_uttr", "text", "prompt", "instruction", "response", "completion", "situation")
)
"""A first line with one of these between delimiters is a header, whatever the file is called."""


@dataclass(frozen=True)
class Table:
    """A text that may be a table.

    Attributes:
        path: of its file.
        first_line: without the line feed.
        known_columns: names that the user gave.
        lines: gives its lines, which a carriage return ends, too; each time from the first one on.
        unquoted_lines: the same, but only a line feed ends a line.
    """

    path: Path
    first_line: str
    known_columns: Sequence[str]
    lines: Callable[[], Iterator[str]]
    unquoted_lines: Callable[[], Iterator[str]]


def delimiter_of(table: Table, name: str) -> str | None:
    """The delimiter between the columns; None for a file that is no table."""
    header = table.first_line.strip("\r")
    counts = {delimiter: header.count(delimiter) for delimiter in DELIMITERS}
    best = max(counts, key=lambda delimiter: counts[delimiter])
    if name.endswith((".csv", ".tsv")):
        return best if counts[best] else ("\t" if name.endswith(".tsv") else ",")
    known = table.known_columns
    names = {_column_name(column.strip().strip('"'), known) for column in header.split(best)}
    is_header = bool(names & {*KNOWN_COLUMNS, *known}) or name_both({name.lower() for name in names})
    is_table = is_header and (not name.endswith(".txt") or _has_two_alike(table, best))
    return best if is_table else None


def _has_two_alike(table: Table, delimiter: str) -> bool:
    """Whether the first two rows have the same number of columns, and more than one."""
    reader = csv.reader(table.lines(), delimiter=delimiter, strict=True)
    try:
        counts = [len(row) for row in islice(reader, 2)]
    except csv.Error:
        return False
    return len(counts) == 2 and counts[0] == counts[1] > 1


def _column_name(name: str, known_columns: Sequence[str]) -> str:
    """A column's name as its file has it, without spaces around it; `Prompt` is the field `prompt`."""
    if name in known_columns:
        return name
    name = name.strip()
    is_field = name not in known_columns and name.lower() in {*KNOWN_COLUMNS, *FIELDS}
    return name.lower() if is_field else name


def _column_names(path: Path, header: Sequence[str], known_columns: Sequence[str]) -> list[str]:
    """The columns' names; one that would be there twice keeps its capitals.

    Raises:
        EmpathyEdgeError: a name is there twice.
    """
    columns: list[str] = []
    for name in header:
        read = _column_name(name, known_columns)
        columns.append(read if name == read or read not in header else name.strip())
    for name in columns:
        if columns.count(name) > 1:
            raise EmpathyEdgeError(printable(f"{path}: the column '{name}' is there twice. Rename one."))
    return columns


def csv_rows(table: Table, delimiter: str) -> Iterator[Row]:
    """Rows by column; the header is row 1.

    Raises:
        EmpathyEdgeError: a column is there twice, or a row has more or fewer fields than columns.
    """
    path = table.path
    if table.first_line.strip().replace('"', "").startswith("conv_id,utterance_idx,"):
        yield from _unquoted_rows(table)
        return
    csv.field_size_limit(MAX_FIELD)
    reader = csv.reader(table.lines(), delimiter=delimiter, strict=True)
    try:
        columns = _column_names(path, next(reader, []), table.known_columns)
        number, line = 1, reader.line_num + 1
        for fields in reader:
            where_line, line = line, reader.line_num + 1
            if not fields:
                continue
            number += 1
            where = where_of(path, number, where_line)
            if len(fields) != len(columns):
                raise EmpathyEdgeError(f"{where}: {_wrong_count(fields, columns, delimiter)}")
            yield Row(number, where, dict(zip(columns, fields, strict=True)))
    except csv.Error as error:
        raise EmpathyEdgeError(
            f"{path}: row {max(1, reader.line_num)}: not readable as CSV ({error})."
        ) from None


def _wrong_count(fields: Sequence[str], columns: Sequence[str], delimiter: str) -> str:
    found = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
    counts = f"{found}, but {len(columns)} columns."
    if len(fields) < len(columns):
        return f"{counts} An empty field needs its '{delimiter}', too."
    return f"{counts} A text with '{delimiter}' in it must stand in quotes."


def _unquoted_rows(table: Table) -> Iterator[Row]:
    """EmpatheticDialogues' own CSV: no field is quoted, and quotation marks are text.

    Rows of its test and validation files have one field more than columns: other responses to choose from.
    """
    columns = table.first_line.strip().replace('"', "").split(",")
    for number, line in enumerate(table.unquoted_lines(), 1):
        if number == 1 or not line.strip():
            continue
        line = line.removesuffix("\n")
        fields = line.strip("\r").split(",")
        where = where_of(table.path, number)
        if len(fields) == len(columns) + 1 and _is_published(fields):
            fields.pop()
        elif len(fields) > len(columns):
            fields = _quoted(where, line)
        if not len(columns) - 2 <= len(fields) <= len(columns):
            raise EmpathyEdgeError(f"{where}: {len(fields)} fields, but {len(columns)} columns.")
        yield Row(number, where, dict(zip(columns, fields, strict=False)))


def _is_published(fields: Sequence[str]) -> bool:
    """Whether a row was split right: the numbers of turn and speaker, and a rating, are in their place.

    In a file that was saved again, with quotes, a comma of the text splits it elsewhere.
    """
    if len(fields) < 7:  # a damaged header has other columns
        return False
    return fields[1].isdigit() and fields[4].isdigit() and set(fields[6]) <= set("0123456789|_")


def _quoted(where: str, line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise EmpathyEdgeError(f"{where}: not readable as CSV ({error}).") from None
