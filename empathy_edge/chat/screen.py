"""Words as they come, broken between words where there is a terminal; Markdown only when asked for."""

from __future__ import annotations

import sys
from typing import Any

from empathy_edge.console import out


class Screen:
    """Prints one answer piece by piece."""

    def __init__(self, *, markdown: bool = False) -> None:
        self._wrap = out.is_terminal
        self._width = max(20, out.width)
        self._column = 0
        self._word = ""
        self._text = ""
        self._live: Any = None
        if markdown and out.is_terminal:
            from rich.live import Live

            self._live = Live(console=out, refresh_per_second=12, vertical_overflow="visible")
            self._live.start()

    def write(self, piece: str) -> None:
        """Show more of the answer."""
        self._text += piece
        if self._live is not None:
            from rich.markdown import Markdown

            self._live.update(Markdown(self._text))
        elif not self._wrap:
            self._raw(piece)
        else:
            for char in piece:
                if char.isspace():
                    self._break(char)
                else:
                    self._word += char

    def end(self) -> None:
        """The answer is over: what is held back is printed, and the line ended."""
        if self._live is not None:
            self._live.stop()
            return
        self._break("")
        self._raw("\n")

    def _break(self, space: str) -> None:
        """A word is whole: print it on this line or the next."""
        from rich.cells import cell_len

        length = cell_len(self._word)
        if self._column and self._column + length > self._width:
            self._raw("\n")
            self._column = 0
        self._raw(self._word)
        self._column += length
        self._word = ""
        if space == "\n":
            self._raw("\n")
            self._column = 0
        elif space and self._column < self._width:
            self._raw(space)
            self._column += 1

    def _raw(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def side_by_side(names: list[str], answers: list[str]) -> None:
    """Two answers beside each other, or below each other in a narrow terminal."""
    from rich.markup import escape
    from rich.table import Table

    if out.width < 72:
        for name, answer in zip(names, answers, strict=True):
            out.print(f"[bold]{escape(name)}[/]: {escape(answer)}")
        return
    result = Table(show_lines=False, expand=True, header_style="bold")
    for name in names:
        result.add_column(escape(name), ratio=1, overflow="fold")
    result.add_row(*map(escape, answers))
    out.print(result)
