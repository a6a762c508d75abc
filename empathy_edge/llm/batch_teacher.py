"""The OpenAI Batch API: half the price, answers within a day, fetched by whichever process asks next.

Requests that come at the same time go into one batch. The ledger keeps which batch has which request, so that
another process, tomorrow, waits for the same batch instead of paying again.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.formats.json_lines import lines_of
from empathy_edge.llm.budget import Price
from empathy_edge.llm.chat_parameters import CAN_BE_LEFT_OUT, ChatParameters
from empathy_edge.llm.ledger import Failure, KnownEndpoint, Ledger
from empathy_edge.llm.openai_teacher import (
    CONTENT_FILTERS,
    answer_of,
    endpoint_url,
    identify,
    openai_client,
)
from empathy_edge.llm.records import Answer, OtherModel, Request, TeacherError, TryAgain, Withheld
from empathy_edge.system.files import sha256_json

MAX_SENT = 3
"""In so many batches a request is sent, beside those of which a parameter was refused."""

MAX_BATCH_REQUESTS = 50_000
"""The API's limit."""

KEPT_DAYS = 30
"""How long the API keeps a batch and its files at least."""

ANSWERED, BAD_REQUEST = 200, 400
"""HTTP statuses of a request in a batch."""

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
    """The answers and the errors of a finished batch, by the request's key.

    Attributes:
        status: of the batch.
        cost_of_no_line: USD, what a request cost that has no line; None where that cannot be told.
        answers: what was answered.
        errors: what failed.
        refused: requests of which the endpoint refused a parameter.
    """

    status: str
    cost_of_no_line: float | None
    answers: dict[str, Answer] = field(default_factory=dict)
    errors: dict[str, TeacherError] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)


