"""Any OpenAI-compatible endpoint, through the `openai` client."""

from __future__ import annotations

import json
import math
import os
import re
from typing import TYPE_CHECKING, Any

from empathy_edge.console import say
from empathy_edge.errors import PrerequisiteError, require_extra
from empathy_edge.formats.json_lines import whole_characters
from empathy_edge.llm.budget import Price, cost_usd
from empathy_edge.llm.chat_parameters import ChatParameters
from empathy_edge.llm.ledger import Ledger, without_secrets
from empathy_edge.llm.records import Answer, OtherModel, Request, TeacherError, TryAgain, Withheld
from empathy_edge.system.files import sha256_json

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI, BadRequestError

CONTENT_FILTERS = ("content_filter", "content_policy_violation", "invalid_prompt")
"""Codes of HTTP 400 with which endpoints withhold an answer for good."""

NOT_CHARGED = (409, 429, 500, 503)
"""HTTP statuses of calls without an answer. A proxy's error (502, 504, 524) does not tell what was done."""

REQUEST_TIMEOUT = 408

KEY_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE = "OPENAI_BASE_URL"
OPENAI_URL = "https://api.openai.com/v1"

MAX_RETRY_AFTER_S = 120.0
"""The longest pause that is made where the endpoint names one."""

EMPTY_PAUSE_S = 0.2
"""After an empty answer: the endpoint is not overloaded."""

IDENTIFY_TIMEOUT_S = 5.0
IDENTIFY_RETRIES = 3
MAY_PASS = (None, 408, 409, 429)
"""HTTP statuses, None for no connection, that say nothing of what an endpoint can do."""

MOST_TOKENS = 2**31 - 1
"""Of one count in an answer. The ledger's integers have 64 bits, and so do their sums."""

REPORTED = ("id", "root", "parent", "owned_by", "meta", "digest", "size", "max_model_len")
"""What describes a model in an endpoint's list of models; times of creation change at some servers."""


def endpoint_url(base_url: str | None) -> str:
    """The endpoint's address: as given, from the environment, or OpenAI's own."""
    return (base_url or os.environ.get(URL_VARIABLE) or OPENAI_URL).rstrip("/")


def openai_client(base_url: str | None, *, timeout_s: float, max_retries: int, calls: int = 1) -> AsyncOpenAI:
    """The `openai` client; its key comes from the environment only.

    Args:
        base_url: the endpoint.
        timeout_s: seconds for one try.
        max_retries: by the client itself.
        calls: how many are made at the same time.

    Raises:
        PrerequisiteError: there is no key, and no other endpoint that may not need one.
    """
    require_extra("openai", "api", "A teacher behind an API")
    key = os.environ.get(KEY_VARIABLE)
    url = endpoint_url(base_url)
    if not key and url == OPENAI_URL:
        raise PrerequisiteError(
            f"A teacher behind an API needs a key: {KEY_VARIABLE} is not set.",
            f"Set it in the environment, or give your own server with --base-url ({URL_VARIABLE}).",
        )
    import openai

    from empathy_edge.llm.connections import transport_for

    transport = transport_for(calls)
    return openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=url,
        timeout=timeout_s,
        max_retries=max_retries,
        http_client=openai.DefaultAsyncHttpxClient(transport=transport) if transport else None,
    )


async def identify(client: AsyncOpenAI, endpoint: str, parameters: ChatParameters) -> str:
    """The model's identity, with what its endpoint says of it now, or said when it was last asked.

    Raises:
        PrerequisiteError: the endpoint could not be asked, and never was before. With an identity that leaves
            out what it says, all answers would be paid for again as soon as it can be asked.
    """
    reported = await _reported(client, parameters)
    parameters.remember_reported(reported)
    return identity_of(endpoint, parameters.model, parameters.known.reported)


