"""The OpenAI Batch API: half the price, answers within a day, fetched by whichever process asks next.

Requests that come at the same time go into one batch. The ledger keeps which batch has which request, so that
another process, tomorrow, waits for the same batch instead of paying again.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.formats.json_lines import lines_of
from empathy_edge.llm.budget import Price
from empathy_edge.llm.chat_parameters import ChatParameters
from empathy_edge.llm.ledger import Ledger
from empathy_edge.llm.openai_teacher import answer_of, endpoint_url, identify, openai_client
from empathy_edge.llm.records import Answer, OtherModel, Request, TeacherError, Withheld
from empathy_edge.system.files import sha256_json

if TYPE_CHECKING:
    from openai.types import Batch

MAX_BATCH_REQUESTS = 50_000
"""The API's limit."""

QUIET_S = 0.3
"""A batch is sent when no new request came for this long."""

FINISHED = ("completed", "failed", "expired", "cancelled")
METADATA_KEY = "empathy-edge"
"""Where a batch's metadata has the hash of its requests."""


class BatchPending(EmpathyEdgeError):
    """A batch is not finished; the same command fetches it later."""

    exit_code = 3


class _Pending(NamedTuple):
    """A request that has no answer yet, and where the answer goes."""

    request: Request
    future: asyncio.Future[Answer]


