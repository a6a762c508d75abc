"""JSON lines: one JSON value per line, UTF-8.

Lines end at "\\n" only. `str.splitlines` would also split at U+2028 or U+0085, which replies can contain and
which JSON does not escape.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from empathy_edge.errors import EmpathyEdgeError, no_such_file
from empathy_edge.system.files import writing_atomically

HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape in JSON of half a character (a surrogate), alone or beside its other half."""


def whole_characters(value: Any, json_text: str | None = None) -> Any:
    """A JSON value with U+FFFD for half characters (lone surrogates), which cannot be written as UTF-8.

    Args:
        value: a text, or an object or array with texts in it.
        json_text: what `value` was read from; it says cheaply that there are none.
    """
    if json_text is not None and not HALF_CHARACTER.search(json_text):
        return value
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {whole_characters(key): whole_characters(item) for key, item in value.items()}
    return value


def lines_of(text: str) -> list[str]:
    """The lines of a text of JSON lines."""
    return text.split("\n")


def line_of(row: dict[str, Any]) -> str:
    """One line. Half a character (a lone surrogate) can only be written escaped; then all others are, too."""
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(row)
    return line + "\n"


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write dicts or dataclasses as JSON lines, atomically."""
    with writing_jsonl(path) as write:
        for row in rows:
            write(row)


@contextlib.contextmanager
def writing_jsonl(path: Path) -> Iterator[Callable[[Any], None]]:
    """A function that writes one more row, a dict or a dataclass; the file is there when the block ends.

    After an error in the block there is no file, or the one that was there before.
    """
    with writing_atomically(path) as handle:
        yield lambda row: _write_row(handle, row)


def _write_row(handle: IO[bytes], row: Any) -> None:
    handle.write(line_of(row if isinstance(row, dict) else asdict(row)).encode())


def read_unfinished_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows that an interrupted writer left; without a file, none. A line that was cut off is dropped."""
    if not path.exists():
        return []
    rows = []
    for line in lines_of(path.read_text(encoding="utf-8", errors="replace")):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines.

    Raises:
        EmpathyEdgeError: the file is missing or not UTF-8, or a row is not JSON; names the row.
    """
    return list(iterate_jsonl(path))


def iterate_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of JSON lines one after the other; errors as of `read_jsonl`, when their row is reached.

    Half characters become U+FFFD.
    """
    if not path.is_file():
        raise no_such_file(path)
    place = 0
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, 1):
            try:
                text = line.decode("utf-8").removesuffix("\n")
            except UnicodeDecodeError as error:
                raise EmpathyEdgeError(f"{path}: not UTF-8 (byte {place + error.start}).") from None
            place += len(line)
            if not text.strip():
                continue
            try:
                row = whole_characters(json.loads(text), text)
            except (ValueError, RecursionError) as error:
                raise EmpathyEdgeError(f"{path}: row {number} is not JSON ({error}).") from None
            yield row