async def _reported(client: AsyncOpenAI, parameters: ChatParameters) -> str:
    """How the endpoint describes the model, as JSON; empty where it does not. It costs nothing."""
    import openai

    try:
        listed = await client.with_options(
            timeout=IDENTIFY_TIMEOUT_S, max_retries=0 if parameters.known.was_asked else IDENTIFY_RETRIES
        ).models.list()
        models = [item.model_dump() for item in listed.data]
    except (openai.APITimeoutError, openai.InternalServerError) as error:
        if not parameters.known.was_asked:  # after all tries it is not likely to tell tomorrow
            say(
                f"  The endpoint does not tell which models it has ({type(error).__name__}). If it does "
                "another time, its answers of today will be asked for again."
            )
        return ""
    except (openai.APIConnectionError, openai.APIStatusError) as error:
        if parameters.known.was_asked or getattr(error, "status_code", None) not in MAY_PASS:
            return ""
        raise PrerequisiteError(
            f"The endpoint {without_secrets(str(client.base_url))} could not be asked which models it has "
            f"({type(error).__name__}).",
            "See that its address is right and that it answers; then run the same command again.",
        ) from None
    except (openai.OpenAIError, ValueError, TypeError, AttributeError):
        return ""
    found = next((item for item in models if item.get("id") == parameters.model), None)
    if found is None and len(models) == 1:  # a server of one model answers for any name
        found = models[0]
    if found is None:
        return ""
    return json.dumps({name: found[name] for name in REPORTED if name in found}, sort_keys=True)


def identity_of(endpoint: str, model: str, reported: str) -> str:
    """The identity of a model behind an API, for the ledger's keys and for manifests: without credentials."""
    return f"{model} at {without_secrets(endpoint)} {sha256_json(reported)[:16]}"


class OpenAITeacher:
    """Calls `chat/completions`.

    Each request carries its ledger key as `Idempotency-Key`. An endpoint that honours the key does not charge
    again for a repeated request (after a kill between the answer and the ledger). Another endpoint can charge
    again for the calls that were not finished then, at most `parallel`.
    """

    def __init__(
        self,
        model: str,
        ledger: Ledger,
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
        self._endpoint = endpoint_url(base_url)
        # Older ledgers had the model's name only. It is clear whose name it is only where it is OpenAI's.
        self.former_identity = model if self._endpoint == OPENAI_URL else None
        # The client's own retries are off: ours also cover invalid answers, and stop when they should.
        self._client = openai_client(base_url, timeout_s=timeout_s, max_retries=0, calls=parallel)
        self._parameters = ChatParameters(ledger, self._endpoint, model)
        import httpx2
        import openai

        self._openai = openai
        self._response = httpx2.Response
        self._not_connected = httpx2.ConnectError, httpx2.ConnectTimeout

    @property
    def reasoning_tokens(self) -> int:
        return self._parameters.reasoning_tokens

    async def identity(self) -> str:
        return await identify(self._client, self._endpoint, self._parameters)

    async def answer(self, request: Request, key: str) -> Answer:
        return self._read(await self._call(request, key))

    def interrupt(self) -> None:
        return

    async def close(self) -> None:
        await self._client.close()

    async def _call(self, request: Request, key: str) -> httpx2.Response:
        """One call; every error of the client becomes one of ours.

        `chat.completions.create` would do the same, but rewrites the messages and makes objects of the
        answer, which takes longer than the rest of the call.
        """
        openai = self._openai
        parameters = self._parameters.body(request)
        try:
            return await self._client.post(
                "/chat/completions",
                cast_to=self._response,
                body={"model": self.model, "messages": list(request.messages), **parameters},
                options={"headers": {"Idempotency-Key": key}},
            )
        except (openai.RateLimitError, openai.InternalServerError, openai.ConflictError) as error:
            cost = 0.0 if error.status_code in NOT_CHARGED else None
            raise TryAgain(f"HTTP {error.status_code}", _retry_after_s(error), cost) from None
        except (openai.APIConnectionError, openai.APIResponseValidationError, json.JSONDecodeError) as error:
            never_sent = isinstance(error.__cause__, self._not_connected)
            raise TryAgain(type(error).__name__, cost_usd=0.0 if never_sent else None) from None
        except openai.AuthenticationError:
            raise PrerequisiteError(
                f"The endpoint refused the key in {KEY_VARIABLE}.", "Set a valid key in the environment."
            ) from None
        except openai.BadRequestError as error:
            raise self._bad_request(error, parameters) from None
        except openai.APIStatusError as error:
            if error.status_code == REQUEST_TIMEOUT:
                raise TryAgain(f"HTTP {error.status_code}") from None
            raise TeacherError(f"HTTP {error.status_code}: {_one_line(error.message)}", 0.0) from None

    def _bad_request(self, error: BadRequestError, parameters: dict[str, Any]) -> TeacherError:
        """What HTTP 400 means: a parameter that is left out from now on, or a failure for good."""
        if error.code in CONTENT_FILTERS:
            return Withheld(f"withheld by the endpoint: {_one_line(error.message)}", 0.0)
        before = self._parameters.known
        refused = self._parameters.learn({"param": error.param, "message": error.message}, parameters)
        if refused is None:
            return TeacherError(f"HTTP 400: {_one_line(error.message)}", 0.0)
        if self._parameters.known != before:  # calls at the same time learn the same
            say(f"  {self.model} refuses '{refused}'; it is left out from now on.")
        return TryAgain("HTTP 400", 0.0, cost_usd=0.0)

    def _read(self, response: httpx2.Response) -> Answer:
        """The answer in a response; endpoints send invalid ones too, which the client does not check."""
        try:
            completion = response.json()
        except (ValueError, RecursionError):
            completion = None
        if not isinstance(completion, dict) or "choices" not in completion:
            raise TryAgain(f"no completion but: {_one_line(response.text) or 'nothing'}")
        if not completion["choices"]:
            raise TryAgain("an answer without choices")
        try:
            return answer_of(completion, self.model, self._price)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError):
            raise TryAgain(f"no completion but: {_one_line(response.text)}") from None


