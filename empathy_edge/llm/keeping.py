"""Answers kept in the ledger many at a time: writing to the disk takes as long for one as for a hundred."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence

from empathy_edge.llm.ledger import Entry, Ledger


class Keeper:
    """Keeps answers while others arrive.

    A thread writes all that wait in one transaction; what arrives meanwhile waits for the next one. An answer
    that cannot be written takes no other with it.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[tuple[Entry, asyncio.Future[None]]] = []
        self._tried: list[Entry] = []  # the file could not be written then; at the end it may be
        self._writing: asyncio.Task[None] | None = None

    async def keep(self, entry: Entry) -> None:
        """Returns when the answer is on the disk.

        Raises:
            sqlite3.OperationalError: the file cannot be written now (locked, full); `close` tries again.
            Exception: this answer cannot be written.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, future))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await asyncio.shield(future)

    def close(self) -> None:
        """Keep what still waits: a second Ctrl-C ends the calls, but their answers are paid for.

        Raises:
            Exception: what could not be written, the first of it.
        """
        entries = [*self._tried, *(entry for entry, _ in self._waiting)]
        self._tried, self._waiting = [], []
        for error in self._record(entries):
            if error is not None:
                raise error

    async def _write(self) -> None:
        while self._waiting:
            now = list(self._waiting)  # what arrives while these are written waits in the list
            errors = await asyncio.to_thread(self._record, [entry for entry, _ in now])
            self._waiting = self._waiting[len(now) :]
            for (entry, future), error in zip(now, errors, strict=True):
                if isinstance(error, sqlite3.OperationalError):
                    self._tried.append(entry)
                if future.done():
                    continue
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

    def _record(self, entries: Sequence[Entry]) -> list[Exception | None]:
        """Write all together, or else one by one; what went wrong with each."""
        if not entries:
            return []
        try:
            self._ledger.record_all(entries)
            return [None] * len(entries)
        except Exception as error:
            if len(entries) == 1:
                return [error]
        errors: list[Exception | None] = []
        for entry in entries:
            errors += self._record([entry])
            if isinstance(errors[-1], sqlite3.OperationalError):  # each try may wait a minute for the lock
                break
        return errors + [errors[-1]] * (len(entries) - len(errors))
