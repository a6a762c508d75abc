"""Ratings by people, or by a model in a chat window: a CSV file that is written, filled in and read."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from empathy_edge.bench.check.raters import Rater, ToRate
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.spreadsheet import without_formula
from empathy_edge.system.files import sha256_json, write_atomically

COLUMNS = ("conversation", "reply", "rating", "key")
LARGEST = 100.0
"""The best rating; the worst is 0."""


class RatingsMissing(EmpathyEdgeError):
    """The sheet has rows without a rating; that says nothing of an artifact.

    Args:
        file: the sheet.
        missing: how many rows.
    """

    exit_code = 4

    def __init__(self, file: Path, missing: int) -> None:
        super().__init__(
            f"{file}: {missing} replies have no rating yet. Write a number from 0 (shows no empathy at all) "
            f"to {LARGEST:g} into each empty cell of the column `rating`, and run the same command again."
        )
        self.file = file
        self.missing = missing


class _Row(NamedTuple):
    conversation: str
    reply: str
    rating: str
    key: str


class SheetRater(Rater):
    """Reads ratings from a sheet; replies that are not in it are added, shuffled and blinded.

    Replies to one conversation stand together, and only their ratings are compared with each other. The
    sheet tells nothing of where a reply is from, and the pairs of the certificate are among the others.
    """

    together = True
    block = 128
    tuned = False

    def __init__(self, file: Path, certificate: Sequence[ToRate]) -> None:
        """Read the sheet, if it is there.

        Args:
            file: a .csv file.
            certificate: what a judge rates for its certificate; these ratings tell who rated.
        """
        if file.suffix.lower() != ".csv":
            raise EmpathyEdgeError(f"{file}: a sheet of ratings is a .csv file.")
        self._file = file
        self._certificate = certificate
        self._rows = _read(file)
        self.name = f"sheet:{file}"
        keys = [key for item in certificate for key in _keys(item)]
        known = {row.key: row.rating for row in self._rows}
        self.identity = sha256_json(["sheet", [known.get(key, "") for key in keys]])

    def prepare(self, items: Sequence[ToRate]) -> None:
        self._require([*self._certificate, *items])

    def rate_many(
        self, items: Sequence[ToRate], rated: Callable[[], None] = lambda: None
    ) -> list[list[float]]:
        self._require(items)
        known = {row.key: float(row.rating) for row in self._rows if row.rating}
        ratings = []
        for item in items:
            ratings.append([known[key] for key in _keys(item)])
            rated()
        return ratings

    def _require(self, items: Sequence[ToRate]) -> None:
        """Add what is not in the sheet, and refuse to go on while a rating is missing.

        Raises:
            RatingsMissing: one is.
        """
        known = {row.key: row.rating for row in self._rows}
        wanted = {key for item in items for key in _keys(item)}
        new = [row for row in _new_rows(items) if row.key not in known]
        if new:
            self._rows += new
            _write(self._file, self._rows)
        missing = sum(not known.get(key) for key in wanted)
        if missing:
            raise RatingsMissing(self._file, missing)


def _keys(item: ToRate) -> list[str]:
    """A key for each reply: of it, the conversation and the other replies that it is compared with."""
    among = [list(item.conversation), sorted(set(item.replies))]
    return [sha256_json([among, reply])[:20] for reply in item.replies]


def _new_rows(items: Sequence[ToRate]) -> list[_Row]:
    """The rows of all items, in an order that tells nothing: by hash. The same text stands there once."""
    groups = {}
    for item in items:
        replies = sorted(dict(zip(_keys(item), item.replies, strict=True)).items())
        groups[sha256_json([key for key, _ in replies])] = (item, replies)
    rows = []
    for _, (item, replies) in sorted(groups.items()):
        said = "\n".join(
            f"{turn['role']}: {turn['content']}" for turn in item.conversation if turn["role"] != "system"
        )
        for number, (key, reply) in enumerate(replies):
            rows.append(_Row(said if number == 0 else "", reply, "", key))
    return rows


def _read(file: Path) -> list[_Row]:
    """The rows of a sheet; none where there is no file.

    Raises:
        EmpathyEdgeError: it is no sheet, or a rating is no number from 0 to 100.
    """
    if not file.exists():
        return []
    try:
        reader = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline=""), strict=True)
        lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EmpathyEdgeError(f"{file}: not readable as CSV in UTF-8 ({error}).") from None
    rows = []
    for number, line in lines:
        if any(line.get(column) is None for column in COLUMNS):
            raise EmpathyEdgeError(f"{file}: line {number}: needs the columns {', '.join(COLUMNS)}.")
        row = _Row(*(line[column] for column in COLUMNS))
        rating = row.rating.strip()
        if rating and not _is_rating(rating):
            raise EmpathyEdgeError(
                f"{file}: line {number}: the rating '{rating[:40]}' is no number from 0 to {LARGEST:g}."
            )
        rows.append(row._replace(rating=rating))
    return rows


def _is_rating(text: str) -> bool:
    try:
        return 0 <= float(text) <= LARGEST
    except ValueError:
        return False


def _write(file: Path, rows: Sequence[_Row]) -> None:
    handle = io.StringIO(newline="")
    writer = csv.writer(handle)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([without_formula(cell) for cell in row])
    write_atomically(file, handle.getvalue())
