"""The real command on loopback, and what a phone sends to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SHORT = (
    "--port", "0", "--prompt-tokens", "16", "--decode-tokens", "8", "--rounds", "3", "--context", "256",
    "--max-new-tokens", "16",
)  # fmt: skip
"""Options with which a bench takes little time."""


@dataclass
class Answer:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """A running `empathy-edge phone`.

    Attributes:
        process: the command's.
        url: as it printed it.
        out: the folder of results.
        said: what it wrote to stderr.
    """

    process: subprocess.Popen[str]
    url: str
    out: Path
    said: list[str] = field(default_factory=list)

    @property
    def token(self) -> str:
        return urlsplit(self.url).path.strip("/")

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """One request; `path` is sent as it is. Header names have underscores for dashes."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, name: str, **headers: str) -> Answer:
        """A file behind the token."""
        return self.ask(f"/{self.token}/{name}", **headers)

    def post(self, name: str, content: object) -> Answer:
        """Send JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.ask(f"/{self.token}/{name}", "POST", body, Content_Type="application/json")

    def stop(self) -> int:
        """Ctrl-C; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextlib.contextmanager
def serving(artifact: str | Path, out: Path, *options: str, **environment: str) -> Iterator[Served]:
    """Run the command until the block ends; options of SHORT come first, so that others override them."""
    command = [sys.executable, "-c", "from empathy_edge.cli import main; main()", "phone", str(artifact)]
    command += [*SHORT, "--out", str(out), *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    assert process.stdout is not None and process.stderr is not None
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(iter(process.stderr.readline, "")), daemon=True)
    reader.start()
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http"), "".join(said)
        served = Served(process, url, out, said)
        _wait_until_it_answers(served)
        yield served
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        reader.join(10)
        process.stdout.close()


def _wait_until_it_answers(served: Served) -> None:
    parts = urlsplit(served.url)
    assert parts.hostname is not None and parts.port is not None
    for _ in range(100):
        with contextlib.suppress(OSError):
            if parts.scheme == "https":
                ssl.get_server_certificate((parts.hostname, parts.port), timeout=10)
            else:
                served.ask("/")
            return
        time.sleep(0.1)
    raise AssertionError("the server does not answer")


def honest_upload(plan: dict[str, Any], run: str, **changes: Any) -> dict[str, Any]:
    """What the page sends when its tokens are those of the host."""
    times = [round(0.001 * (place + 1), 6) for place in range(plan["decode_tokens"])]
    upload = {
        "run": run,
        "plan": plan["sha256"],
        "device": {
            "name": "Test phone",
            "user_agent": "Mozilla/5.0 (Linux; Android 16; Pixel 8) Chrome/150",
            "cores": 8,
            "memory_gb": 8,
            "isolated": True,
            "simd": True,
            "wake_lock": False,
        },
        "load": {"fetched_bytes": plan["size_bytes"], "fetch_s": 1.5, "load_s": 0.5},
        "threads": 4,
        "answers": [
            {"prompt_ids": item["prompt_ids"], "reply_ids": item["reply_ids"]} for item in plan["comparisons"]
        ],
        "samples": [{"token_times_s": times} for _ in range(plan["rounds"])],
        "windows": [],
        "hidden": 0,
    }
    return {**upload, **changes}


def foreign_hosts(text: str) -> set[str]:
    """Hosts that a page names, apart from those of XML's name spaces."""
    return set(re.findall(r"https?://([\w.-]+)", text)) - {"www.w3.org"}
