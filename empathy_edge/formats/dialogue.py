"""Dialogues with rated responses: reading them from JSONL and from the paper's CSV, and splitting them.

The paper is *Distilling Empathy from Large Language Models* (arXiv 2507.08151).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.system.files import write_atomically

Split = Literal["train", "test"]

RATINGS = (1, 2, 3)
"""1 bad, 2 okay, 3 good."""

CSV_COLUMNS = ("dialog_id", "emotion", "situation", "speaker_uttr")
"""The columns of the paper's CSV beside a `response_X` and a `rating_X` for each source X."""


@dataclass(frozen=True)
class Response:
    """One response to a dialogue: who wrote it, its words, and its rating 1–3 (None: not rated)."""

    source: str
    text: str
    rating: int | None = None


@dataclass(frozen=True)
class Dialogue:
    """A person's situation and what they say about it, with the responses collected so far."""

    id: str
    emotion: str
    situation: str
    utterance: str
    responses: tuple[Response, ...]
    split: Split

    def response(self, source: str) -> Response | None:
        """The response of `source`, if there is one."""
        return next((item for item in self.responses if item.source == source), None)


@dataclass(frozen=True)
class PreferencePair:
    """Two responses to one prompt, the better one first; a row of `preference.jsonl`."""

    id: str
    prompt: list[dict[str, str]]
    chosen: str
    rejected: str


def read_dialogues(path: Path) -> list[Dialogue]:
    """Read dialogues from our JSONL or from the paper's CSV (by the file's suffix).

    Raises:
        EmpathyEdgeError: the file is missing, empty or not UTF-8, or a row is wrong; names the row and field.
    """
    if not path.is_file():
        raise EmpathyEdgeError(f"{path}: no such file. Give a .jsonl or .csv file of dialogues with --data.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        row = path.read_bytes()[: error.start].count(b"\n") + 1
        raise EmpathyEdgeError(
            f"{path}: line {row} is not UTF-8 (byte {error.start}). Save the file as UTF-8."
        ) from None
    if not text.strip():
        raise EmpathyEdgeError(f"{path}: the file is empty; it needs at least one dialogue.")
    rows = _from_csv(path, text) if path.suffix.lower() == ".csv" else _from_jsonl(path, text)
    dialogues: list[Dialogue] = []
    seen: dict[str, int] = {}
    for row, dialogue in rows:
        if dialogue.id in seen:
            raise EmpathyEdgeError(
                f"{path}: row {row}: the dialogue id '{dialogue.id}' is already used in row {seen[dialogue.id]}. "
                "Give every dialogue its own id."
            )
        seen[dialogue.id] = row
        dialogues.append(dialogue)
    if not dialogues:
        raise EmpathyEdgeError(f"{path}: a header but no dialogue; it needs at least one row.")
    return dialogues


def _from_jsonl(path: Path, text: str) -> Iterator[tuple[int, Dialogue]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise EmpathyEdgeError(f"{path}: row {number} is not JSON ({error}).") from None
        if not isinstance(row, dict):
            raise EmpathyEdgeError(f"{path}: row {number} is not a JSON object.")
        where = f"{path}: row {number}"
        split = row.get("split", "train")
        if split not in ("train", "test"):
            raise EmpathyEdgeError(f"{where}: 'split' is {split!r}; it must be 'train' or 'test'.")
        if "turns" in row and "responses" not in row:
            yield number, _from_turns(where, row, split)
            continue
        items = row.get("responses")
        if not isinstance(items, list) or not items:
            raise EmpathyEdgeError(f"{where}: no response; 'responses' needs at least one.")
        yield (
            number,
            Dialogue(
                id=_text(where, row, "id"),
                emotion=_text(where, row, "emotion"),
                situation=_text(where, row, "situation"),
                utterance=_text(where, row, "utterance"),
                responses=tuple(_response(where, index, item) for index, item in enumerate(items, 1)),
                split=split,
            ),
        )


def _from_turns(where: str, row: dict[str, Any], split: Split) -> Dialogue:
    """A whole conversation without ratings, as EmpatheticDialogues has it: the first turn, and the first answer to it."""
    turns = row["turns"]
    if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, dict) for turn in turns[:2]):
        raise EmpathyEdgeError(f"{where}: 'turns' needs at least two, the speaker's and the listener's.")
    return Dialogue(
        id=_text(where, row, "dialog_id"),
        emotion=_text(where, row, "emotion"),
        situation=_text(where, row, "situation"),
        utterance=_text(f"{where}: turn 1", turns[0], "text"),
        responses=(Response("human", _text(f"{where}: turn 2", turns[1], "text")),),
        split=split,
    )


