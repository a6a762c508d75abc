"""What a user gives as data, made a file that every stage can read and hash.

A file stays where it is. The words `sample` and `written` are shipped files. Stdin, a dataset of the hub, and
a file whose columns have names of their own become a file in the cache, named after what was given.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from empathy_edge.data import sample_dialogues, written_dialogues
from empathy_edge.errors import (
    EmpathyEdgeError,
    PrerequisiteError,
    as_given,
    call_as_given,
    did_you_mean,
    did_you_mean_path,
    require_extra,
)
from empathy_edge.formats.data_rows import open_rows
from empathy_edge.formats.dialogue import Columns, DialogueStream
from empathy_edge.formats.json_lines import line_of
from empathy_edge.formats.row_fields import FIELDS
from empathy_edge.formats.text_file import CHUNK, MAX_BYTES
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.hash_cache import sha256_file

SAMPLE, WRITTEN, STDIN = "sample", "written", "-"

HUB_ID = re.compile(r"(?P<owner>[\w-][\w.-]*)/(?P<name>[\w-][\w.-]*)(?::(?P<split>[\w.-]+))?")

SUFFIXES = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".txt", ".parquet", ".gz")
"""A name that ends like this is a file's, not a dataset's."""

DIGITS = 16
"""Of the hash that names a folder of the cache."""


def data_file(given: Path, columns: Columns | None = None) -> Path:
    """The file of data that a user means.

    Args:
        given: a file; `sample` or `written` (shipped dialogues); `-` (stdin); or a dataset of the hub,
            `owner/name` or `owner/name:split`.
        columns: field → its column in the file; the file is then written in our own form.

    Raises:
        EmpathyEdgeError: there is no such file or dataset, or it cannot be read.
    """
    _check_fields(columns or {})
    file = _file_of(given)
    if not columns:
        return file
    ours = _in_our_form(file, columns)
    call_as_given(ours, as_given(str(file)))
    return ours


def open_given(given: Path, columns: Columns | None = None) -> DialogueStream:
    """The dialogues in it, as the user gave it; arguments and errors as for `data_file`."""
    _check_fields(columns or {})
    return DialogueStream(_file_of(given), columns)


def first_row(given: Path, columns: Columns) -> dict[str, Any]:
    """The fields of the first row of a file or dataset; those of `columns` under our names."""
    row = next(open_rows(_file_of(given), list(columns.values())).rows, None)
    values = {} if row is None else row.values
    kept = {name: value for name, value in values.items() if name not in columns.values()}
    return kept | {field: values.get(column) for field, column in columns.items()}


def _check_fields(columns: Columns) -> None:
    unknown = [field for field in columns if field not in FIELDS]
    if unknown:
        raise EmpathyEdgeError(
            f"--map {unknown[0]}=…: no such field.{did_you_mean(unknown[0], FIELDS)}\n"
            f"  Fields are: {', '.join(sorted(FIELDS))}."
        )


def _file_of(given: Path) -> Path:
    name = given.as_posix()
    if name == SAMPLE:
        return sample_dialogues()
    if name == WRITTEN:
        return written_dialogues()
    if name == STDIN:
        return _from_stdin()
    found = HUB_ID.fullmatch(name)
    is_file = given.exists() or given.parent.is_dir() or name.lower().endswith(SUFFIXES)
    return given if is_file or not found else _from_hub(found)


def _from_stdin() -> Path:
    if sys.stdin.isatty():
        raise EmpathyEdgeError("'-' reads the data from stdin, as in: cat dialogues.jsonl | empathy-edge …")
    parts = iter(lambda: sys.stdin.buffer.read(CHUNK), b"")
    file = _kept("stdin", _limited(parts, "stdin", "give a file"))
    call_as_given(file, "stdin")
    return file


def _limited(parts: Iterable[bytes], name: str, remedy: str) -> Iterator[bytes]:
    """The parts, as long as they are not too large together; what never ends would fill the disk."""
    total = 0
    for part in parts:
        total += len(part)
        if total > MAX_BYTES:
            raise EmpathyEdgeError(f"{name}: more than {MAX_BYTES >> 20} MB; {remedy}.")
        yield part


def _kept(name: str, parts: Iterable[bytes], digest: str = "") -> Path:
    """A file of the cache with this content, in a folder that is named after it.

    Args:
        name: the file's.
        parts: the content.
        digest: of what else the folder's name depends on.
    """
    hashed = hashlib.sha256(digest.encode())
    folder = cache_folder() / "data"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        written = Path(temporary) / name
        with open(written, "wb") as handle:
            for part in parts:
                hashed.update(part)
                handle.write(part)
        file = folder / hashed.hexdigest()[:DIGITS] / name
        file.parent.mkdir(exist_ok=True)
        if not file.is_file():
            written.replace(file)
    return file


def _in_our_form(file: Path, columns: Columns) -> Path:
    """The dialogues of a file with columns of other names; the file's own name stays in sight."""
    rows = (line_of(item.row()).encode() for item in DialogueStream(file, columns))
    digest = hashlib.sha256(json.dumps([sha256_file(file), sorted(columns.items())]).encode()).hexdigest()
    return _kept(f"{file.name}.jsonl", rows, digest)


def _from_hub(found: re.Match[str]) -> Path:
    """A dataset's rows as a file of JSON lines. Only data are loaded, never a dataset's own code."""
    require_extra("datasets", "train", "Reading datasets of the hub")
    name, split = f"{found['owner']}/{found['name']}", found["split"]
    lines = _limited(_lines_of_dataset(name, split), name, "save a part of it as a file, and give that")
    file = _kept(f"{found['owner']}-{found['name']}-{split or 'train'}.jsonl", lines)
    call_as_given(file, found.group())
    return file


def _lines_of_dataset(name: str, split: str | None) -> Iterator[bytes]:
    for row in _rows_of_dataset(name, split):
        yield line_of({field: _as_json(value) for field, value in row.items()}).encode()


def _as_json(value: Any) -> Any:
    """A value as JSON can hold it: a time as a text, and nothing for bytes, pictures and sounds."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, dict):
        return {str(name): _as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return str(value) if isinstance(value, date | time | timedelta | Decimal) else None


def _rows_of_dataset(name: str, split: str | None) -> Iterator[dict[str, Any]]:
    from empathy_edge.console import quiet_libraries

    quiet_libraries()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it would tell of every try
    from datasets import load_dataset

    try:
        loaded = load_dataset(name, split=split or "train")
    except Exception as error:  # whatever the hub, the network or the dataset's files raise
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise PrerequisiteError(
            f"{name}: no such file, and as a dataset of the hub it cannot be read ({reason})."
            f"{did_you_mean_path(name)}",
            "Check the name; OWNER/NAME:SPLIT takes another split than train. Offline, give a file.",
        ) from None
    for row in loaded:
        yield _unpacked(row)


def _unpacked(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose only field is a line of JSON, as that line says (ESConv's copy on the hub is one)."""
    text = row.get("text")
    if len(row) == 1 and isinstance(text, str) and text.startswith("{"):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return row
        return value if isinstance(value, dict) else row
    return row
