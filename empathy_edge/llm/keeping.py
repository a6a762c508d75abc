"""Answers kept in the ledger many at a time: writing to the disk takes as long for one as for a hundred."""

from __future__ import annotations

import asyncio

from empathy_edge.llm.ledger import Entry, Ledger


class Keeper:
    """Keeps answers while others arrive.

    A thread writes all that wait in one transaction; what arrives meanwhile waits for the next one.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[tuple[Entry, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def keep(self, entry: Entry) -> None:
        """Returns when the answer is on the disk."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, future))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await asyncio.shield(future)

    def close(self) -> None:
        """Keep what still waits: a second Ctrl-C ends the calls, but their answers are paid for."""
        entries = [entry for entry, _ in self._waiting]
        self._waiting = []
        self._ledger.record_all(entries)

    async def _write(self) -> None:
        while self._waiting:
            now = list(self._waiting)  # what arrives while these are written waits in the list
            try:
                await asyncio.to_thread(self._ledger.record_all, [entry for entry, _ in now])
            except Exception as error:
                self._waiting = self._waiting[len(now) :]
                for _, future in now:
                    if not future.done():
                        future.set_exception(error)
                continue
            self._waiting = self._waiting[len(now) :]
            for _, future in now:
                if not future.done():
                    future.set_result(None)
