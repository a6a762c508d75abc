"""The one console everything prints through: messages, tables, progress bars."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

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

# Messages go to stderr, so that what a command prints on stdout can be piped. When stderr is not a terminal, lines are not wrapped.
console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
out = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 120)


def say(message: str) -> None:
    """Print one line of what is going on; of several processes that train together, only the first speaks."""
    if os.environ.get("RANK", "0") == "0":
        console.print(message)


def tell(text: str) -> None:
    """Print one line of a result to stdout, as plain text; broken at the width of a terminal only."""
    out.print(text, markup=False, soft_wrap=not out.is_terminal)


FIRST_LINE_S, LINE_S = 2.0, 10.0
"""Without a terminal: when a long task's first line comes, and how often the next ones."""

_time_left_of_run: Callable[[float | None], float] | None = None


def show_time_left_of_run(estimate: Callable[[float | None], float] | None) -> None:
    """From now on, let every progress bar show the time left for the whole run as well.

    Args:
        estimate: takes the seconds left of what the bar shows, where known; returns those left of the run. None ends it.
    """
    global _time_left_of_run
    _time_left_of_run = estimate


class StageProgress(Progress):
    """A progress bar; where there is no terminal, a line now and then instead."""

    def __init__(self, *columns: ProgressColumn, whole_stage: bool, **options: Any) -> None:
        super().__init__(*columns, _RunLeftColumn(whole_stage), **options)
        self._whole_stage = whole_stage
        self._begun: dict[TaskID, tuple[float, float]] = {}
        self._next_line: dict[TaskID, float] = {}

    def add_task(self, description: str, *args: Any, **fields: Any) -> TaskID:
        """As rich's."""
        task_id = super().add_task(description, *args, **fields)
        now = time.monotonic()
        self._begun[task_id] = now, self._tasks[task_id].completed
        self._next_line[task_id] = now + FIRST_LINE_S
        return task_id

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """As rich's."""
        super().update(task_id, **fields)
        self._line(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """As rich's."""
        super().advance(task_id, advance)
        self._line(task_id)

    def _line(self, task_id: TaskID) -> None:
        task, now = self._tasks[task_id], time.monotonic()
        began, had = self._begun[task_id]
        done = task.completed - had
        if (
            self.console.is_terminal
            or now < self._next_line[task_id]
            or not done
            or not task.total
            or task.finished
        ):
            return
        self._next_line[task_id] = now + LINE_S
        left = (now - began) / done * (task.total - task.completed)
        note = f", {task.fields['note']}" if task.fields.get("note") else ""
        parts = f"{task.completed:g} of {task.total:g}{note}, about {duration(left)} left"
        say(f"  {task.description}: {parts}{_run_left(left if self._whole_stage else None)}")


class _RunLeftColumn(ProgressColumn):
    """The time left of the whole run, where there is one."""

    max_refresh = 1.0

    def __init__(self, whole_stage: bool) -> None:
        super().__init__()
        self._whole_stage = whole_stage

    def render(self, task: Task) -> Text:
        left = task.time_remaining if self._whole_stage else None
        return Text(_run_left(left).removeprefix("; "), style="dim")


def _run_left(stage_left: float | None) -> str:
    return (
        ""
        if _time_left_of_run is None
        else f"; whole run: about {duration(_time_left_of_run(stage_left))} left"
    )


def duration(seconds: float) -> str:
    """45 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def progress(*, whole_stage: bool = False) -> StageProgress:
    """A progress bar with count, time spent and time left; a line every ten seconds where there is no terminal.

    Args:
        whole_stage: the bar is about nearly all of a stage's time, so that the whole run can be estimated by it.
    """
    return StageProgress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        whole_stage=whole_stage,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table whose first column is a name and whose other columns are figures; cells are plain text, not markup."""
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
