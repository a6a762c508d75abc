"""The Batch API's endpoints on loopback: files, batches, output and error files, expiry."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class BatchServer:
    """Each batch is finished after `looks` retrievals.

    `script` says how the nth batch ends: completed, partial (every third request fails) or expired (with two
    answers).
    """

    def __init__(
        self,
        script: list[str],
        looks: int = 2,
        *,
        text: str = "",
        refuses: tuple[str, ...] = (),
        names_parameter: bool = True,
    ) -> None:
        """Make a server.

        Args:
            script: how each batch ends.
            looks: after how many retrievals.
            text: of every answer.
            refuses: parameters that get HTTP 400.
            names_parameter: whether that says which one in a field of its own.
        """
        self._names_parameter = names_parameter
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.paid: list[str] = []
        self.is_broken = self.is_of_another = False
        self._script, self._looks, self._text, self._refuses = script, looks, text, refuses
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/files":
                    outer._upload(self, body)
                else:
                    outer._create(self, json.loads(body))

            def do_GET(self) -> None:
                if outer.is_broken:
                    self.send_error(403)
                    return
                path = self.path.split("?")[0]
                if outer.is_of_another and path.startswith("/v1/batches/"):
                    self.send_error(404)
                    return
                if path == "/v1/models":
                    self.send_error(404)
                elif path.endswith("/content"):
                    _send(self, outer.files[path.split("/")[3]], "application/jsonl")
                elif path == "/v1/batches":
                    data = [outer._public(batch) for batch in outer.batches.values()]
                    _send(self, json.dumps({"object": "list", "data": data, "has_more": False}).encode())
                else:
                    outer._retrieve(self, path.rsplit("/", 1)[1])

            def log_message(self, *arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> BatchServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _upload(self, handler: Any, body: bytes) -> None:
        boundary = re.search(r"boundary=(\S+)", handler.headers["Content-Type"])
        assert boundary is not None
        parts = body.split(b"--" + boundary[1].encode())
        part = next(part for part in parts if b'filename="' in part)
        name = f"file-{len(self.files)}"
        self.files[name] = part.split(b"\r\n\r\n", 1)[1].rstrip(b"\r\n")
        answer = {
            "id": name,
            "object": "file",
            "bytes": len(body),
            "created_at": 0,
            "filename": "requests.jsonl",
            "purpose": "batch",
            "status": "processed",
        }
        _send(handler, json.dumps(answer).encode())

    def _create(self, handler: Any, body: dict[str, Any]) -> None:
        name = f"batch_{len(self.batches)}"
        requests = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        self.asked += [row["custom_id"] for row in requests]
        self.batches[name] = {
            "id": name,
            "requests": requests,
            "looks": 0,
            "end": self._script[len(self.batches)],
            "metadata": body.get("metadata"),
            "status": "in_progress",
            "output_file_id": None,
            "error_file_id": None,
            "input_file_id": body["input_file_id"],
        }
        _send(handler, json.dumps(self._public(self.batches[name])).encode())

    def _retrieve(self, handler: Any, name: str) -> None:
        batch = self.batches[name]
        batch["looks"] += 1
        if batch["looks"] >= self._looks and batch["status"] == "in_progress":
            self._finish(batch)
        _send(handler, json.dumps(self._public(batch)).encode())

    def _finish(self, batch: dict[str, Any]) -> None:
        good, bad = [], []
        for place, row in enumerate(batch["requests"]):
            wrong = next((name for name in self._refuses if name in row["body"]), None)
            if wrong:
                message = f"Unsupported parameter: '{wrong}' is not supported with this model."
                if wrong == "max_tokens":
                    message += " Use 'max_completion_tokens' instead."
                body = {"error": {"message": message, "param": wrong if self._names_parameter else None}}
                bad.append({"custom_id": row["custom_id"], "response": {"status_code": 400, "body": body}})
            elif batch["end"] == "partial" and place % 3 == 0:
                error = {"status_code": 500, "body": {"error": {"message": "oops"}}}
                bad.append({"custom_id": row["custom_id"], "response": error, "error": None})
            elif batch["end"] != "expired" or place < 2:
                self.paid.append(row["custom_id"])
                text = self._text or f"Batched {row['custom_id'][:40]}, that must weigh on you."
                body = {
                    "choices": [{"message": {"role": "assistant", "content": text}}],
                    "usage": {"prompt_tokens": 10, "completion_tokens": 5},
                }
                good.append({"custom_id": row["custom_id"], "response": {"status_code": 200, "body": body}})
        batch["status"] = "expired" if batch["end"] == "expired" else "completed"
        for field, rows in (("output_file_id", good), ("error_file_id", bad)):
            if rows:
                batch[field] = f"file-{field}-{batch['id']}"
                lines = [json.dumps(row, ensure_ascii=False) for row in reversed(rows)]
                self.files[batch[field]] = "\n".join(lines).encode()

    def _public(self, batch: dict[str, Any]) -> dict[str, Any]:
        kept = {
            key: batch[key]
            for key in ("id", "status", "output_file_id", "error_file_id", "metadata", "input_file_id")
        }
        return {
            **kept,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "created_at": 0,
        }


def _send(handler: Any, content: bytes, kind: str = "application/json") -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