@dataclass(frozen=True)
class _BatchOutput:
    """The answers and the errors of a finished batch, by the request's key; `refused`: send again without."""

    answers: dict[str, Answer] = field(default_factory=dict)
    errors: dict[str, TeacherError] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class BatchTeacher:
    """Asks in batches. With `wait` it polls until they are finished; without, it raises BatchPending."""

    parallel = MAX_BATCH_REQUESTS
    tries = 1
    former_identity: str | None = None

    def __init__(
        self,
        model: str,
        ledger: Ledger,
        *,
        base_url: str | None = None,
        price: Price | None = None,
        wait: bool = True,
        poll_s: float = 30.0,
        times: int = 3,
    ) -> None:
        self.model = model
        self._endpoint = endpoint_url(base_url)
        self._parameters = ChatParameters(ledger, self._endpoint, model)
        self._client = openai_client(base_url, timeout_s=120.0, max_retries=6)
        self._ledger = ledger
        self._price = price
        self._wait = wait
        self._poll_s = poll_s
        self._times = times
        self._pending: dict[str, _Pending] = {}
        self._unsent: set[str] = set()
        self._times_sent: Counter[str] = Counter()
        self._last_request_s = 0.0
        self._driver: asyncio.Task[None] | None = None

    @property
    def reasoning_tokens(self) -> int:
        return self._parameters.reasoning_tokens

    async def identity(self) -> str:
        """Another than that of single calls: their answers are not exchanged, since their prices differ."""
        return "batch " + await identify(self._client, self._endpoint, self._parameters)

    async def answer(self, request: Request, key: str) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending[key] = _Pending(request, future)
        if self._ledger.batch_of(key) is None:
            self._unsent.add(key)
        self._last_request_s = asyncio.get_running_loop().time()
        if self._driver is None or self._driver.done():
            self._driver = asyncio.create_task(self._drive())
        return await future

    def interrupt(self) -> None:
        """Leave the batches to another process: the ledger knows them."""
        if self._driver is not None:
            self._driver.cancel()
        self._fail_all(EmpathyEdgeError("interrupted"))

    async def close(self) -> None:
        if self._driver is not None:
            self._driver.cancel()
        await self._client.close()

    async def _drive(self) -> None:
        """Send and fetch until every request has its answer; an error is the answer to all that are left."""
        try:
            while self._pending:
                await self._until_quiet()
                if self._unsent:
                    await self._send()
                if not await self._fetch() and self._pending and not self._unsent:
                    if not self._wait:
                        raise BatchPending(
                            f"{len(self._pending)} requests are in batches that are not done yet.\n"
                            "  Run the same command again later: it fetches them, and nothing is paid twice."
                        )
                    await asyncio.sleep(self._poll_s)
        except EmpathyEdgeError as error:
            self._fail_all(error)
        except Exception as error:
            self._fail_all(
                PrerequisiteError(
                    f"The Batch API failed ({str(error)[:200]}).",
                    "Run the same command again: batches that were sent are fetched, not paid again.",
                )
            )

    def _fail_all(self, error: EmpathyEdgeError) -> None:
        """End every request that waits; nothing is recorded as failed."""
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(error)
        self._pending.clear()
        self._unsent.clear()

    async def _until_quiet(self) -> None:
        """Wait until no new request came for QUIET_S."""
        while asyncio.get_running_loop().time() - self._last_request_s < QUIET_S:
            await asyncio.sleep(QUIET_S / 3)

    async def _send(self) -> None:
        """Send the unsent requests as one batch, or find the batch that a killed process sent."""
        keys = sorted(self._unsent)[:MAX_BATCH_REQUESTS]
        requests_hash = sha256_json([keys, [self._times_sent[key] for key in keys]])[:32]
        batch_id = await self._find_sent(requests_hash)
        if batch_id is None:
            lines = [self._line(key, self._pending[key].request) for key in keys]
            content = io.BytesIO("\n".join(lines).encode())
            file = await self._client.files.create(file=("requests.jsonl", content), purpose="batch")
            # Sent once: a second try after a lost connection could pay for a second batch.
            once = self._client.with_options(max_retries=0)
            batch = await once.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={METADATA_KEY: requests_hash},
            )
            batch_id = batch.id
        self._ledger.record_batch(batch_id, self.model, keys)
        say(f"  batch {batch_id}: {len(keys)} requests sent")
        self._unsent -= set(keys)
        self._times_sent.update(keys)

    def _line(self, key: str, request: Request) -> str:
        """A request's line in the batch's input file."""
        body = {
            "model": self.model,
            "messages": list(request.messages),
            **self._parameters.body(request),
        }
        return json.dumps({"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body})

    async def _find_sent(self, requests_hash: str) -> str | None:
        """A batch with the same requests, from a process that was killed before the ledger had it."""
        for batch in (await self._client.batches.list(limit=100)).data:
            has_hash = (batch.metadata or {}).get(METADATA_KEY) == requests_hash
            if has_hash and batch.status not in ("failed", "cancelled"):
                return batch.id
        return None

    async def _fetch(self) -> bool:
        """Look at every batch with a request that has no answer; returns whether any batch was finished."""
        batch_ids = {self._ledger.batch_of(key) for key in self._pending if key not in self._unsent}
        any_finished = False
        for batch_id in sorted(filter(None, batch_ids)):
            batch = await self._client.batches.retrieve(batch_id)
            if batch.status not in FINISHED:
                continue
            any_finished = True
            output = await self._output_of(batch)
            for key in self._ledger.keys_in_batch(batch_id):
                if key in self._pending and key not in self._unsent:
                    self._finish(key, output, batch.status)
        return any_finished

    async def _output_of(self, batch: Batch) -> _BatchOutput:
        output = _BatchOutput()
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id:
                text = (await self._client.files.content(file_id)).text
                for line in lines_of(text):
                    self._read_line(line, output)
        return output

    def _finish(self, key: str, output: _BatchOutput, status: str) -> None:
        """Give a request its answer, send it again, or give it up."""
        if key in output.answers:
            self._pending.pop(key).future.set_result(output.answers[key])
        elif isinstance(error := output.errors.get(key), Withheld | OtherModel):
            self._pending.pop(key).future.set_exception(error)
        elif key in output.refused or self._times_sent[key] < self._times:
            self._unsent.add(key)
        else:
            reason = output.errors.get(key) or TeacherError(f"the batch is {status} without an answer")
            failure = TeacherError(f"given up after {self._times} batches: {reason}", reason.cost_usd)
            self._pending.pop(key).future.set_exception(failure)

    def _read_line(self, line: str, output: _BatchOutput) -> None:
        """Add a line of an output or error file; a line without a key is left out."""
        try:
            row = json.loads(line)
            key = str(row["custom_id"])
        except (ValueError, KeyError, TypeError):
            return
        try:
            body = row["response"]["body"]
            if row["response"].get("status_code") == 400 and key in self._pending:
                sent = self._parameters.body(self._pending[key].request)
                refused = self._parameters.learn(body["error"], sent)
                if refused is not None:
                    output.refused[key] = refused
                    return
            output.answers[key] = answer_of(body, self.model, self._price)
        except TeacherError as error:
            output.errors[key] = error
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError):
            output.errors[key] = TeacherError(str(row.get("error") or row.get("response"))[:200])