class BatchTeacher:
    """Asks in batches. With `wait` it polls until they are finished; without, it raises BatchPending."""

    parallel = MAX_BATCH_REQUESTS
    tries = MAX_SENT + len(CAN_BE_LEFT_OUT)  # `answer` says itself when it gives up
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
    ) -> None:
        self.model = model
        self._endpoint = endpoint_url(base_url)
        self._parameters = ChatParameters(ledger, self._endpoint, model)
        self._client = openai_client(base_url, timeout_s=120.0, max_retries=6)
        self._ledger = ledger
        self._price = price
        self._wait = wait
        self._poll_s = poll_s
        self._pending: dict[str, _Pending] = {}
        self._unsent: set[str] = set()
        self._failed: Counter[str] = Counter()  # batches without an answer, by the request's key
        self._last_request_s = 0.0
        self._driver: asyncio.Task[None] | None = None

    @property
    def reasoning_tokens(self) -> int:
        return self._parameters.reasoning_tokens

    async def identity(self) -> str:
        """Another than that of single calls: their answers are not exchanged, since their prices differ."""
        return "batch " + await identify(self._client, self._endpoint, self._parameters)

    async def answer(self, request: Request, key: str) -> Answer:
        """Answer one request: with TryAgain where a batch had no answer, so that the next one is reserved."""
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

        from filelock import AsyncFileLock, Timeout

        lock = AsyncFileLock(self._ledger.path.with_name(f".{self._ledger.path.name}.batches.lock"))
        try:
            await lock.acquire(timeout=0)
        except Timeout:
            say("  Another command is sending a batch; this one waits for it.")
            await lock.acquire(poll_interval=QUIET_S)
        try:
            for key in list(self._unsent):  # another command may have sent them, or have their answers
                if self._ledger.batch_of(key) is not None or self._ledger.find(key) is not None:
                    self._unsent.discard(key)
            if self._unsent:
                await self._send_batch(sorted(self._unsent)[:MAX_BATCH_REQUESTS])
        finally:
            await lock.release()

    async def _send_batch(self, keys: list[str]) -> None:
        requests_hash = sha256_json(keys)[:32]
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
            if not has_hash or batch.status in ("failed", "cancelled"):
                continue
            if not self._ledger.was_read(batch.id):
                return batch.id
        return None

    async def _fetch(self) -> bool:
        """Look at every batch with a request that has no answer; returns whether any batch was finished."""
        batch_ids = {key: self._ledger.batch_of(key) for key in self._pending if key not in self._unsent}
        any_finished = False
        for key in [key for key, batch_id in batch_ids.items() if batch_id is None]:
            self._take_over(key)
            any_finished = True
        for batch_id in sorted(set(filter(None, batch_ids.values()))):
            output = await self._output_of(batch_id)
            if output is None:
                continue
            any_finished = True
            keys = [key for key, sent_in in batch_ids.items() if sent_in == batch_id and key in self._pending]
            failed = {key: self._failure(key, output) for key in keys if key not in output.answers}
            self._ledger.forget_batch(batch_id, self.model, failed)
            for key in keys:
                self._finish(key, output, failed)
        if any_finished:  # what had no answer comes again
            self._last_request_s = asyncio.get_running_loop().time()
        return any_finished

    def _take_over(self, key: str) -> None:
        """Give a request what another process has fetched from the batch that both waited for."""
        answer = self._ledger.find(key)
        if answer is None:
            self._end(key, TryAgain("another process found no answer in the batch", 0.0, cost_usd=0.0))
        else:
            self._pending.pop(key).future.set_result(answer)

    def _end(self, key: str, error: TeacherError) -> None:
        self._pending.pop(key).future.set_exception(error)

    async def _output_of(self, batch_id: str) -> _BatchOutput | None:
        """What a batch has answered; None where it is not finished."""
        import openai

        try:
            batch = await self._client.batches.retrieve(batch_id)
        except openai.NotFoundError:
            self._require_old(batch_id)
            return _BatchOutput("gone", None)
        if batch.status not in FINISHED:
            return None
        output = _BatchOutput(batch.status, None if batch.status == "completed" else 0.0)
        known = self._parameters.known
        for file_id in (batch.output_file_id, batch.error_file_id):
            if not file_id:
                continue
            try:
                text = (await self._client.files.content(file_id)).text
            except openai.NotFoundError:
                self._require_old(batch_id)
                output = replace(output, cost_of_no_line=None)
                continue
            for line in lines_of(text):
                self._read_line(line, output, known)
        return output

    def _require_old(self, batch_id: str) -> None:
        """Refuse to give up a batch that the endpoint does not know, unless it is too old to be kept.

        Raises:
            PrerequisiteError: it is not: another key or project may know it, and its answers are paid for.
        """
        if not self._ledger.was_sent_before(batch_id, days=KEPT_DAYS):
            raise PrerequisiteError(
                f"The endpoint does not know the batch {batch_id}, which was sent within {KEPT_DAYS} days.",
                "Use the key, the project and the endpoint with which it was sent; its answers are paid for.",
            )

    def _failure(self, key: str, output: _BatchOutput) -> Failure:
        """Why a batch has no answer to a request."""
        if key in output.refused:
            error = TeacherError("HTTP 400", 0.0)
        else:
            error = output.errors.get(key) or TeacherError(
                f"the batch is {output.status} without an answer", output.cost_of_no_line
            )
        return Failure(self._pending[key].request, error)

    def _finish(self, key: str, output: _BatchOutput, failed: dict[str, Failure]) -> None:
        """Give a request its answer, have it sent again, or give it up."""
        if key in output.answers:
            self._failed.pop(key, None)
            self._pending.pop(key).future.set_result(output.answers[key])
            return
        error = failed[key].error
        self._failed[key] += key not in output.refused
        ending: TeacherError = TryAgain(str(error), 0.0, error.cost_usd)
        if isinstance(error, Withheld | OtherModel):
            ending = error
        elif self._failed[key] >= MAX_SENT:
            del self._failed[key]
            ending = TeacherError(f"given up after {MAX_SENT} batches: {error}", error.cost_usd)
        ending.is_kept = error.is_kept
        self._end(key, ending)

    def _read_line(self, line: str, output: _BatchOutput, known: KnownEndpoint) -> None:
        """Add a line of an output or error file; a line without a key is left out.

        Args:
            line: the line.
            output: where it goes.
            known: what was known of the endpoint when the batch was sent: no line before this one counts.
        """
        try:
            row = json.loads(line)
            key = str(row["custom_id"])
        except (ValueError, KeyError, TypeError):
            return
        try:
            body = row["response"]["body"]
            if row["response"].get("status_code") == BAD_REQUEST and key in self._pending:
                if body["error"].get("code") in CONTENT_FILTERS:
                    raise Withheld(f"withheld by the endpoint: {str(body['error'])[:200]}", 0.0)
                sent = self._parameters.body(self._pending[key].request, known)
                if self._parameters.is_known_refusal(body["error"]) or self._parameters.learn(
                    body["error"], sent
                ):
                    output.refused.add(key)
                    return
            output.answers[key] = answer_of(body, self.model, self._price)
        except TeacherError as error:
            output.errors[key] = error
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError):
            response = row.get("response")
            was_answered = isinstance(response, dict) and response.get("status_code") == ANSWERED
            said = str(row.get("error") or response)[:200]
            output.errors[key] = TeacherError(said, None if was_answered else 0.0)
