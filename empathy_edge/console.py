"""What the program prints, and where: messages, results, tables, progress bars."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from empathy_edge.errors import as_given

# Messages go to stderr, so that a command's results on stdout can be piped.
# When stderr is not a terminal, lines are not wrapped. In a notebook rich shows each message below the cell.
console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
out = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 120)


def say(message: str) -> None:
    """Print one message to stderr; of several processes that train together, only the main one prints."""
    if os.environ.get("RANK", "0") == "0":
        console.print(as_given(message))


def tell(text: str) -> None:
    """Print one line of a result to stdout, as plain text; it is wrapped on a terminal only."""
    out.print(text, markup=False, soft_wrap=not out.is_terminal)


def next_command(*words: str | Path) -> None:
    """Say on stderr, as the last line of a command, which command comes next: it can be pasted."""
    next_step(shlex.join(map(str, words)))


def next_step(text: str) -> None:
    """Say on stderr, as the last line of a command, what to do next, where that is no command alone."""
    if os.environ.get("RANK", "0") == "0":
        console.print(f"Next: {text}", markup=False, soft_wrap=True)


def say_command(text: str, words: Sequence[str]) -> None:
    """Say on stderr what a command does, and below it the command, which can be pasted; none where empty."""
    if os.environ.get("RANK", "0") == "0":
        console.print(text, markup=False, soft_wrap=True)
        if words:
            console.print(f"  {shlex.join(words)}", markup=False, soft_wrap=True)


@contextlib.contextmanager
def results_on_stderr() -> Iterator[None]:
    """Leave stdout to a program that reads it: tables and lines of results go to stderr meanwhile."""
    out.file = sys.stderr
    try:
        yield
    finally:
        out.file = sys.stdout


def set_quiet(quiet: bool = True) -> None:
    """Print no messages and no progress from now on; `set_quiet(False)` prints them again.

    Results and errors are not affected.
    """
    console.quiet = quiet


@contextlib.contextmanager
def results_not_printed() -> Iterator[None]:
    """Print no tables and lines of results meanwhile: the Python API returns them."""
    before, out.quiet = out.quiet, True
    try:
        yield
    finally:
        out.quiet = before


FIRST_LINE_S = 2.0
"""Without a terminal: seconds until a long task's first line."""

LINE_INTERVAL_S = 10.0
"""Without a terminal: seconds between its next lines."""

NOTEBOOK_INTERVAL_S = 1.0
"""In a notebook, where the line is written over: seconds until its next state."""

LEAST_SHARE = 0.01
"""Of a task: before so much is done after its first part, no time left is given."""

LEAST_S = 5.0
"""Seconds that this has to take as well."""

_time_left_of_run: Callable[[float | None], float] | None = None


def show_time_left_of_run(estimate: Callable[[float | None], float] | None) -> None:
    """From now on, show the time left for the whole run in every progress bar.

    Args:
        estimate: takes the seconds left of the bar's own task, None if unknown; returns the seconds left of
            the run. None ends it.
    """
    global _time_left_of_run
    _time_left_of_run = estimate


@dataclass
class _Lines:
    """When a task's lines are due, where there is no terminal.

    Attributes:
        name: the task's description.
        began_s: when the task was added (`time.monotonic`).
        completed_before: how much of it was done then, by an earlier, interrupted run.
        next_s: when the next line is due.
        at_most: the task may be done before all of its parts are.
        first_s: when its first part was done, and `first` how much that was. Time left is counted from there:
            the first part often loads a model.
        printed: how much was done in the last line; None where none was printed.
        shown: IPython's handle of the line, which is written over; in a notebook only.
    """

    name: str
    began_s: float
    completed_before: float
    next_s: float
    at_most: bool = False
    first_s: float | None = None
    first: float = 0.0
    printed: float | None = None
    shown: Any = None

    def left_s(self, now: float, completed: float, total: float) -> float | None:
        """Seconds until the task is done; None before its second part is, and where too little is done."""
        if self.first_s is None:
            if completed > self.completed_before:
                self.first_s, self.first = now, completed
            return None
        least = LEAST_SHARE * (total - self.completed_before)
        done, took_s = completed - self.first, now - self.first_s
        if self.at_most or done <= 0 or done < least or took_s < LEAST_S:
            return None
        return took_s / done * (total - completed)

    def parts(self, completed: float, total: float) -> str:
        """How much is done: 64 of 224."""
        return f"{completed:g} of {'at most ' if self.at_most else ''}{total:g}"

    def write_over(self, text: str) -> None:
        """Show a state of the task in a notebook, in the place of the one before."""
        from IPython.display import display

        state = {"text/plain": Text.from_markup(text).plain}
        if self.shown is None:
            self.shown = display(state, raw=True, display_id=True)
        else:
            self.shown.update(state, raw=True)


_shown_bars: list[StageProgress] = []
"""The bars that are on the screen now."""


def remove_bars() -> None:
    """Remove every bar that is still shown, as before an error's message: an interrupt may leave one."""
    for bar in [*_shown_bars]:
        bar.stop()


