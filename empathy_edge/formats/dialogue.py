"""Dialogues with rated responses, the formats they are read from, and JSON lines.

The paper is *Distilling Empathy from Large Language Models* (arXiv 2507.08151).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import lines_of

Split = Literal["train", "test"]

RATINGS = (1, 2, 3)
"""1 bad, 2 okay, 3 good."""

IDS = ("id", "dialog_id")
"""Fields that may be whole numbers, too."""

CSV_COLUMNS = ("dialog_id", "emotion", "situation", "speaker_uttr")
"""The columns of the paper's CSV beside a `response_X` and a `rating_X` for each source X."""


@dataclass(frozen=True)
class Response:
    """One response to a dialogue: who wrote it, its text, and its rating from 1 to 3 (None: not rated)."""

    source: str
    text: str
    rating: int | None = None


@dataclass(frozen=True)
class Dialogue:
    """What a person says about a situation, with the responses to it."""

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
    """Read dialogues from a JSONL or CSV file; the suffix says which.

    A CSV file has the paper's columns. A row of JSONL is a dialogue with rated responses (our own format) or
    a conversation without ratings (EmpatheticDialogues).

    Raises:
        EmpathyEdgeError: the file is missing, empty or not UTF-8, or a row is wrong; names the row and field.
    """
    text = _read_text(path)
    rows = _from_csv(path, text) if path.suffix.lower() == ".csv" else _from_jsonl(path, text)
    dialogues: list[Dialogue] = []
    row_of_id: dict[str, int] = {}
    for row, dialogue in rows:
        if dialogue.id in row_of_id:
            raise EmpathyEdgeError(
                f"{path}: row {row}: the dialogue id '{dialogue.id}' is already used "
                f"in row {row_of_id[dialogue.id]}. Give every dialogue its own id."
            )
        row_of_id[dialogue.id] = row
        dialogues.append(dialogue)
    if not dialogues:
        raise EmpathyEdgeError(f"{path}: a header but no dialogue; it needs at least one row.")
    return dialogues


def _read_text(path: Path) -> str:
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
    return text


def _from_jsonl(path: Path, text: str) -> Iterator[tuple[int, Dialogue]]:
    """The row number and the dialogue of each line."""
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        where = f"{path}: row {number}"
        row = _json_object(where, line)
        split = row.get("split", "train")
        if split not in ("train", "test"):
            raise EmpathyEdgeError(f"{where}: 'split' is {split!r}; it must be 'train' or 'test'.")
        is_conversation = "turns" in row and "responses" not in row
        read_row = _from_conversation if is_conversation else _from_rated_responses
        yield number, read_row(where, row, split)


def _json_object(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EmpathyEdgeError(f"{where} is not JSON ({error}).") from None
    if not isinstance(row, dict):
        raise EmpathyEdgeError(f"{where} is not a JSON object.")
    return row


def _from_rated_responses(where: str, row: dict[str, Any], split: Split) -> Dialogue:
    """Our own format: an utterance, and responses to it with their sources and ratings."""
    items = row.get("responses")
    if not isinstance(items, list) or not items:
        raise EmpathyEdgeError(f"{where}: no response; 'responses' needs at least one.")
    return Dialogue(
        id=_text(where, row, "id"),
        emotion=_text(where, row, "emotion"),
        situation=_text(where, row, "situation"),
        utterance=_text(where, row, "utterance"),
        responses=tuple(_response(where, index, item) for index, item in enumerate(items, 1)),
        split=split,
    )


def _response(where: str, index: int, item: Any) -> Response:
    where = f"{where}: response {index}"
    if not isinstance(item, dict):
        raise EmpathyEdgeError(f"{where} is not a JSON object.")
    return Response(
        source=_text(where, item, "source"),
        text=_text(where, item, "text"),
        rating=_rating(where, "rating", item.get("rating")),
    )


def _from_conversation(where: str, row: dict[str, Any], split: Split) -> Dialogue:
    """EmpatheticDialogues' format: turns without ratings; the first one and the reply to it are taken."""
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


def _from_csv(path: Path, text: str) -> Iterator[tuple[int, Dialogue]]:
    """The paper's CSV: the row number (the header is row 1) and the dialogue of each row."""
    csv.field_size_limit(1 << 20)
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        sources = _sources_of(path, list(reader.fieldnames or ()))
        for number, row in enumerate(reader, 2):
            yield number, _from_csv_row(f"{path}: row {number}", row, sources)
    except csv.Error as error:
        row_number = max(1, reader.line_num)
        raise EmpathyEdgeError(f"{path}: row {row_number}: not readable as CSV ({error}).") from None


def _sources_of(path: Path, columns: list[str]) -> list[str]:
    """The sources X of the columns `response_X`, once all columns are known to be there."""
    sources = [name.removeprefix("response_") for name in columns if name.startswith("response_")]
    missing = [name for name in CSV_COLUMNS if name not in columns]
    missing += [f"rating_{source}" for source in sources if f"rating_{source}" not in columns]
    if missing or not sources:
        wanted = ", ".join(missing) if missing else "response_<source>"
        raise EmpathyEdgeError(
            f"{path}: wrong columns: {wanted} missing (found: {', '.join(columns[:8])}).\n"
            f"  The header needs {', '.join(CSV_COLUMNS)}, and response_X with rating_X for each source X."
        )
    return sources


def _from_csv_row(where: str, row: dict[str, Any], sources: list[str]) -> Dialogue:
    responses = tuple(
        Response(
            source=source,
            text=_text(where, row, f"response_{source}"),
            rating=_rating(where, f"rating_{source}", row[f"rating_{source}"]),
        )
        for source in sources
    )
    return Dialogue(
        id=_text(where, row, "dialog_id"),
        emotion=_text(where, row, "emotion"),
        situation=_text(where, row, "situation"),
        utterance=_text(where, row, "speaker_uttr"),
        responses=responses,
        split=paper_split(responses),
    )


def paper_split(responses: Iterable[Response]) -> Split:
    """The paper's split: a dialogue with fewer than 2 responses rated 3 is test (arXiv 2507.08151)."""
    return "test" if sum(item.rating == 3 for item in responses) < 2 else "train"


def _text(where: str, row: dict[str, Any], field: str) -> str:
    value = row.get(field)
    if field in IDS and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
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
