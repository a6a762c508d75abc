"""JSON lines: one JSON value per line, UTF-8.

Lines end at "\\n" only. `str.splitlines` would also split at U+2028 or U+0085, which replies can contain and
which JSON does not escape.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.system.files import write_atomically


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
    lines = []
    for row in rows:
        lines.append(line_of(row if isinstance(row, dict) else asdict(row)))
    write_atomically(path, "".join(lines))


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
    if not path.is_file():
        raise EmpathyEdgeError(f"{path}: no such file.")
    try:
        lines = lines_of(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise EmpathyEdgeError(f"{path}: not UTF-8 (byte {error.start}).") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise EmpathyEdgeError(f"{path}: row {number} is not JSON ({error}).") from None
    return rows
