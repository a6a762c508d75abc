"""Files of data opened into rows: JSON Lines, JSON, CSV, Parquet, plain lines, and gzip of any of them.

The content says what a file is; its suffix counts only where the content leaves it open. Rows are values;
nothing in a file is run or unpickled.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.csv_rows import csv_rows, delimiter_of
from empathy_edge.formats.data_forms import has_a_form
from empathy_edge.formats.json_lines import lines_of
from empathy_edge.formats.row_fields import Row, printable, where_of

MAX_BYTES = 2 << 30
"""Of a file, decompressed."""

MAX_RATIO = 200
"""How many times as large a gzip or Parquet file may become; text becomes 3 to 20 times as large."""

ALWAYS_ALLOWED = 64 << 20
"""Bytes up to which the ratio does not matter."""

CHUNK = 1 << 20

PARQUET_BATCH = 64
"""Rows that are unpacked at once: what a few KB of Parquet hold may be gigabytes."""

LINE_ENDS = re.compile("\r\n|\r|\n")
"""Of a text file; old Macs ended lines with a carriage return alone."""

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
        EmpathyEdgeError: the file is missing, empty, too large, not UTF-8, or a row cannot be read.
    """
    if path.is_dir():
        raise EmpathyEdgeError(f"{path}: is a folder; name a file in it.")
    if not path.is_file():
        raise EmpathyEdgeError(
            f"{path}: no such file. Give dialogues as JSON Lines, JSON, CSV, Parquet or text, or 'sample'."
        )
    zipped = "gzip of " if _is_gzip(path) else ""
    content = _unzipped(path) if zipped else _plain_bytes(path)
    name = path.name.lower().removesuffix(".gz") if zipped else path.name.lower()
    if content[:4] == b"PAR1":
        return Rows(f"{zipped}Parquet", _parquet_rows(path, content))
    text = _decode(path, content)
    if not text.strip():
        raise EmpathyEdgeError(f"{path}: the file is empty; it needs at least one dialogue.")
    found = _text_rows(path, name, text, known_columns)
    return Rows(zipped + found.container, found.rows)


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as handle:
        return handle.read(2) == b"\x1f\x8b"


def _plain_bytes(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise EmpathyEdgeError(f"{path}: {size >> 20} MB; at most {MAX_BYTES >> 20} MB are read. Split it.")
    return path.read_bytes()


def _unzipped(path: Path) -> bytes:
    """The content, decompressed; a file that would become too large is refused before it does."""
    size = path.stat().st_size
    most = _most_bytes(size)
    parts = io.BytesIO()
    try:
        with gzip.open(path) as unzipped:
            while part := unzipped.read(CHUNK):
                parts.write(part)
                if parts.tell() > most:
                    raise EmpathyEdgeError(
                        f"{path}: {size >> 10} KB become more than {most >> 20} MB, the limit for gzip. "
                        "Unpack it yourself if you trust it."
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise EmpathyEdgeError(f"{path}: not readable as gzip ({error}).") from None
    return parts.getvalue()


def _most_bytes(size: int) -> int:
    """How large a file of `size` bytes may become."""
    return min(MAX_BYTES, max(ALWAYS_ALLOWED, MAX_RATIO * size))


def _decode(path: Path, content: bytes) -> str:
    if b"\0" in content:
        raise EmpathyEdgeError(f"{path}: is UTF-16 or binary; save it as UTF-8.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise EmpathyEdgeError(
            f"{path}: line {line} is not UTF-8 (byte {error.start}). Save the file as UTF-8."
        ) from None


def _text_rows(path: Path, name: str, text: str, known_columns: Sequence[str]) -> Rows:
    start = text.lstrip()[:1]
    is_text_file = name.endswith(".txt")
    if start == "[" and (not is_text_file or _is_json(text)):
        return Rows("JSON array", _array_rows(path, text, text.index("[") + 1))
    if start == "{" and (not is_text_file or _is_json(lines_of(text.lstrip())[0])):
        return _object_rows(path, text, known_columns)
    delimiter = delimiter_of(text, name, known_columns)
    if delimiter is not None:
        shown = "tab" if delimiter == "\t" else f"'{delimiter}'"
        return Rows(f"CSV, delimiter {shown}", csv_rows(path, text, delimiter, known_columns))
    if name.endswith((".json", ".jsonl", ".ndjson")):
        return Rows("JSON Lines", _json_lines_rows(path, text))
    return Rows("text, one prompt a line", _plain_rows(path, text))


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


def _json_lines_rows(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        where = where_of(path, number)
        try:
            value = json.loads(line)
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
            value, place = decoder.raw_decode(text, place)
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


def _object_rows(path: Path, text: str, known_columns: Sequence[str]) -> Rows:
    """JSON Lines; or one object, which is a row or holds the list of rows."""
    first_line = lines_of(text.lstrip())[0].strip()
    if not _is_json(first_line) or not text.lstrip()[len(first_line) :].strip():
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            if first_line == "{":
                raise EmpathyEdgeError(f"{path}: not readable as JSON ({error}).") from None
            return Rows("JSON Lines", _json_lines_rows(path, text))
        lists = [key for key, item in value.items() if _holds_objects(item)]
        is_row = has_a_form(value) or any(column in value for column in known_columns)
        if len(lists) == 1 and lists[0] not in LISTS_OF_A_ROW and not is_row:
            rows = (_object(where_of(path, n), row, n) for n, row in enumerate(value[lists[0]], 1))
            return Rows(f"JSON object, rows in '{printable(lists[0])}'", rows)
        return Rows("JSON object, one row", iter([_object(where_of(path, 1), value, 1)]))
    return Rows("JSON Lines", _json_lines_rows(path, text))


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _plain_rows(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(LINE_ENDS.split(text), 1):
        if line.strip():
            yield Row(number, where_of(path, number), {"utterance": line.strip()})


def _parquet_rows(path: Path, content: bytes) -> Iterator[Row]:
    """Rows in small batches; a file that would become too large is refused before it does."""
    require_extra("pyarrow", "train", "Reading Parquet")
    import pyarrow
    from pyarrow import parquet

    most = _most_bytes(len(content))
    try:
        file = parquet.ParquetFile(io.BytesIO(content))
        number = unpacked = 0
        for batch in file.iter_batches(batch_size=PARQUET_BATCH):
            unpacked += sum(_unpacked_bytes(column) for column in batch.columns)
            if unpacked > most:
                raise EmpathyEdgeError(
                    f"{path}: {len(content) >> 10} KB become more than {most >> 20} MB, "
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
