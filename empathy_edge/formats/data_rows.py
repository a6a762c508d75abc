"""Files of data opened into rows: JSON Lines, JSON, CSV, Parquet, plain lines, and gzip of any of them.

The content says what a file is; its suffix counts only where the content leaves it open. Rows are values;
nothing in a file is run or unpickled.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.json_lines import lines_of
from empathy_edge.formats.row_fields import Row

MAX_BYTES = 2 << 30
"""Of a file, decompressed."""

MAX_RATIO = 200
"""How many times as large a gzip file may become; text becomes 3 to 20 times as large."""

ALWAYS_ALLOWED = 64 << 20
"""Bytes up to which the ratio does not matter."""

CHUNK = 1 << 20

MAX_FIELD = 1 << 20
"""Characters of a CSV field."""

DELIMITERS = ",;\t|"

KNOWN_COLUMNS = frozenset(
    ("utterance", "speaker_uttr", "text", "prompt", "instruction", "response", "completion", "situation")
)
"""A first line with one of these between delimiters is a header, whatever the file is called."""

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
    most = min(MAX_BYTES, max(ALWAYS_ALLOWED, MAX_RATIO * size))
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


def _decode(path: Path, content: bytes) -> str:
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
        return _object_rows(path, text)
    delimiter = _delimiter_of(text, name, known_columns)
    if delimiter is not None:
        shown = "tab" if delimiter == "\t" else f"'{delimiter}'"
        return Rows(f"CSV, delimiter {shown}", _csv_rows(path, text, delimiter))
    if name.endswith((".json", ".jsonl", ".ndjson")):
        return Rows("JSON Lines", _json_lines_rows(path, text))
    return Rows("text, one prompt a line", _plain_rows(path, text))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _where(path: Path, number: int, line: int | None = None) -> str:
    """File and row, and the line where that is another number."""
    return f"{path}: row {number}" if line in (None, number) else f"{path}: row {number} (line {line})"


def _object(where: str, value: Any, number: int) -> Row:
    if not isinstance(value, dict):
        raise EmpathyEdgeError(f"{where} is not a JSON object.")
    return Row(number, where, value)


def _json_lines_rows(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        where = _where(path, number)
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise EmpathyEdgeError(f"{where} is not JSON ({error}).") from None
        yield _object(where, value, number)


def _array_rows(path: Path, text: str, place: int) -> Iterator[Row]:
    """The objects of the array whose first one stands at `place` or after it."""
    decoder = json.JSONDecoder()
    number, line, counted = 0, 1, 0
    while True:
        place = _after_spaces(text, place)
        if text[place : place + 1] == "]":
            return
        number += 1
        line += text.count("\n", counted, place)
        counted = place
        where = _where(path, number, line if "\n" in text[:place] else None)
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


def _after_spaces(text: str, place: int) -> int:
    while text[place : place + 1] in (" ", "\n", "\r", "\t"):
        place += 1
    return place


def _object_rows(path: Path, text: str) -> Rows:
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
        if len(lists) == 1 and lists[0] not in LISTS_OF_A_ROW:
            rows = (_object(_where(path, n), row, n) for n, row in enumerate(value[lists[0]], 1))
            return Rows(f"JSON object, rows in '{lists[0]}'", rows)
        return Rows("JSON object, one row", iter([_object(_where(path, 1), value, 1)]))
    return Rows("JSON Lines", _json_lines_rows(path, text))


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _delimiter_of(text: str, name: str, known_columns: Sequence[str]) -> str | None:
    """The delimiter between the columns; None for a file that is no table."""
    header = lines_of(text)[0].strip("\r")
    counts = {delimiter: header.count(delimiter) for delimiter in DELIMITERS}
    best = max(counts, key=lambda delimiter: counts[delimiter])
    if name.endswith((".csv", ".tsv")):
        return best if counts[best] else ("\t" if name.endswith(".tsv") else ",")
    names = {column.strip().strip('"') for column in header.split(best)}
    is_header = bool(names & {*KNOWN_COLUMNS, *known_columns})
    return best if is_header and not name.endswith(".txt") else None


def _csv_rows(path: Path, text: str, delimiter: str) -> Iterator[Row]:
    """Rows by column; the header is row 1."""
    header = lines_of(text)[0]
    if header.strip().replace('"', "").startswith("conv_id,utterance_idx,"):
        yield from _unquoted_rows(path, text)
        return
    csv.field_size_limit(MAX_FIELD)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = reader.fieldnames or ()
        twice = sorted({name for name in columns if list(columns).count(name) > 1})
        if twice:
            raise EmpathyEdgeError(f"{path}: the column '{twice[0]}' is there twice. Rename one.")
        line = reader.line_num + 1
        for number, row in enumerate(reader, 2):
            where = _where(path, number, line)
            line = reader.line_num + 1
            more = row.pop(None, None)
            if more:
                raise EmpathyEdgeError(
                    f"{where}: {len(columns) + len(more)} fields, but {len(columns)} columns. A text with "
                    f"'{delimiter}' in it must stand in quotes."
                )
            yield Row(number, where, row)
    except csv.Error as error:
        raise EmpathyEdgeError(
            f"{path}: row {max(1, reader.line_num)}: not readable as CSV ({error})."
        ) from None


def _unquoted_rows(path: Path, text: str) -> Iterator[Row]:
    """EmpatheticDialogues' own CSV: no field is quoted, and quotation marks are text."""
    header, *lines = lines_of(text)
    columns = header.strip().replace('"', "").split(",")
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        fields = line.strip("\r").split(",")
        where = _where(path, number)
        if len(fields) > len(columns):
            fields = _quoted(where, line)
        if not len(columns) - 2 <= len(fields) <= len(columns):
            raise EmpathyEdgeError(f"{where}: {len(fields)} fields, but {len(columns)} columns.")
        yield Row(number, where, dict(zip(columns, fields, strict=False)))


def _quoted(where: str, line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise EmpathyEdgeError(f"{where}: not readable as CSV ({error}).") from None


def _plain_rows(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(lines_of(text), 1):
        if line.strip():
            yield Row(number, _where(path, number), {"utterance": line.strip()})


def _parquet_rows(path: Path, content: bytes) -> Iterator[Row]:
    require_extra("pyarrow", "train", "Reading Parquet")
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(io.BytesIO(content))
        metadata = file.metadata
        groups = (metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
        if sum(groups) > MAX_BYTES:
            raise EmpathyEdgeError(f"{path}: more than {MAX_BYTES >> 20} MB unpacked. Split it.")
        number = 0
        for batch in file.iter_batches(batch_size=1024):
            for values in batch.to_pylist():
                number += 1
                yield Row(number, _where(path, number), values)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise EmpathyEdgeError(f"{path}: not readable as Parquet ({str(error).splitlines()[0]}).") from None
