"""Files of data opened into rows: JSON Lines, JSON, CSV, Parquet, plain lines, and gzip of any of them.

The content says what a file is; its suffix counts only where the content leaves it open. Rows are values;
nothing in a file is run or unpickled. JSON Lines, CSV, text and Parquet are read row by row, however large
they are; of JSON in another layout the whole text is held in memory.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError, no_such_file, require_extra
from empathy_edge.formats.csv_rows import Table, csv_rows, delimiter_of
from empathy_edge.formats.data_forms import has_a_form
from empathy_edge.formats.json_lines import whole_characters
from empathy_edge.formats.row_fields import Row, printable, where_of
from empathy_edge.formats.text_file import TextFile, most_bytes

PARQUET_BATCH = 64
"""Rows that are unpacked at once: what a few KB of Parquet hold may be gigabytes."""

LISTS_OF_A_ROW = ("messages", "conversations", "turns", "dialog", "responses", "history", "prompt", "chosen")
"""Lists of objects that belong to one row; a single list of another name holds the rows."""


@dataclass(frozen=True)
class Rows:
    """What a file is, in words, and its rows."""

    container: str
    rows: Iterator[Row]


def open_rows(path: Path, known_columns: Sequence[str] = ()) -> Rows:
    """Open a file of data.

    Args:
        path: the file.
        known_columns: names that the user gave: a first line with one of them is a header.

    Raises:
        EmpathyEdgeError: the file is missing, empty, no data, too large, not UTF-8, or a row cannot be read.
    """
    if path.is_dir():
        raise EmpathyEdgeError(f"{path}: is a folder; name a file in it.")
    if not path.is_file():
        raise no_such_file(
            path, "Give dialogues as JSON Lines, JSON, CSV, Parquet or text; or 'sample', 'written'."
        )
    file = TextFile(path)
    zipped = "gzip of " if file.is_gzip else ""
    if file.starts_with(b"PAR1"):
        return Rows(f"{zipped}Parquet", _parquet_rows(file))
    file.require_data()
    found = _text_rows(file, known_columns)
    return Rows(zipped + found.container, found.rows)


@dataclass(frozen=True)
class _Beginning:
    """What a text begins with.

    Attributes:
        first_line: the file's first line, which may be empty.
        first_text: the first line with any text, without spaces around it.
        has_more: whether a later line has text.
    """

    first_line: str
    first_text: str
    has_more: bool


def _beginning(file: TextFile) -> _Beginning:
    lines = file.lines()
    first_line = next(lines, "")
    texts = filter(None, (line.strip() for line in chain([first_line], lines)))
    first_text = next(texts, "")
    if not first_text:
        raise EmpathyEdgeError(f"{file.path}: the file is empty; it needs at least one dialogue.")
    return _Beginning(first_line.removesuffix("\n"), first_text, has_more=next(texts, None) is not None)


def _text_rows(file: TextFile, known_columns: Sequence[str]) -> Rows:
    if file.first_byte() == b"[":
        file.require_small()  # the array may be one line, which would be read to see how it begins
    beginning = _beginning(file)
    path, name = file.path, file.path.name.lower()
    if file.is_gzip:
        name = name.removesuffix(".gz")
    start = beginning.first_text[:1]
    is_text_file = name.endswith(".txt")
    if start == "[" and (not is_text_file or _is_json(file.whole())):
        text = file.whole()
        return Rows("JSON array", _array_rows(path, text, text.index("[") + 1))
    if start == "{" and (not is_text_file or _is_json(beginning.first_text)):
        return _object_rows(file, beginning, known_columns)
    table = Table(path, beginning.first_line, known_columns, file.table_lines, file.lines)
    delimiter = delimiter_of(table, name)
    if delimiter is not None:
        shown = "tab" if delimiter == "\t" else f"'{delimiter}'"
        return Rows(f"CSV, delimiter {shown}", csv_rows(table, delimiter))
    if name.endswith((".json", ".jsonl", ".ndjson")):
        return Rows("JSON Lines", _json_lines_rows(file))
    return Rows("text, one prompt a line", _plain_rows(file))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _object(where: str, value: Any, number: int) -> Row:
    if not isinstance(value, dict):
        raise EmpathyEdgeError(f"{where} is not a JSON object.")
    return Row(number, where, value)


def _json_lines_rows(file: TextFile) -> Iterator[Row]:
    for number, line in enumerate(file.lines(), 1):
        if not line.strip():
            continue
        where = where_of(file.path, number)
        try:
            value = whole_characters(json.loads(line.removesuffix("\n")), line)
        except (ValueError, RecursionError) as error:
            raise EmpathyEdgeError(f"{where} is not JSON ({error}).") from None
        yield _object(where, value, number)


def _array_rows(path: Path, text: str, place: int) -> Iterator[Row]:
    """The objects of the array whose first one stands at `place` or after it, and of arrays after it."""
    decoder = json.JSONDecoder()
    number, line, counted = 0, 1, 0
    while (place := _next_item(path, text, place)) < len(text):
        number += 1
        line += text.count("\n", counted, place)
        counted = place
        where = where_of(path, number, line if line > 1 else None)
        try:
            value, end = decoder.raw_decode(text, place)
            value, place = whole_characters(value, text[place:end]), end
        except (ValueError, RecursionError) as error:
            raise EmpathyEdgeError(f"{where} is not JSON ({error}).") from None
        yield _object(where, value, number)
        place = _after_spaces(text, place)
        if text[place : place + 1] == ",":
            place += 1
        elif text[place : place + 1] != "]":
            raise EmpathyEdgeError(f"{where}: after it a comma or ']' is missing: the array has no end.")


def _next_item(path: Path, text: str, place: int) -> int:
    """Where the next object begins, in this array or in one after it; the text's length after the last."""
    place = _after_spaces(text, place)
    while text[place : place + 1] == "]":
        place = _after_spaces(text, place + 1)
        if place == len(text):
            return place
        if text[place : place + 1] != "[":
            line = text.count("\n", 0, place) + 1
            raise EmpathyEdgeError(
                f"{path}: line {line}: there is more after the array. Put all rows into one array."
            )
        place = _after_spaces(text, place + 1)
    if place == len(text):
        raise EmpathyEdgeError(f"{path}: the array has no end; a ']' is missing.")
    return place


