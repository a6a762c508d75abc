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
    from openai.types.chat import ChatCompletion

KEY_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE = "OPENAI_BASE_URL"

MAX_PAUSE_S = 30.0
"""The longest pause between two tries where the endpoint names none."""

MAX_RETRY_AFTER_S = 120.0
"""The longest pause that is made where the endpoint names one."""


def openai_client(base_url: str | None, *, timeout_s: float, max_retries: int) -> AsyncOpenAI:
    """The `openai` client; its key comes from the environment only.

    Raises:
        PrerequisiteError: there is no key, and no other endpoint that may not need one.
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
    """Calls `chat/completions`, and tries again after 429 and 5xx: when Retry-After says so, or with backoff.

    Each request carries its ledger key as `Idempotency-Key`. An endpoint that honours the key does not charge
    again for a repeated request (after a kill between the answer and the ledger). Another endpoint can charge
    again for the calls that were not finished then, at most `parallel`.
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
        self.model = model
        self.parallel = parallel
        self.tries = tries
        self._price = price
        # The client's own retries are off: ours also cover invalid answers, and count every try.
        self._client = openai_client(base_url, timeout_s=timeout_s, max_retries=0)
        self._structured = True
        import openai

        self._openai = openai

    async def answer(self, request: Request, key: str) -> Answer:
        problem = ""
        for attempt in range(self.tries):
            try:
                return self._read(await self._call(request, key))
            except _Retryable as failure:
                problem = str(failure)
                if attempt < self.tries - 1:
                    await asyncio.sleep(_pause_s(attempt, failure.retry_after_s))
        raise TeacherError(f"given up after {self.tries} tries: {problem}")

    async def close(self) -> None:
        await self._client.close()

    async def _call(self, request: Request, key: str) -> ChatCompletion:
        """One call; every error of the client becomes one of ours."""
        openai = self._openai
        try:
            return await self._client.chat.completions.create(
                model=self.model,
                messages=list(request.messages),  # type: ignore[arg-type]
                temperature=request.temperature,
                max_tokens=request.max_tokens,
                seed=request.sample,
                **(request.structured_output if self._structured else {}),
                extra_headers={"Idempotency-Key": key},
            )
        except (openai.RateLimitError, openai.InternalServerError, openai.ConflictError) as error:
            raise _Retryable(f"HTTP {error.status_code}", _retry_after_s(error)) from None
        except (openai.APIConnectionError, openai.APIResponseValidationError, json.JSONDecodeError) as error:
            raise _Retryable(type(error).__name__) from None
        except openai.AuthenticationError:
            raise PrerequisiteError(
                f"The endpoint refused the key in {KEY_VARIABLE}.", "Set a valid key in the environment."
            ) from None
        except openai.BadRequestError as error:
            if not request.schema or not self._structured:
                raise TeacherError(f"HTTP 400: {_one_line(error.message)}") from None
            self._structured = False  # the caller validates the answer in any case
            say(f"  The endpoint refuses structured output ({_one_line(error.message)}); asked without.")
            raise _Retryable("HTTP 400", 0.0) from None
        except openai.APIStatusError as error:
            raise TeacherError(f"HTTP {error.status_code}: {_one_line(error.message)}") from None

    def _read(self, completion: ChatCompletion) -> Answer:
        """The answer in a response; endpoints send invalid ones too, which the client does not check."""
        served = getattr(completion, "model", None)
        if not isinstance(completion, self._openai.types.chat.ChatCompletion) or not completion.choices:
            raise _Retryable("an answer without choices")
        if served and not _same_model(served, self.model):
            raise TeacherError(
                f"the endpoint answered with the model '{_one_line(served)}', not '{self.model}'"
            )
        choice = completion.choices[0]
        text = choice.message.content if choice.message else None
        if not text or not text.strip():
            raise _Retryable("an empty answer")
        usage = completion.usage
        prompt_tokens, new_tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        return Answer(text, prompt_tokens, new_tokens, cost_usd(self._price, prompt_tokens, new_tokens))


class _Retryable(Exception):
    """A try failed in a way that may pass."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def _pause_s(attempt: int, retry_after_s: float | None) -> float:
    """What the endpoint asked for, plus jitter; else exponential backoff with full jitter."""
    if retry_after_s is not None:
        return retry_after_s + random.uniform(0, 0.25)
    return random.uniform(0.1, min(MAX_PAUSE_S, 0.5 * 2**attempt))


def _retry_after_s(error: object) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", {})
    for name, units_per_s in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / units_per_s
        except (KeyError, ValueError):
            continue
        return min(MAX_RETRY_AFTER_S, max(0.0, seconds))
    return None


def _same_model(served: str, asked: str) -> bool:
    """Endpoints answer with the dated name of an alias (gpt-4o → gpt-4o-2024-08-06) or with a file's path."""
    dated = re.fullmatch(re.escape(asked) + r"-\d{4}.*", served)
    return served == asked or bool(dated) or served.rpartition("/")[2] == asked.rpartition("/")[2]


def _one_line(text: str) -> str:
    return " ".join(str(text).split())[:200]
