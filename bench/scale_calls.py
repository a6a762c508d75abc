"""How many calls a second our own code can make: many requests to a server on loopback that answers at once.

Run as `python -m empathy_edge.bench.scale_calls 10000 --parallel 256`. The server is a process of its own; it
speaks just enough HTTP, so that the client's cost is what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import tempfile
import time
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.llm.budget import FREE, Budget
from empathy_edge.llm.client import ModelClient
from empathy_edge.llm.ledger import Ledger
from empathy_edge.llm.records import Request
from empathy_edge.llm.teachers import open_teacher
from empathy_edge.system.memory import memory_mb

MODEL = "loopback"


class Measured(NamedTuple):
    """What the calls took.

    Attributes:
        calls: answered ones.
        seconds: from the first call to the last answer.
        cpu_s: processor time of this process meanwhile, the server's not included.
        anonymous_mb: memory after a tenth of the calls, and at the end, in MB (10^6 bytes).
        kept: answers in the ledger.
    """

    calls: int
    seconds: float
    cpu_s: float
    anonymous_mb: tuple[float, float]
    kept: int


def serve(port: Connection, delay_s: float) -> None:
    """Answer `chat/completions` on a free port of loopback, each after `delay_s`, until the process ends."""

    async def main() -> None:
        server = await asyncio.start_server(
            lambda reader, writer: _answer(reader, writer, delay_s), "127.0.0.1", 0, backlog=4096
        )
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    completion = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "That sounds hard. " * 15},
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 60, "total_tokens": 160},
    }
    body = json.dumps(completion).encode()
    response = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    int(line[15:])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                ),
                0,
            )
            await reader.readexactly(length)
            if delay_s:
                await asyncio.sleep(delay_s)
            writer.write(response)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def measure(count: int, parallel: int, delay_s: float = 0.0) -> Measured:
    """Make `count` different calls, `parallel` at the same time, with a ledger of their own."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, delay_s), daemon=True)
    server.start()
    api = ApiSettings(base_url=f"http://127.0.0.1:{ours.recv()}/v1", parallel=parallel)
    early: list[float] = []

    async def ask(number: int) -> int:
        said = f"Message {number}: my week was long, and nobody asked how I was. " * 6
        await client.ask(Request(messages=({"role": "user", "content": said},), purpose=f"{number} initial"))
        if number == count // 10:
            early.append(memory_mb()["anonymous"])
        return number

    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            closing(Ledger(Path(folder) / "ledger.sqlite")) as ledger,
        ):
            teacher = open_teacher(f"openai:{MODEL}", ledger, api, price=FREE, timeout_s=600)
            with closing(ModelClient(teacher, ledger, Budget(FREE))) as client:
                client.identity()
                start, start_cpu = time.perf_counter(), time.process_time()
                client.run(range(count), ask, label="calls")
                seconds, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
                calls = client.calls
            memory = (early[0], memory_mb()["anonymous"])
            return Measured(calls, seconds, cpu_s, memory, sum(item.calls for item in ledger.spent()))
    finally:
        server.kill()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--parallel", type=int, default=256)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    options = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "none")
    found = measure(options.count, options.parallel, options.delay)
    early, late = found.anonymous_mb
    print(
        f"{found.calls} calls, {options.parallel} at the same time: {found.seconds:.1f} s, "
        f"{found.calls / found.seconds:.0f} calls/s; {found.calls / found.cpu_s:.0f} calls per second of one "
        f"core; {found.kept} in the ledger; "
        f"{early:.0f} MB after a tenth, {late:.0f} MB at the end"
    )


if __name__ == "__main__":
    main()
