"""Thousands of calls in flight: every answer is kept, and memory does not grow with their number."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

import httpx2

from empathy_edge.bench.scale_calls import measure
from empathy_edge.errors import PrerequisiteError
from empathy_edge.llm.budget import Budget
from empathy_edge.llm.client import ModelClient
from empathy_edge.llm.connections import ManyPools, transport_for
from empathy_edge.llm.keeping import Keeper
from empathy_edge.llm.ledger import Entry, KnownEndpoint, Ledger
from empathy_edge.llm.local_teachers import FileTeacher
from empathy_edge.llm.openai_teacher import OpenAITeacher
from empathy_edge.llm.records import Answer, Request
from tests.conftest import write_rows
from tests.llm.fault_server import FaultServer


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


def _keep_all(keeper: Keeper, entries: list[Entry]) -> list[BaseException | None]:
    async def keep() -> list[BaseException | None]:
        return await asyncio.gather(*(keeper.keep(entry) for entry in entries), return_exceptions=True)

    return asyncio.run(keep())


@pytest.mark.parametrize("fault", [{"prompt_tokens": 10**20}, {"served": "half \ud800"}])
def test_an_answer_that_cannot_be_kept_takes_no_other_with_it(fault: dict[str, Any], tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        keeper = Keeper(ledger)
        bad = _entry(50)
        entries = [*map(_entry, range(50)), bad._replace(answer=replace(bad.answer, **fault))]
        errors = _keep_all(keeper, [*entries, *map(_entry, range(51, 100))])
        assert [place for place, error in enumerate(errors) if error] == [50]
        assert sum(item.calls for item in ledger.spent()) == 99


def test_answers_of_a_file_that_was_locked_are_kept_later(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        keeper = Keeper(ledger)
        ledger._writer.execute("PRAGMA busy_timeout = 10")
        with closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            errors = _keep_all(keeper, list(map(_entry, range(100))))
            assert {type(error) for error in errors} == {sqlite3.OperationalError}
            other.execute("COMMIT")
        keeper.close()
        assert sum(item.calls for item in ledger.spent()) == 100


def test_a_second_interrupt_at_the_end_loses_no_answer(tmp_path: Path) -> None:
    class Interrupted(FileTeacher):
        async def close(self) -> None:
            raise KeyboardInterrupt

    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        teacher = Interrupted(write_rows(tmp_path / "answers.jsonl", {"id": "a", "text": "Oh."}))
        client = ModelClient(teacher, ledger, Budget(None))
        client._keeper._waiting.append((_entry(1), client._loop._runner.get_loop().create_future()))
        with pytest.raises(KeyboardInterrupt):
            client.close()
        assert ledger.find("1")


@pytest.mark.parametrize("count", ["1e999", "-1e999", "NaN", "1e30", "100000000000000000000"])
def test_counts_that_are_no_counts_lose_no_answer(
    count: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    usage = {"prompt_tokens": float(count) if "e" in count or count == "NaN" else int(count)}
    with (
        FaultServer(fault_rate=0, completion=lambda text: {"usage": usage}) as server,
        closing(Ledger(tmp_path / "ledger.sqlite")) as ledger,
    ):
        teacher = OpenAITeacher("gpt-test", ledger, base_url=server.url, tries=1)
        with closing(ModelClient(teacher, ledger, Budget(None))) as client:
            (found,) = client.run([_entry(1).request], client.ask, label="calls")
        assert isinstance(found, Answer), found
        assert 0 <= found.prompt_tokens < 2**31 and sum(item.calls for item in ledger.spent()) == 1


def test_uneven_delays_open_no_more_connections_than_calls() -> None:
    opened, at_once = 0, 64

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(0.5 if int(head.split()[1][1:]) % 7 == 0 else 0.002)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOh")
        writer.close()

    async def call() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        numbers = iter(range(600))
        async with httpx2.AsyncClient(transport=ManyPools(at_once), timeout=60) as client:

            async def work() -> None:
                for number in numbers:
                    assert (await client.get(f"http://{host}:{port}/{number}")).text == "Oh"

            await asyncio.gather(*(work() for _ in range(at_once)))
        server.close()

    asyncio.run(call())
    assert at_once / 2 < opened <= at_once


def test_no_proxy_alone_is_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"no": "localhost"})
    assert isinstance(transport_for(64), ManyPools)
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy:3128"})
    assert transport_for(64) is None


def test_more_calls_than_open_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 1024))
    with pytest.raises(PrerequisiteError, match="need 2304 open files; this system allows 1024"):
        transport_for(2048)


def test_calls_that_all_failed_are_in_the_sums(tmp_path: Path) -> None:
    """A run without one answer was not shown, though its calls were paid."""
    ledger = Ledger(tmp_path / "ledger.sqlite", "run")
    ledger.record_failure("key", "gpt-test", Request(()), "the endpoint answered with another model", 0.5)
    (spent,) = ledger.spent()
    assert (spent.calls, spent.failures, spent.cost_usd) == (0, 1, 0.5)
    ledger.close()


def test_no_key_of_an_address_is_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    ledger = Ledger(file, "run")
    secret = "https://me:secret-1@host/v1?api-key=secret-2"
    ledger.record_endpoint(secret, "gpt-test", KnownEndpoint("reported", frozenset({"seed"})))
    assert ledger.endpoint(secret, "gpt-test").reported == "reported"
    assert ledger.endpoint("https://host/v1", "gpt-test").refused == {"seed"}
    ledger.close()
    assert b"secret" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
