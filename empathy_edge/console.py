"""The one console everything prints through: messages, tables, progress bars."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

# Messages go to stderr, so that what a command prints on stdout can be piped. Where nobody looks on, lines are not broken.
console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
out = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 120)


def say(message: str) -> None:
    """Print one line of what is going on; of several processes that train together, only the first speaks."""
    if os.environ.get("RANK", "0") == "0":
        console.print(message)


def tell(text: str) -> None:
    """Print one line of a result to stdout, as plain text; broken at the width of a terminal only."""
    out.print(text, markup=False, soft_wrap=not out.is_terminal)


def progress() -> Progress:
    """A progress bar with count, time spent and time left; silent where there is no terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
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