def _after_spaces(text: str, place: int) -> int:
    while text[place : place + 1] in (" ", "\n", "\r", "\t"):
        place += 1
    return place


def _object_rows(file: TextFile, beginning: _Beginning, known_columns: Sequence[str]) -> Rows:
    """JSON Lines; or one object, which is a row or holds the list of rows."""
    path = file.path
    if beginning.has_more and _is_json(beginning.first_text):
        return Rows("JSON Lines", _json_lines_rows(file))
    try:
        text = file.whole()
        value = whole_characters(json.loads(text), text)
    except (ValueError, RecursionError) as error:
        if beginning.first_text == "{":
            raise EmpathyEdgeError(f"{path}: not readable as JSON ({error}).") from None
        return Rows("JSON Lines", _json_lines_rows(file))
    lists = [key for key, item in value.items() if _holds_objects(item)]
    is_row = has_a_form(value) or any(column in value for column in known_columns)
    if len(lists) == 1 and lists[0] not in LISTS_OF_A_ROW and not is_row:
        rows = (_object(where_of(path, n), row, n) for n, row in enumerate(value[lists[0]], 1))
        return Rows(f"JSON object, rows in '{printable(lists[0])}'", rows)
    return Rows("JSON object, one row", iter([_object(where_of(path, 1), value, 1)]))


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _plain_rows(file: TextFile) -> Iterator[Row]:
    for number, line in enumerate(file.table_lines(), 1):
        if line.strip():
            yield Row(number, where_of(file.path, number), {"utterance": line.strip()})


def _parquet_rows(file: TextFile) -> Iterator[Row]:
    """Rows in small batches; a file that would become too large is refused before it does."""
    require_extra("pyarrow", "train", "Reading Parquet")
    import pyarrow
    from pyarrow import parquet

    path = file.path
    source = io.BytesIO(file.content()) if file.is_gzip else path
    size = source.getbuffer().nbytes if isinstance(source, io.BytesIO) else file.size
    most = most_bytes(size)
    try:
        with parquet.ParquetFile(source) as opened:
            number = unpacked = 0
            for batch in opened.iter_batches(batch_size=PARQUET_BATCH):
                unpacked += sum(_unpacked_bytes(column) for column in batch.columns)
                if unpacked > most:
                    raise EmpathyEdgeError(
                        f"{path}: {size >> 10} KB become more than {most >> 20} MB, "
                        "the limit for Parquet. Split it, or save it as JSON Lines if you trust it."
                    )
                for values in batch.to_pylist():
                    number += 1
                    yield Row(number, where_of(path, number), values)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise EmpathyEdgeError(f"{path}: not readable as Parquet ({str(error).splitlines()[0]}).") from None


def _unpacked_bytes(column: Any) -> int:
    """Of a pyarrow array; one that keeps equal values once is as large as if it held each."""
    values = column.dictionary_decode() if hasattr(column, "dictionary_decode") else column
    return int(values.nbytes)