class StageProgress:
    """A progress bar; without a terminal, a line every ten seconds instead; in a notebook one line."""

    def __init__(self, *, whole_stage: bool) -> None:
        self._whole_stage = whole_stage
        self._lines: dict[TaskID, _Lines] = {}
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            _RunLeftColumn(whole_stage),
            console=console,
            transient=True,
            disable=not console.is_terminal or console.quiet,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if kind is None:
            for task_id in self._lines:
                self._print_end(task_id)

    def start(self) -> None:
        """Show the bar."""
        _shown_bars.append(self)
        self._bar.start()

    def stop(self) -> None:
        """Remove the bar."""
        if self in _shown_bars:
            _shown_bars.remove(self)
        self._bar.stop()

    def add_task(
        self,
        description: str,
        *,
        total: float,
        completed: int = 0,
        note: str = "",
        at_most: bool = False,
    ) -> TaskID:
        """Add a task of `total` parts, `completed` of which are done; `note` is shown beside them.

        With `at_most` it may be done before all of its parts are; the time left is then not known.
        """
        shown = f"{description}, at most" if at_most else description
        task_id = self._bar.add_task(shown, total=total, completed=completed, note=note)
        now = time.monotonic()
        self._lines[task_id] = _Lines(description, now, completed, now + FIRST_LINE_S, at_most)
        return task_id

    def update(
        self,
        task_id: TaskID,
        *,
        completed: float | None = None,
        advance: float | None = None,
        note: str | None = None,
    ) -> None:
        """Set how many parts are done, or how many more; what is None stays as it is."""
        if note is not None:
            self._bar.update(task_id, note=note)
        self._bar.update(task_id, completed=completed, advance=advance)
        self._print_line(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """So many more parts are done."""
        self._bar.advance(task_id, advance)
        self._print_line(task_id)

    def _print_line(self, task_id: TaskID) -> None:
        """Print the task's state, if there is no terminal and a line is due."""
        task, lines, now = self._bar.tasks[task_id], self._lines[task_id], time.monotonic()
        done = task.completed - lines.completed_before
        if task.finished and lines.shown is not None:
            lines.write_over(f"  {lines.name}: {task.completed:g} in {duration(now - lines.began_s)}")
        if task.finished:
            self._print_end(task_id)
        left_s = lines.left_s(now, task.completed, task.total or 0)
        is_shown = not console.is_terminal and not console.quiet
        if not is_shown or now < lines.next_s or not done or not task.total or task.finished:
            return
        lines.next_s = now + (NOTEBOOK_INTERVAL_S if console.is_jupyter else LINE_INTERVAL_S)
        note = f", {task.fields['note']}" if task.fields.get("note") else ""
        left = "" if left_s is None else f", about {duration(left_s)} left"
        parts = f"{lines.parts(task.completed, task.total)}{note}{left}"
        line = f"  {lines.name}: {parts}{_run_left(left_s if self._whole_stage else None)}"
        if console.is_jupyter:
            lines.write_over(line)
        else:
            lines.printed = task.completed
            say(line)

    def _print_end(self, task_id: TaskID) -> None:
        """Print the task's last state, if the last line that was printed tells less."""
        task, lines = self._bar.tasks[task_id], self._lines[task_id]
        is_told = task.finished if lines.shown is not None else lines.printed in (None, task.completed)
        if is_told or not task.total:
            return
        lines.printed = task.completed
        done = "done after " if lines.at_most else ""
        took = duration(time.monotonic() - lines.began_s)
        line = f"  {lines.name}: {done}{lines.parts(task.completed, task.total)} in {took}"
        if lines.shown is None:
            say(line)
        else:
            lines.write_over(line)


class _RunLeftColumn(ProgressColumn):
    """The time left of the whole run; empty outside of a run."""

    max_refresh = 1.0

    def __init__(self, whole_stage: bool) -> None:
        super().__init__()
        self._whole_stage = whole_stage

    def render(self, task: Task) -> Text:
        left_s = task.time_remaining if self._whole_stage else None
        return Text(_run_left(left_s).removeprefix("; "), style="dim")


def _run_left(stage_left_s: float | None) -> str:
    if _time_left_of_run is None:
        return ""
    return f"; whole run: about {duration(_time_left_of_run(stage_left_s))} left"


def duration(seconds: float) -> str:
    """45 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def progress(*, whole_stage: bool = False) -> StageProgress:
    """A progress bar with count, time spent and time left; without a terminal, a line every ten seconds.

    Args:
        whole_stage: the task takes nearly all of its stage's time, so that the whole run can be estimated
            from it.
    """
    return StageProgress(whole_stage=whole_stage)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table with a name in its first column and figures in the others; cells are plain text, not markup."""
    result = Table(title=escape(title), title_justify="left", title_style="bold", header_style="bold")
    for index, column in enumerate(columns):
        result.add_column(column, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in rows:
        result.add_row(*map(escape, row))
    return result


def quiet_libraries() -> None:
    """Keep the libraries' progress bars, advice and telemetry out of our output."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore")
    for name in ("transformers", "trl", "peft", "accelerate", "datasets", "torch", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
