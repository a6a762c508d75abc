"""An OpenAI-compatible endpoint on loopback that answers, and fails in every way that endpoints fail."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = (
    "429", "500", "timeout", "cut before", "cut after", "malformed", "html", "no choices", "empty", "drip",
)  # fmt: skip

MAX_FAULTS = 4
"""No request fails more often than this, so that a client that tries again gets every answer in the end."""

PAGE = b"<html><body>Bad gateway, try again later.</body></html>"
"""What proxies answer, some of them with status 200."""

ERRORS = {
    "429": (429, b'{"error": {"message": "slow down"}}', {"Retry-After": "0.2"}),
    "500": (500, b'{"error": {"message": "oops"}}', {}),
    "malformed": (200, b'{"id": "x", "choices": [{"mess', {}),
    "no choices": (200, b'{"id": "x", "object": "chat.completion", "choices": []}', {}),
}
"""Faults that are a response of their own: status, body, headers."""


@dataclass
class FaultServer:
    """Serves `/v1/chat/completions`; an answer is paid once per Idempotency-Key, as at real endpoints.

    Attributes:
        fault_rate: the share of requests that fail.
        served_model: what the answers name as their model; None: the one asked for.
        seed: for the faults.
        answer: the text of an answer, from the last message.
        structured: whether `response_format` is known.
        refuses: parameters that get HTTP 400, as models that reason give it.
        completion: fields of the first choice and `usage`, from the last message.
        delay_s: before each answer, which is paid when the request comes.
        kinds: the faults.
        reported: what the list of models says of the model; None: there is no such list.
        unreadable: whether the list of models cannot be had now (HTTP 429).
        failing: last messages with any of these words get HTTP 400.
        filtered: last messages with any of these words get HTTP 400 with the code of a content filter.
        paid: the usage of each answer, by Idempotency-Key.
        port: to listen on; 0: any.
    """

    fault_rate: float = 0.4
    served_model: str | None = None
    seed: int = 0
    answer: Callable[[str], str] | None = None
    structured: bool = True
    refuses: tuple[str, ...] = ()
    completion: Callable[[str], dict[str, Any]] | None = None
    delay_s: float = 0.0
    kinds: tuple[str, ...] = FAULTS
    reported: dict[str, Any] | None = None
    unreadable: bool = False
    failing: tuple[str, ...] = ()
    filtered: tuple[str, ...] = ()
    paid: dict[str, dict[str, int]] = field(default_factory=dict)
    port: int = 0

    def __post_init__(self) -> None:
        self.faults = dict.fromkeys(FAULTS, 0)
        self.requests, self.refused, self.too_early = 0, 0, 0
        self.keys_seen: set[str] = set()
        self.formats: list[dict[str, Any] | None] = []
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()
        self._dead = False
        self._not_before: dict[str, float] = {}
        self._failed: dict[str, int] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._serve(self)

            def do_GET(self) -> None:
                if outer.unreadable:
                    _send(self, 429, b"{}")
                elif outer.reported is None:
                    _send(self, 404, b"{}")
                else:
                    listed = {"object": "list", "data": [{"object": "model", "created": 0, **outer.reported}]}
                    _send(self, 200, json.dumps(listed).encode())

            def log_message(self, *arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> FaultServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._dead = True  # connections that are open get no answer either
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, handler: Any) -> None:
        if self._dead:
            handler.close_connection = True
            handler.connection.close()
            return
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        key = handler.headers["Idempotency-Key"]
        with self._lock:
            self.requests += 1
            self.formats.append(body.get("response_format"))
            self.keys_seen.add(handler.headers.get("Authorization", ""))
            if time.monotonic() < self._not_before.pop(key, 0.0):
                self.too_early += 1
            fault = self._random.choice(self.kinds) if self._random.random() < self.fault_rate else None
            if self._failed.get(key, 0) >= MAX_FAULTS:
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
        if fault == "html":
            _send(handler, 200, PAGE, kind="text/html")
            return
        if fault in ERRORS:
            _send(handler, *ERRORS[fault])
            return
        if fault == "cut before":
            handler.close_connection = True
            handler.connection.close()
            return
        if fault == "timeout":
            time.sleep(2.5)
        if body.get("response_format") and not self.structured:
            _send(handler, 400, b'{"error": {"message": "response_format is not known here"}}')
            return
        if any(words in body["messages"][-1]["content"] for words in self.failing):
            _send(handler, 400, b'{"error": {"message": "not today"}}')
            return
        if any(words in body["messages"][-1]["content"] for words in self.filtered):
            _send(handler, 400, b'{"error": {"message": "not allowed", "code": "content_filter"}}')
            return
        wrong = next((name for name in self.refuses if name in body), None)
        if wrong:
            with self._lock:
                self.refused += 1
            message = f"Unsupported parameter: '{wrong}' is not supported with this model."
            error = {"message": message, "type": "invalid_request_error", "param": wrong}
            _send(handler, 400, json.dumps({"error": error}).encode())
            return
        content = self._completion(body, key, empty=fault == "empty")
        time.sleep(self.delay_s)
        if fault == "cut after":
            _send_half(handler, content)
        elif fault == "drip":
            _send_slowly(handler, content)
        else:
            _send(handler, 200, content)

    def _completion(self, body: dict[str, Any], key: str, *, empty: bool) -> bytes:
        """The response to a request; it is paid unless it is empty."""
        said = body["messages"][-1]["content"]
        text = ""
        if not empty:
            text = self.answer(said) if self.answer else _answer_of_hash(said)
        usage: dict[str, Any] = {"prompt_tokens": len(said) // 4, "completion_tokens": 20}
        usage["total_tokens"] = sum(usage.values())
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        if self.completion and not empty:
            special = self.completion(said)
            usage |= special.pop("usage", {})
            choice |= special
        if text:
            with self._lock:
                self.paid.setdefault(key, usage)
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": self.served_model or body["model"],
            "system_fingerprint": "fp_test",
            "choices": [choice],
            "usage": usage,
        }
        return json.dumps(answer).encode()


WORDS = (
    "after", "again", "almost", "always", "around", "because", "before", "behind", "being", "below",
    "better", "between", "both", "bring", "broken", "brother", "building", "called", "change",
    "children", "close", "coming", "could", "daughter", "different", "door", "during", "early",
    "enough", "evening", "every", "family", "father", "feeling", "finding", "follow", "friend",
    "garden", "getting", "giving", "going", "green", "happened", "having", "heart", "helping", "house",
    "hundred", "important", "inside", "keeping", "knowing", "large", "later", "leaving",
    "letter", "little", "living", "long", "looking", "losing", "making", "many", "maybe", "might",
    "minute", "moment", "money", "morning", "mother", "moving", "music", "myself", "nearly", "needed",
    "never",
)  # fmt: skip
"""English, since answers in other languages are left out."""


def _answer_of_hash(said: str) -> str:
    """A text that differs for every request."""
    digest = hashlib.sha256(said.encode()).digest()
    words = [WORDS[byte % len(WORDS)] for byte in digest[:10]]
    return f"I hear you, and it sounds like a lot: {' '.join(words)}."


def _send_half(handler: Any, content: bytes) -> None:
    _send_head(handler, 200, len(content))
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True
    handler.connection.close()


def _send_slowly(handler: Any, content: bytes) -> None:
    _send_head(handler, 200, len(content))
    for start in range(0, len(content), 100):
        handler.wfile.write(content[start : start + 100])
        handler.wfile.flush()
        time.sleep(0.03)


def _send(
    handler: Any,
    status: int,
    content: bytes,
    headers: dict[str, str] | None = None,
    kind: str = "application/json",
) -> None:
    _send_head(handler, status, len(content), headers, kind)
    handler.wfile.write(content)


def _send_head(
    handler: Any,
    status: int,
    length: int,
    headers: dict[str, str] | None = None,
    kind: str = "application/json",
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(length))
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.end_headers()
