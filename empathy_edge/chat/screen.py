"""How replies are shown: as they come, with whole words on a terminal; as Markdown only on request."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from empathy_edge.console import out

if TYPE_CHECKING:
    from rich.live import Live

MIN_WIDTH = 20
"""Columns of a terminal that says that it is narrower."""

MIN_WIDTH_SIDE_BY_SIDE = 72
"""In a narrower terminal, two replies are shown one below the other."""


class Screen:
    """Prints one reply piece by piece."""

    def __init__(self, *, markdown: bool = False) -> None:
        self._wrap = out.is_terminal
        self._width = max(MIN_WIDTH, out.width)
        self._column = 0
        self._word = ""
        self._text = ""
        self._live: Live | None = None
        if markdown and out.is_terminal:
            from rich import live

            self._live = live.Live(console=out, refresh_per_second=12, vertical_overflow="visible")
            self._live.start()

    def write(self, piece: str) -> None:
        """Show more of the reply."""
        self._text += piece
        if self._live is not None:
            from rich.markdown import Markdown

            self._live.update(Markdown(self._text))
        elif not self._wrap:
            self._print(piece)
        else:
            for character in piece:
                if character.isspace():
                    self._print_word(character)
                else:
                    self._word += character

    def end(self) -> None:
        """End the reply: print the last word, and end the line."""
        if self._live is not None:
            self._live.stop()
            return
        self._print_word("")
        self._print("\n")

    def _print_word(self, space: str) -> None:
        """Print the word on this line or the next one, and the space after it."""
        from rich.cells import cell_len

        length = cell_len(self._word)
        if self._column and self._column + length > self._width:
            self._print("\n")
            self._column = 0
        self._print(self._word)
        self._column += length
        self._word = ""
        if space == "\n":
            self._print("\n")
            self._column = 0
        elif space and self._column < self._width:
            self._print(space)
            self._column += 1

    def _print(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def side_by_side(names: list[str], replies: list[str]) -> None:
    """Show several replies beside each other, or one below the other in a narrow terminal."""
    from rich.markup import escape
    from rich.table import Table

    if out.width < MIN_WIDTH_SIDE_BY_SIDE:
        for name, reply in zip(names, replies, strict=True):
            out.print(f"[bold]{escape(name)}[/]: {escape(reply)}")
        return
    result = Table(show_lines=False, expand=True, header_style="bold")
    for name in names:
        result.add_column(escape(name), ratio=1, overflow="fold")
    result.add_row(*map(escape, replies))
    out.print(result)
