"""Ratings by people, or by a model in a chat window: a CSV file that is written, filled in and read."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.spreadsheet import without_formula
from empathy_edge.judging.raters.rater import LARGEST, Rater, ToRate
from empathy_edge.system.files import sha256_json, write_atomically

COLUMNS = ("conversation", "reply", "rating", "key")


class RatingsMissing(EmpathyEdgeError):
    """The sheet has rows without a rating; that says nothing of an artifact, and is no error.

    Args:
        file: the sheet.
        missing: how many rows.
        is_new: whether the sheet was written just now.
    """

    exit_code = 4
    is_error = False

    def __init__(self, file: Path, missing: int, *, is_new: bool = False) -> None:
        state = "the sheet is written; its" if is_new else "the sheet is not full yet:"
        super().__init__(
            f"{file}: {state} {missing} replies have no rating yet. Write a number from 0 (shows no empathy "
            f"at all) to {LARGEST:g} into each empty cell of the column `rating`, and run the same command "
            "again."
        )
        self.file = file
        self.missing = missing


_Row = dict[str, str]
"""A line of the sheet by column; the rater may have added columns."""


class SheetRater(Rater):
    """Reads ratings from a sheet; replies that are not in it are added, shuffled and blinded.

    Replies to one conversation stand together, and only their ratings are compared with each other. The
    sheet does not reveal where a reply is from, and the pairs of the certificate are among the others.
    """

    together = True
    block = 128
    tuned = False
    scale = LARGEST

    def __init__(self, file: Path, certificate: Sequence[ToRate]) -> None:
        """Read the sheet, if it is there.

        Args:
            file: a .csv file.
            certificate: what a judge rates for its certificate; these ratings tell who rated.

        Raises:
            EmpathyEdgeError: the file is no sheet, or a line of it is wrong; names the line.
        """
        if file.suffix.lower() != ".csv":
            raise EmpathyEdgeError(f"{file}: a sheet of ratings is a .csv file.")
        self._file = file
        self._certificate = certificate
        self.name = f"sheet:{file}"
        self._take(_read(file))

    def prepare(self, items: Sequence[ToRate]) -> None:
        self._require([*self._certificate, *items])

    def rate_many(
        self, items: Sequence[ToRate], rated: Callable[[], None] = lambda: None
    ) -> list[list[float]]:
        known = self._require(items)
        ratings = []
        for item in items:
            ratings.append([known[key] for key in _keys(item)])
            rated()
        return ratings

    def ratings_sha256(self) -> str:
        """The hash of all ratings so far, whatever the order of the rows."""
        return sha256_json(
            sorted((key, rating) for key, rating in self._ratings.items() if rating is not None)
        )

    def has_rows(self, items: Sequence[ToRate]) -> bool:
        """Whether the sheet has rows for all of these items, rated or not."""
        return all(key in self._ratings for item in items for key in _keys(item))

    def _require(self, items: Sequence[ToRate]) -> dict[str, float]:
        """The ratings of these items by key; what is not in the sheet is added to it.

        Raises:
            RatingsMissing: one has no rating.
            EmpathyEdgeError: rows were to be added, and the file is no sheet any more.
        """
        is_new = not self.has_rows(items) and self._add_rows(items)
        wanted = {key: self._ratings[key] for item in items for key in _keys(item)}
        known = {key: rating for key, rating in wanted.items() if rating is not None}
        if len(known) < len(wanted):
            raise RatingsMissing(self._file, len(wanted) - len(known), is_new=is_new)
        return known

    def _add_rows(self, items: Sequence[ToRate]) -> bool:
        """Add what the sheet does not have of these items; returns whether it was empty before.

        People may have saved the file since it was read: it is read again, and what it has is kept.
        """
        found = _read(self._file)
        rows = _with_new(found, self._rows)
        is_new = not rows
        rows = _with_new(rows, _new_rows(items))
        if len(rows) > len(found):
            _write(self._file, rows)
        self._take(rows)
        return is_new

    def _take(self, rows: list[_Row]) -> None:
        """Make these the sheet's rows; who rated is told by the ratings of the certificate among them."""
        self._rows = rows
        self._ratings = {row["key"]: _number(row["rating"]) for row in rows}
        keys = [key for item in self._certificate for key in _keys(item)]
        self.identity = sha256_json(["sheet", [self._ratings.get(key) for key in keys]])


