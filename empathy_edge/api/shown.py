"""How a result shows itself: as a few lines of text, and in a notebook as a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape


@dataclass(frozen=True)
class Table:
    """What is shown of a result.

    Attributes:
        title: a line above the table.
        columns: their names; the first one is a name's, the others are figures'.
        rows: as many cells as columns.
        notes: lines below the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())

    def text(self) -> str:
        """Lines of plain text."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.columns))]
        return "\n".join([self.title, *(_aligned(line, widths) for line in lines), *self.notes])

    def html(self) -> str:
        """A heading, a table and paragraphs."""
        head = "".join(_cell("th", place, text) for place, text in enumerate(self.columns))
        rows = [f"<tr>{head}</tr>"]
        for row in self.rows:
            rows.append(
                "<tr>" + "".join(_cell("td", place, text) for place, text in enumerate(row)) + "</tr>"
            )
        notes = "".join(f"<div>{escape(note)}</div>" for note in self.notes)
        return f"<div><b>{escape(self.title)}</b></div><table>{''.join(rows)}</table>{notes}"


class Shown(ABC):
    """A result with a table; a subclass says what is in it."""

    @abstractmethod
    def _table(self) -> Table:
        """What is shown of the result."""

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(["", first, *others]).rstrip()


def _cell(tag: str, place: int, text: str) -> str:
    return f'<{tag} style="text-align:{"right" if place else "left"}">{escape(text)}</{tag}>'
