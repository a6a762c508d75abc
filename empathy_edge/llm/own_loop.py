"""An event loop for calls to a model, also in a notebook, whose cells are run in a loop already."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


class OwnLoop:
    """Runs coroutines to their end, one after the other, all in one loop: connections belong to a loop.

    A thread can run one loop only. Where it runs one, as the thread of a notebook's cells does, the
    coroutines are run in a thread of their own.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._thread: ThreadPoolExecutor | None = None
        self._task: asyncio.Task[Any] | None = None

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run it to its end.

        Raises:
            KeyboardInterrupt: Ctrl-C, or a notebook's stop; the work was cancelled and came to its end.
        """
        if self._thread is None and not _a_loop_runs_here():
            return self._runner.run(work)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "calls")
        return self._wait(self._thread.submit(self._runner.run, self._remembered(work)))

    def close(self) -> None:
        """Close the loop; waits for the threads that it started."""
        if self._thread is None:
            self._runner.close()
        else:
            self._thread.submit(self._runner.close).result()
            self._thread.shutdown()

    async def _remembered(self, work: Coroutine[Any, Any, Result]) -> Result:
        self._task = asyncio.current_task()
        return await work

    def _wait(self, running: Future[Result]) -> Result:
        """Wait for the other thread. Each interrupt cancels the work once, as `asyncio.Runner` does it."""
        is_interrupted = False
        while True:
            try:
                return running.result()
            except KeyboardInterrupt:
                if running.done() or self._task is None:
                    raise
                is_interrupted = True
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)
            except asyncio.CancelledError:
                if is_interrupted:
                    raise KeyboardInterrupt from None
                raise


def _a_loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