def _with_new(rows: Sequence[_Row], more: Sequence[_Row]) -> list[_Row]:
    """The rows, and after them those of `more` whose keys they do not have."""
    known = {row["key"] for row in rows}
    return [*rows, *(row for row in more if row["key"] not in known)]


def _keys(item: ToRate) -> list[str]:
    """A key for each reply: of it, the conversation and the other replies that it is compared with.

    It begins with a letter that no number has: a spreadsheet would take 123e4 for one.
    """
    among = [list(item.conversation), sorted(set(item.replies))]
    return [f"r{sha256_json([among, reply])[:20]}" for reply in item.replies]


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
        rows += [dict(zip(COLUMNS, (said, reply, "", key), strict=True)) for key, reply in replies]
    return rows


def _read(file: Path) -> list[_Row]:
    """The rows of a sheet; none where there is no file, or an empty one.

    Raises:
        EmpathyEdgeError: it is no sheet, a reply is in it twice, or a rating is no number from 0 to 100.
    """
    lines = _lines(file) if file.exists() else []
    if not lines:
        return []
    number, header = lines[0]
    _check_header(file, number, header)
    rows: list[_Row] = []
    line_of_key: dict[str, int] = {}
    for number, cells in lines[1:]:
        row = _row(file, number, header, cells)
        if row["key"] in line_of_key:
            raise EmpathyEdgeError(
                f"{file}: line {number}: this reply is in line {line_of_key[row['key']]}, too; keep one."
            )
        line_of_key[row["key"]] = number
        rows.append(row)
    return rows


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    """The cells of each line that is not empty, the header's too, with the line's number.

    With semicolons, too, which spreadsheets write where 0,5 is a half.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        header = text.split("\n", 1)[0]
        reader = csv.reader(
            io.StringIO(text, newline=""), strict=True, delimiter=";" if ";" in header else ","
        )
        return [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EmpathyEdgeError(f"{file}: not readable as CSV in UTF-8 ({error}).") from None


def _check_header(file: Path, number: int, header: Sequence[str]) -> None:
    """Refuse a file that is no sheet, which would be overwritten, and columns that hide each other."""
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise EmpathyEdgeError(
            f"{file}: line {number}: is no sheet of ratings, it has no column {' and no '.join(missing)}. It "
            f"needs the columns {', '.join(COLUMNS)}. Give the name of a new file, and the sheet is written."
        )
    for column in header:
        if column and header.count(column) > 1:
            raise EmpathyEdgeError(
                f"{file}: line {number}: the column {column[:40]!r} is there twice; delete or rename one."
            )


def _row(file: Path, number: int, header: Sequence[str], cells: Sequence[str]) -> _Row:
    """A line by column. Spreadsheets may leave out empty cells at its end, or add some.

    Raises:
        EmpathyEdgeError: text is in no column or in several of one name, there is no key, or the rating is
            none.
    """
    missing = [""] * (len(header) - len(cells))
    row = dict(zip(header, [*cells, *missing], strict=False))
    if len("".join(row.values())) < len("".join(cells)):
        raise EmpathyEdgeError(
            f"{file}: line {number}: has text in a column without a name. Name each column in the header; "
            "text with a comma or semicolon in it needs quotes."
        )
    if not row["key"].strip():
        raise EmpathyEdgeError(
            f"{file}: line {number}: the cell `key` is empty. Write the key again, or delete the line."
        )
    if row["rating"].strip() and _number(row["rating"]) is None:
        raise EmpathyEdgeError(
            f"{file}: line {number}: the rating {row['rating'][:40]!r} is no number from 0 to {LARGEST:g}."
        )
    return row


def _number(rating: str) -> float | None:
    """The rating; None where there is none from 0 to 100."""
    try:
        number = float(rating.replace(",", "."))
    except ValueError:
        return None
    return number if 0 <= number <= LARGEST else None


def _write(file: Path, rows: Sequence[_Row]) -> None:
    """In UTF-8 with its mark, without which Excel shows other characters."""
    handle = io.StringIO(newline="")
    columns = dict.fromkeys(COLUMNS)
    for row in rows:
        columns |= dict.fromkeys(row)
    writer = csv.DictWriter(handle, list(columns), restval="")
    writer.writeheader()
    for row in rows:
        shown = {column: without_formula(row[column]) for column in ("conversation", "reply")}
        writer.writerow(row | shown)
    write_atomically(file, handle.getvalue().encode("utf-8-sig"))