def answer_of(completion: dict[str, Any], model: str, price: Price | None) -> Answer:
    """The answer in a chat completion, as its JSON has it.

    Raises:
        TryAgain: an empty answer.
        Withheld: a refusal or a content filter.
        OtherModel: another model answered.
        KeyError, IndexError, TypeError: it is no chat completion.
    """
    choice = completion["choices"][0]
    message = choice.get("message") or {}
    prompt_tokens, new_tokens = _tokens(completion.get("usage") or {})
    is_counted = prompt_tokens and (new_tokens or not message.get("content"))  # some endpoints do not count
    cost = cost_usd(price, prompt_tokens, new_tokens) if is_counted else None
    served = completion.get("model")
    if served and not _same_model(served, model):
        raise OtherModel(f"the endpoint answered with the model '{_one_line(served)}', not '{model}'", cost)
    if choice.get("finish_reason") == "content_filter" or message.get("refusal"):
        raise Withheld(
            f"withheld by the endpoint: {_one_line(message.get('refusal') or 'content filter')}", cost
        )
    text = message.get("content")
    is_cut_off = choice.get("finish_reason") == "length"
    if not isinstance(text, str) or not text.strip():
        if is_cut_off:  # a model that reasoned until the limit
            text = ""
        else:
            raise TryAgain("an empty answer", EMPTY_PAUSE_S, cost)
    fingerprint = completion.get("system_fingerprint")
    reported = " ".join(item for item in (served, fingerprint) if item)
    return Answer(
        whole_characters(text), prompt_tokens, new_tokens, cost, is_cut_off, whole_characters(reported)
    )


def _tokens(usage: dict[str, Any]) -> tuple[int, int]:
    """Tokens of the prompt and of the answer. Some endpoints count reasoning in the total only."""
    prompt_tokens, new_tokens = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    return prompt_tokens, max(new_tokens, _count(usage.get("total_tokens")) - prompt_tokens)


def _count(value: Any) -> int:
    """A count of tokens; 0 for infinity and NaN, which JSON from some servers has."""
    if isinstance(value, float) and not math.isfinite(value):
        return 0
    return max(0, min(MOST_TOKENS, int(value or 0)))


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
    return whole_characters(" ".join(str(text).split())[:200])
