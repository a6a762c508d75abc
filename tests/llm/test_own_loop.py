"""Calls from a thread that runs an event loop already, as a notebook's does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from empathy_edge.llm.own_loop import OwnLoop
from tests.conftest import ROOT


def in_a_notebook(work: Callable[[], Any]) -> Any:
    """Call a function as a notebook calls a cell: in a running loop, and without asyncio's own Ctrl-C."""

    async def cell() -> Any:
        return work()

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(cell())
    finally:
        loop.close()


async def loop_of_this_run() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.mark.parametrize("where", [in_a_notebook, lambda work: work()])
def test_all_runs_are_in_one_loop(where: Callable[[Callable[[], Any]], Any]) -> None:
    def work() -> bool:
        own = OwnLoop()
        first, second = own.run(loop_of_this_run()), own.run(loop_of_this_run())
        own.close()
        return first is second and first.is_closed()

    assert where(work)


def test_an_error_is_raised_where_the_result_was_wanted() -> None:
    async def fails() -> None:
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        in_a_notebook(lambda: OwnLoop().run(fails()))


def interrupted() -> None:
    """Ctrl-C comes while the work waits; run in a process of its own, whose only thread it may hit."""
    ended = []
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins without it

    async def waits() -> None:
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        in_a_notebook(lambda: OwnLoop().run(waits()))
    assert ended == [True]


@pytest.mark.skipif(os.name == "nt", reason="sends a signal to this process")
def test_an_interrupt_lets_the_work_come_to_its_end() -> None:
    script = "from tests.llm.test_own_loop import interrupted\ninterrupted()"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
