"""Thousands of calls in flight: every answer is kept, and memory does not grow with their number."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("openai")

from empathy_edge.bench.scale_calls import measure
from empathy_edge.errors import PrerequisiteError
from empathy_edge.llm.connections import transport_for
from empathy_edge.llm.keeping import Keeper
from empathy_edge.llm.ledger import Entry, Ledger
from empathy_edge.llm.records import Answer, Request


def test_ten_thousand_calls_are_kept_and_memory_stays_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    found = measure(10_000, parallel=1024)
    assert (found.calls, found.kept) == (10_000, 10_000)
    early_mb, late_mb = found.anonymous_mb
    assert late_mb < early_mb + 20


def _entry(number: int) -> Entry:
    request = Request(messages=({"role": "user", "content": f"I lost {number}."},))
    return Entry(str(number), "model", request, Answer(f"Oh, {number}.", 1, 1))


def test_answers_that_arrive_while_others_are_written_are_written_too(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        keeper = Keeper(ledger)

        async def keep_in_turn() -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(200):
                    group.create_task(keep(number))
                    await asyncio.sleep(0.0005)

        async def keep(number: int) -> None:
            await keeper.keep(_entry(number))
            with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as other:  # it is on the disk by now
                assert other.execute("SELECT 1 FROM answers WHERE key = ?", (str(number),)).fetchone()

        asyncio.run(keep_in_turn())


def test_what_waits_when_the_calls_are_left_is_kept_at_the_end(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        keeper = Keeper(ledger)
        written = threading.Event()
        record_all = ledger.record_all

        def slowly(entries: list[Entry]) -> None:
            written.wait(10)
            record_all(entries)

        async def leave() -> None:
            first = asyncio.create_task(keeper.keep(_entry(1)))
            await asyncio.sleep(0.05)
            second = asyncio.create_task(keeper.keep(_entry(2)))
            await asyncio.sleep(0.05)
            first.cancel()
            second.cancel()
            written.set()

        ledger.record_all = slowly  # type: ignore[method-assign, assignment]
        asyncio.run(leave())
        keeper.close()
        assert ledger.find("1") and ledger.find("2")


def test_more_calls_than_open_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 1024))
    with pytest.raises(PrerequisiteError, match="need 2304 open files; this system allows 1024"):
        transport_for(2048)
