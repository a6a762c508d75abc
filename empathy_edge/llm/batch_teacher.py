"""The OpenAI Batch API: half the price, answers within a day, fetched by whichever process asks next.

Requests that are asked at the same time go into one batch. Which batch holds which request is written into the ledger
before anything else happens, so that another process, tomorrow, waits for the same batch instead of paying again.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from typing import Any

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.llm.budget import Price, cost_usd
from empathy_edge.llm.ledger import Ledger
from empathy_edge.llm.openai_teacher import open_client
from empathy_edge.llm.records import Answer, Request, TeacherError
from empathy_edge.system.files import sha256_json

MOST_IN_A_BATCH = 50_000
QUIET_S = 0.3
"""A batch is sent when no new request came for so long."""

OVER = ("completed", "failed", "expired", "cancelled")
DISCOUNT = 0.5
MARK = "empathy-edge"


class BatchPending(EmpathyEdgeError):
    """A batch is on its way; run the same command later to fetch it."""

    exit_code = 3


class BatchTeacher:
    """Asks in batches; with `wait` it polls until they are done, without it says when to come back."""

    parallel = MOST_IN_A_BATCH

    def __init__(
        self,
        model: str,
        ledger: Ledger,
        *,
        base_url: str | None = None,
        price: Price | None = None,
        wait: bool = True,
        poll_s: float = 30.0,
        tries: int = 3,
    ) -> None:
        self.model = model
        self._client = open_client(base_url, timeout_s=120.0, max_retries=6)
        self._ledger, self._price, self._wait, self._poll_s, self._tries = ledger, price, wait, poll_s, tries
        self._waiting: dict[str, tuple[Request, asyncio.Future[Answer]]] = {}
        self._unsent: set[str] = set()
        self._sendings: Counter[str] = Counter()
        self._last = 0.0
        self._driver: asyncio.Task[None] | None = None

    async def answer(self, request: Request, key: str) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[key] = (request, future)
        if self._ledger.batch_of(key) is None:
            self._unsent.add(key)
        self._last = asyncio.get_running_loop().time()
        if self._driver is None or self._driver.done():
            self._driver = asyncio.create_task(self._drive())
        return await future

    async def close(self) -> None:
        if self._driver is not None:
            self._driver.cancel()
        await self._client.close()

    async def _drive(self) -> None:
        """Send what is unsent, fetch what is over, until nobody waits."""
        try:
            while self._waiting:
                while asyncio.get_running_loop().time() - self._last < QUIET_S:
                    await asyncio.sleep(QUIET_S / 3)
                if self._unsent:
                    await self._send()
                if not await self._fetch() and self._waiting and not self._unsent:
                    if not self._wait:
                        raise BatchPending(
                            f"{len(self._waiting)} requests are in batches that are not done yet.\n"
                            "  Run the same command again later: it fetches them, and nothing is paid twice."
                        )
                    await asyncio.sleep(self._poll_s)
        except Exception as error:
            wrapped = (
                error
                if isinstance(error, EmpathyEdgeError)
                else TeacherError(f"the batch API failed: {error}")
            )
            for _, future in self._waiting.values():
                if not future.done():
                    future.set_exception(wrapped)
            self._waiting.clear()
            self._unsent.clear()

    async def _send(self) -> None:
        keys = sorted(self._unsent)[:MOST_IN_A_BATCH]
        lines = [
            json.dumps(
                {
                    "custom_id": key,
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": {
                        "model": self.model,
                        "messages": list(self._waiting[key][0].messages),
                        "temperature": self._waiting[key][0].temperature,
                        "max_tokens": self._waiting[key][0].max_tokens,
                        "seed": self._waiting[key][0].sample,
                        **self._waiting[key][0].structured_output,
                    },
                }
            )
            for key in keys
        ]
        mark = sha256_json([keys, [self._sendings[key] for key in keys]])[:32]
        batch_id = await self._find(mark)
        if batch_id is None:
            content = io.BytesIO("\n".join(lines).encode())
            file = await self._client.files.create(file=("requests.jsonl", content), purpose="batch")
            batch = await self._client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={MARK: mark},
            )
            batch_id = batch.id
        self._ledger.record_batch(batch_id, self.model, keys)
        say(f"  batch {batch_id}: {len(keys)} requests sent")
        self._unsent -= set(keys)
        self._sendings.update(keys)

    async def _find(self, mark: str) -> str | None:
        """A batch of these very requests that was created when a process was killed before it could write it down."""
        for batch in (await self._client.batches.list(limit=100)).data:
            if (batch.metadata or {}).get(MARK) == mark and batch.status not in ("failed", "cancelled"):
                return batch.id
        return None

    async def _fetch(self) -> bool:
        """Look at every batch that somebody waits for; returns whether anything was over."""
        progress = False
        for batch_id in sorted({known for key in self._waiting if (known := self._ledger.batch_of(key))}):
            batch = await self._client.batches.retrieve(batch_id)
            if batch.status not in OVER:
                continue
            progress = True
            found: dict[str, Answer] = {}
            errors: dict[str, str] = {}
            for file_id in (batch.output_file_id, batch.error_file_id):
                if file_id:
                    text = (await self._client.files.content(file_id)).text
                    for line in text.splitlines():
                        self._read_line(line, found, errors)
            for key in self._ledger.close_batch(batch_id):
                if key not in self._waiting:
                    continue
                _, future = self._waiting[key]
                if key in found:
                    del self._waiting[key]
                    future.set_result(found[key])
                elif self._sendings[key] < self._tries:
                    self._unsent.add(key)
                else:
                    del self._waiting[key]
                    reason = errors.get(key, f"the batch is {batch.status} without an answer")
                    future.set_exception(TeacherError(f"given up after {self._tries} batches: {reason}"))
        return progress

    def _read_line(self, line: str, found: dict[str, Answer], errors: dict[str, str]) -> None:
        try:
            row: dict[str, Any] = json.loads(line)
            key = row["custom_id"]
        except (ValueError, KeyError, TypeError):
            return
        try:
            body = row["response"]["body"]
            text = body["choices"][0]["message"]["content"]
            usage = body.get("usage") or {}
            tokens = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))
        except (KeyError, IndexError, TypeError):
            errors[key] = str(row.get("error") or row.get("response"))[:200]
            return
        if not isinstance(text, str) or not text.strip():
            errors[key] = "an empty answer"
            return
        cost = cost_usd(self._price, *tokens)
        found[key] = Answer(text, *tokens, None if cost is None else DISCOUNT * cost)