def _response(where: str, index: int, item: Any) -> Response:
    where = f"{where}: response {index}"
    if not isinstance(item, dict):
        raise EmpathyEdgeError(f"{where} is not a JSON object.")
    return Response(
        _text(where, item, "source"), _text(where, item, "text"), _rating(where, "rating", item.get("rating"))
    )


def _from_csv(path: Path, text: str) -> Iterator[tuple[int, Dialogue]]:
    csv.field_size_limit(1 << 20)
    reader = csv.DictReader(io.StringIO(text), strict=True)
    columns = list(reader.fieldnames or ())
    sources = [name.removeprefix("response_") for name in columns if name.startswith("response_")]
    missing = [name for name in CSV_COLUMNS if name not in columns]
    missing += [f"rating_{source}" for source in sources if f"rating_{source}" not in columns]
    if missing or not sources:
        wanted = ", ".join(missing) if missing else "response_<source>"
        raise EmpathyEdgeError(
            f"{path}: wrong columns: {wanted} missing (found: {', '.join(columns[:8])}).\n"
            f"  The header needs {', '.join(CSV_COLUMNS)}, and response_X with rating_X for each source X."
        )
    try:
        for number, row in enumerate(reader, 2):
            where = f"{path}: row {number}"
            responses = tuple(
                Response(
                    source,
                    _text(where, row, f"response_{source}"),
                    _rating(where, f"rating_{source}", row[f"rating_{source}"]),
                )
                for source in sources
            )
            yield (
                number,
                Dialogue(
                    id=_text(where, row, "dialog_id"),
                    emotion=_text(where, row, "emotion"),
                    situation=_text(where, row, "situation"),
                    utterance=_text(where, row, "speaker_uttr"),
                    responses=responses,
                    split=paper_split(responses),
                ),
            )
    except csv.Error as error:
        raise EmpathyEdgeError(f"{path}: row {reader.line_num}: not readable as CSV ({error}).") from None


def paper_split(responses: Iterable[Response]) -> Split:
    """The paper's split: a dialogue with fewer than 2 responses rated 3 is test (arXiv 2507.08151)."""
    return "test" if sum(item.rating == 3 for item in responses) < 2 else "train"


def _text(where: str, row: dict[str, Any], field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise EmpathyEdgeError(f"{where}: '{field}' is missing or empty.")
    return value.strip()


def _rating(where: str, field: str, value: Any) -> int | None:
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if number not in RATINGS:
        raise EmpathyEdgeError(f"{where}: '{field}' is {value!r}; a rating is 1, 2 or 3.")
    return int(number)


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write dicts or dataclasses as JSON lines, atomically."""
    lines = (
        json.dumps(row if isinstance(row, dict) else asdict(row), ensure_ascii=False) + "\n" for row in rows
    )
    write_atomically(path, "".join(lines))


def read_unfinished_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows that an interrupted writer left, none where there is no file; a line that was cut off is dropped."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a missing file or a broken row is an error that names it."""
    if not path.is_file():
        raise EmpathyEdgeError(f"{path}: no such file.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise EmpathyEdgeError(f"{path}: not UTF-8 (byte {error.start}).") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise EmpathyEdgeError(f"{path}: row {number} is not JSON ({error}).") from None
    return rows
