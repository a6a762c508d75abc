"""The report's first picture: each artifact's size against the share of comparisons that it wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from empathy_edge.bench.report.finished_run import ArtifactRow
from empathy_edge.bench.report.svg import (
    FAIL,
    FAINT,
    FONT_SIZE,
    INK,
    PAPER,
    PASS,
    UNDECIDED,
    Picture,
    drawing,
    picture,
)
from empathy_edge.bench.report.words import short_percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = {"PASS": (PASS, "o", PASS), "UNDECIDED": (UNDECIDED, "D", PAPER), "FAIL": (FAIL, "X", FAIL)}
"""Verdict → colour, mark, its filling: nobody needs the colour to tell one from another."""

MEANINGS = {"PASS": "PASS: keeps it", "UNDECIDED": "UNDECIDED", "FAIL": "FAIL: does not keep it"}

NOTHING_LOST = 50.0
LETTER_WIDTH = 0.62 * FONT_SIZE
"""Of a letter in a name, points: a little more than most fonts need."""

GAP = 7.0
"""Between a mark and its name, points."""


class _Box(NamedTuple):
    """A rectangle that is taken, in points."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: _Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )


def plot_retention(rows: Sequence[ArtifactRow], min_win_rate: float) -> Picture:
    """A mark at each artifact's lower bound of W, a line up to its upper bound, by size in MB.

    Args:
        rows: those whose size is known.
        min_win_rate: the bound of PASS, 0 to 1.
    """
    with drawing(5.6, 4.6) as (figure, axis):
        for row in rows:
            _draw(axis, row)
        _draw_levels(axis, 100 * min_win_rate)
        sizes = [row.size_mb or 0.0 for row in rows]
        room = 0.36 * max(max(sizes) - min(sizes), 0.2 * max(sizes))
        axis.set(xlim=(min(sizes) - room, max(sizes) + room), ylim=(-6, 106))
        axis.set(xlabel="size, MB", ylabel="comparisons won, %: at least (mark), at most (line)")
        _draw_legend(axis, [row.checked.verdict for row in rows])
        figure.draw_without_rendering()
        _write_names(figure, axis, rows)
        title = "Size against what is kept, in comparisons with the model itself"
        words = f"PASS from {short_percent(min_win_rate)}; {short_percent(0.5)}: nothing lost. "
        words += "; ".join(_describe(row) for row in rows) + "."
        return picture(figure, "retention", title, words)


def _describe(row: ArtifactRow) -> str:
    checked = row.checked
    return (
        f"{row.name}: {checked.verdict}, {row.size_mb:g} MB, "
        f"{short_percent(checked.win_rate_low)} to {short_percent(checked.win_rate_high)} of comparisons won"
    )


def _draw(axis: Axes, row: ArtifactRow) -> None:
    """The interval, the mark at its lower end, and the judge's estimate where there is one."""
    color, marker, filling = LOOKS[row.checked.verdict]
    size, low, high = row.size_mb or 0.0, 100 * row.checked.win_rate_low, 100 * row.checked.win_rate_high
    axis.plot([size, size], [low, high], color=color, linewidth=1.6)
    axis.plot([size], [high], color=color, marker="_", markersize=8, markeredgewidth=1.6)
    if row.checked.win_rate_by_judge is not None:
        axis.plot([size], [100 * row.checked.win_rate_by_judge], color=INK, marker="_", markersize=11)
    (mark,) = axis.plot([size], [low], color=color, marker=marker, markersize=7, zorder=3)
    mark.set(markeredgewidth=1.6, markerfacecolor=filling)


def _draw_levels(axis: Axes, bound: float) -> None:
    """The bound of PASS, and where nothing is lost; their names are beside the panel, where no mark is."""
    levels = (
        (NOTHING_LOST, ":", f"{NOTHING_LOST:g} %: nothing lost", "bottom"),
        (bound, "--", f"{bound:g} %: PASS", "top"),
    )
    for level, style, words, place in levels:
        axis.axhline(level, color=FAINT, linewidth=1, linestyle=style, zorder=0)
        axis.annotate(
            words,
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va=place,
            fontsize=FONT_SIZE - 1,
        )


def _draw_legend(axis: Axes, verdicts: Sequence[str]) -> None:
    """Above the panel: the marks of the verdicts that there are."""
    from matplotlib.lines import Line2D

    handles = []
    for verdict in (name for name in LOOKS if name in verdicts):
        color, marker, filling = LOOKS[verdict]
        handle = Line2D([], [], color=color, label=MEANINGS[verdict], linewidth=0, marker=marker)
        handle.set(markerfacecolor=filling, markeredgewidth=1.6)
        handles.append(handle)
    axis.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(handles), borderaxespad=0.2
    )


def _write_names(figure: Figure, axis: Axes, rows: Sequence[ArtifactRow]) -> None:
    """A name beside each mark where there is room: right or left of it, else farther up its line."""
    scale = 72 / figure.dpi
    low_left, high_right = scale * axis.transAxes.transform([(0, 0), (1, 1)])
    lines, marks = [], []
    for row in rows:
        size, found = row.size_mb or 0.0, row.checked
        ends = [(size, 100 * found.win_rate_low), (size, 100 * found.win_rate_high)]
        (x, low), (_, high) = scale * axis.transData.transform(ends)
        marks.append((x, low))
        lines.append(_Box(x - 3, low - 5, x + 3, high + 2))
    taken: list[_Box] = []
    for row, (x, low) in sorted(zip(rows, marks, strict=True), key=lambda item: item[1]):
        places = _places(x, low, LETTER_WIDTH * len(row.name), high_right[1])
        inside = [box for box in places if low_left[0] <= box.left and box.right <= high_right[0]]
        free = [box for box in inside if not any(box.meets(other) for other in taken)]
        clear = [box for box in free if not any(box.meets(line) for line in lines)]
        box = next(iter([*clear, *free, *places]))
        taken.append(box)
        is_right = box.left > x
        axis.annotate(
            row.name,
            (row.size_mb or 0.0, 100 * row.checked.win_rate_low),
            xytext=(GAP if is_right else -GAP, box.bottom - (low - FONT_SIZE / 2)),
            textcoords="offset points",
            ha="left" if is_right else "right",
            va="center",
        )


def _places(x: float, y: float, width: float, top: float) -> list[_Box]:
    """Where a name may stand, the best place first."""
    half, line = FONT_SIZE / 2, FONT_SIZE + 2
    places = []
    for step in range(max(1, int((top - y) / line))):
        middle = y + step * line
        places.append(_Box(x + GAP, middle - half, x + GAP + width, middle + half))
        places.append(_Box(x - GAP - width, middle - half, x - GAP, middle + half))
    return places
