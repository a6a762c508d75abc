"""Other programs, run to their end; and training in several processes: which one writes, and which wait."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

from empathy_edge.errors import EmpathyEdgeError

T = TypeVar("T")

LONGEST_WAIT = timedelta(hours=6)
"""Until a process that waits for another gives up: the main one alone writes the rows and their tokens."""


def run_captured(
    command: Sequence[str], environment: Mapping[str, str] | None = None, timeout_s: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; what it prints is kept as text, and it reads nothing.

    Args:
        command: the program and its arguments.
        environment: its environment variables; None takes those of this process.
        timeout_s: a program that takes longer is killed; None: as long as it takes.

    Raises:
        EmpathyEdgeError: it did not end in time.
    """
    try:
        return subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as late:
        raise EmpathyEdgeError(f"{command[0]}: did not end within {late.timeout:g} s.") from None


def process_count() -> int:
    """How many processes train together; 1 outside a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that writes files and prints."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_everyone() -> None:
    """Wait until every process has called this."""
    if process_count() > 1:
        _state().wait_for_everyone()


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """The main process runs the block first; the others then find its files."""
    if not is_main():
        wait_for_everyone()
    yield
    if is_main():
        wait_for_everyone()


def from_main_process(decide: Callable[[], T]) -> T:
    """The main process's value of `decide()`, in every process."""
    if process_count() == 1:
        return decide()
    from accelerate.utils import broadcast_object_list

    _state()
    answer = [decide() if is_main() else None]
    return cast("T", broadcast_object_list(answer)[0])


def _state() -> Any:
    from accelerate import PartialState

    from empathy_edge.system.device import chosen_device

    return PartialState(cpu=chosen_device() == "cpu", timeout=LONGEST_WAIT)
