"""An OpenAI-compatible endpoint on loopback that answers, and fails in every way that endpoints fail."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("429", "500", "timeout", "cut before", "cut after", "malformed", "no choices", "empty", "drip")

MOST_FAULTS = 4
"""No request fails more often than this, so that a client that tries again must get every answer in the end."""


class FaultServer:
    """Serves `/v1/chat/completions`; an answer is paid for once for each Idempotency-Key, as real endpoints do."""

    def __init__(
        self,
        *,
        fault_rate: float = 0.4,
        served_model: str | None = None,
        seed: int = 0,
        answer: Callable[[str], str] | None = None,
        structured: bool = True,
    ) -> None:
        self.paid: dict[str, dict[str, int]] = {}
        self.faults: dict[str, int] = dict.fromkeys(FAULTS, 0)
        self.requests = 0
        self.too_early = 0
        self.keys_seen: set[str] = set()
        self.formats: list[dict[str, Any] | None] = []
        self._fault_rate, self._served_model, self._answer = fault_rate, served_model, answer
        self._structured = structured
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._not_before: dict[str, float] = {}
        self._failed: dict[str, int] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._serve(self)

            def log_message(self, *arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> FaultServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, handler: Any) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        key = handler.headers["Idempotency-Key"]
        with self._lock:
            self.requests += 1
            self.formats.append(body.get("response_format"))
            self.keys_seen.add(handler.headers.get("Authorization", ""))
            if time.monotonic() < self._not_before.pop(key, 0.0):
                self.too_early += 1
            fault = self._random.choice(FAULTS) if self._random.random() < self._fault_rate else None
            if self._failed.get(key, 0) >= MOST_FAULTS:
                fault = None
            if fault:
                self.faults[fault] += 1
                self._failed[key] = self._failed.get(key, 0) + 1
        try:
            self._respond(handler, body, key, fault)
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True

    def _respond(self, handler: Any, body: dict[str, Any], key: str, fault: str | None) -> None:
        if fault == "429":
            with self._lock:
                self._not_before[key] = time.monotonic() + 0.2
            return _send(handler, 429, b'{"error": {"message": "slow down"}}', {"Retry-After": "0.2"})
        if fault == "500":
            return _send(handler, 500, b'{"error": {"message": "oops"}}')
        if fault == "cut before":
            handler.close_connection = True
            return handler.connection.close()
        if fault == "malformed":
            return _send(handler, 200, b'{"id": "x", "choices": [{"mess')
        if fault == "no choices":
            return _send(
                handler, 200, json.dumps({"id": "x", "object": "chat.completion", "choices": []}).encode()
            )
        if fault == "timeout":
            time.sleep(2.5)
        if body.get("response_format") and not self._structured:
            return _send(handler, 400, b'{"error": {"message": "response_format is not known here"}}')
        said = body["messages"][-1]["content"]
        words = hashlib.sha256(said.encode()).hexdigest()
        text = (
            ""
            if fault == "empty"
            else f"I hear you, and it sounds like a lot: {' '.join(words[i : i + 6] for i in range(0, 60, 6))}."
        )
        if text and self._answer:
            text = self._answer(said)
        usage = {"prompt_tokens": len(said) // 4, "completion_tokens": 20}
        if text:
            with self._lock:
                self.paid.setdefault(key, usage)
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": self._served_model or body["model"],
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            ],
            "usage": {**usage, "total_tokens": sum(usage.values())},
        }
        content = json.dumps(answer).encode()
        if fault == "cut after":
            handler.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                % len(content)
            )
            handler.wfile.write(content[: len(content) // 2])
            handler.close_connection = True
            return handler.connection.close()
        if fault == "drip":
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            for start in range(0, len(content), 100):
                handler.wfile.write(content[start : start + 100])
                handler.wfile.flush()
                time.sleep(0.03)
            return None
        return _send(handler, 200, content)


def _send(handler: Any, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)
