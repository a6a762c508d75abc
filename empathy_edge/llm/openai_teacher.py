"""Any OpenAI-compatible endpoint, through the `openai` client."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from typing import TYPE_CHECKING

from empathy_edge.console import say
from empathy_edge.errors import PrerequisiteError, require_extra
from empathy_edge.llm.budget import Price, cost_usd
from empathy_edge.llm.records import Answer, Request, TeacherError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

KEY_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE = "OPENAI_BASE_URL"


def open_client(base_url: str | None, *, timeout_s: float, max_retries: int) -> AsyncOpenAI:
    """The `openai` client, its key from the environment only.

    Raises:
        PrerequisiteError: no key, and no other endpoint that may not need one.
    """
    require_extra("openai", "api", "A teacher behind an API")
    key = os.environ.get(KEY_VARIABLE)
    base_url = base_url or os.environ.get(URL_VARIABLE)
    if not key and not base_url:
        raise PrerequisiteError(
            f"A teacher behind an API needs a key: {KEY_VARIABLE} is not set.",
            f"Set it in the environment, or give your own server with --base-url ({URL_VARIABLE}).",
        )
    import openai

    return openai.AsyncOpenAI(
        api_key=key or "none", base_url=base_url, timeout=timeout_s, max_retries=max_retries
    )


class OpenAITeacher:
    """Asks `chat/completions`; 429 and 5xx are tried again as the endpoint's Retry-After says, or with backoff.

    Each request carries its ledger key as `Idempotency-Key`: an endpoint that honours it answers a repeated request
    (after a kill between the answer and the ledger) without charging again. One that does not can charge again for
    at most `parallel` calls that were under way.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        price: Price | None = None,
        parallel: int = 8,
        timeout_s: float = 60.0,
        tries: int = 8,
    ) -> None:
        self.model, self.parallel, self.tries, self._price = model, parallel, tries, price
        # The client's own retries are off: ours also cover answers that are broken, and count every try.
        self._client = open_client(base_url, timeout_s=timeout_s, max_retries=0)
        self._structured = True
        import openai

        self._openai = openai

    async def answer(self, request: Request, key: str) -> Answer:
        problem = ""
        for attempt in range(self.tries):
            try:
                return await self._try_once(request, key)
            except _Again as again:
                problem = str(again)
                if attempt < self.tries - 1:
                    await asyncio.sleep(_pause(attempt, again.after_s))
        raise TeacherError(f"given up after {self.tries} tries: {problem}")

    async def close(self) -> None:
        await self._client.close()

    async def _try_once(self, request: Request, key: str) -> Answer:
        openai = self._openai
        try:
            completion = await self._client.chat.completions.create(
                model=self.model,
                messages=list(request.messages),  # type: ignore[arg-type]
                temperature=request.temperature,
                max_tokens=request.max_tokens,
                seed=request.sample,
                **(request.structured_output if self._structured else {}),
                extra_headers={"Idempotency-Key": key},
            )
        except (openai.RateLimitError, openai.InternalServerError, openai.ConflictError) as error:
            raise _Again(f"HTTP {error.status_code}", _retry_after(error)) from None
        except (openai.APIConnectionError, openai.APIResponseValidationError, json.JSONDecodeError) as error:
            raise _Again(type(error).__name__) from None
        except openai.AuthenticationError:
            raise PrerequisiteError(
                f"The endpoint refused the key in {KEY_VARIABLE}.", "Set a valid key in the environment."
            ) from None
        except openai.BadRequestError as error:
            if not request.schema or not self._structured:
                raise TeacherError(f"HTTP 400: {_short(error.message)}") from None
            self._structured = False  # the reader of the answer checks it all the same
            say(f"  The endpoint refuses structured output ({_short(error.message)}); asked without.")
            raise _Again("HTTP 400", 0.0) from None
        except openai.APIStatusError as error:
            raise TeacherError(f"HTTP {error.status_code}: {_short(error.message)}") from None
        served = getattr(completion, "model", None)
        if not isinstance(completion, openai.types.chat.ChatCompletion) or not completion.choices:
            raise _Again("an answer without choices")
        if served and not _same_model(served, self.model):
            raise TeacherError(f"the endpoint answered with the model '{_short(served)}', not '{self.model}'")
        choice = completion.choices[0]
        text = choice.message.content if choice.message else None
        if not text or not text.strip():
            raise _Again("an empty answer")
        usage = completion.usage
        prompt, new = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        return Answer(text, prompt, new, cost_usd(self._price, prompt, new))


class _Again(Exception):
    """A try failed in a way that may pass."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


def _pause(attempt: int, after_s: float | None) -> float:
    """What the endpoint asked for, plus jitter; else exponential backoff with full jitter, at most 30 s."""
    if after_s is not None:
        return after_s + random.uniform(0, 0.25)
    return random.uniform(0.1, min(30.0, 0.5 * 2**attempt))


def _retry_after(error: object) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", {})
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return min(120.0, max(0.0, float(headers[name]) / unit))
        except (KeyError, ValueError):
            continue
    return None


def _same_model(served: str, asked: str) -> bool:
    """Endpoints answer with the dated name of an alias (gpt-4o → gpt-4o-2024-08-06) or with a file's path."""
    dated = re.fullmatch(re.escape(asked) + r"-\d{4}.*", served)
    return served == asked or bool(dated) or served.rpartition("/")[2] == asked.rpartition("/")[2]


def _short(text: str) -> str:
    return " ".join(str(text).split())[:200]
