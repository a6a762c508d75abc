"""What is asked of a large model, and what it answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from empathy_edge.formats.chat_format import Message
from empathy_edge.system.files import sha256_json


@dataclass(frozen=True)
class Request:
    """One call: the messages and everything else that decides the answer.

    Attributes:
        messages: the conversation.
        temperature: for sampling; 0 takes the likeliest token.
        max_tokens: of the answer.
        sample: which of several answers to the same messages; also the seed.
        purpose: what the call is for: dialogue and step. A file of answers is searched by it. Not in the key.
        schema: the JSON schema that the answer should have, as text; empty for free text. Not every model can
            be held to a schema, so the caller must validate the answer.
    """

    messages: tuple[Message, ...]
    temperature: float = 0.7
    max_tokens: int = 256
    sample: int = 0
    purpose: str = ""
    schema: str = ""

    def key(self, identity: str) -> str:
        """The ledger's key: the hash of the model's identity, messages, parameters and sample index."""
        return sha256_json([identity, list(self.messages), self.parameters(), self.sample])

    def parameters(self) -> dict[str, float | str]:
        """Everything but the messages and the sample index that decides the answer."""
        parameters: dict[str, float | str] = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        if self.schema:
            parameters["schema"] = self.schema
        return parameters

    @property
    def structured_output(self) -> dict[str, Any]:
        """The parameters of `chat/completions` that ask for the schema; none for free text."""
        if not self.schema:
            return {}
        answer = {"name": "answer", "strict": True, "schema": json.loads(self.schema)}
        return {"response_format": {"type": "json_schema", "json_schema": answer}}


@dataclass(frozen=True)
class Answer:
    """What a model answered.

    Attributes:
        text: the answer.
        prompt_tokens: of the request.
        completion_tokens: of the answer; tokens of reasoning are paid, and count.
        cost_usd: None where the price is unknown.
        is_cut_off: whether it ended at the request's `max_tokens`. It was paid for, so it is kept; it is
            never taken as an answer.
        served: the model and the fingerprint of it that the endpoint reported with the answer.
        from_ledger: whether it was paid for earlier.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None = None
    is_cut_off: bool = False
    served: str = ""
    from_ledger: bool = False


class TeacherError(Exception):
    """One call failed for good; the ledger keeps the message, but never gives it as an answer.

    Attributes:
        cost_usd: what the failed call cost all the same; None where nobody can tell, as after a timeout.
        is_kept: whether the ledger has it already.
    """

    def __init__(self, message: str, cost_usd: float | None = None) -> None:
        super().__init__(message)
        self.cost_usd = cost_usd
        self.is_kept = False


class TryAgain(TeacherError):
    """One try failed in a way that may pass; `retry_after_s` is what the endpoint asked for."""

    def __init__(
        self, message: str, retry_after_s: float | None = None, cost_usd: float | None = None
    ) -> None:
        super().__init__(message, cost_usd)
        self.retry_after_s = retry_after_s


class CutOff(TeacherError):
    """An answer ended at the limit of tokens. The ledger keeps it, so that it is not paid again."""


class Withheld(TeacherError):
    """The endpoint gave no answer on purpose: a refusal or a content filter. Asking again does not help."""


class OtherModel(TeacherError):
    """The endpoint answered with another model than was asked for. It would do so at every call."""


class StepNotKept(TeacherError):
    """A file of answers has not kept an intermediate step of a strategy; it may have the later steps."""


class Teacher(Protocol):
    """A model that answers requests.

    Attributes:
        model: its name, for tables.
        parallel: how many calls may be made at the same time.
        tries: how often a call is made that fails with `TryAgain`.
    """

    model: str
    parallel: int
    tries: int

    @property
    def reasoning_tokens(self) -> int:
        """How many tokens a call may use beyond `Request.max_tokens`."""
        ...

    @property
    def former_identity(self) -> str | None:
        """Under which older versions kept its answers; None where that was ambiguous or is the same."""
        ...

    async def identity(self) -> str:
        """Everything about the model that decides its answers: weights or name, endpoint, what it reports."""
        ...

    async def answer(self, request: Request, key: str) -> Answer:
        """Answer one request with one call. Equal requests have equal keys.

        Raises:
            TryAgain: the call failed in a way that may pass.
            TeacherError: the call failed for good.
        """
        ...

    def interrupt(self) -> None:
        """The user wants to stop: give up calls whose answers another process can fetch later."""
        ...

    async def close(self) -> None:
        """Close connections and free memory."""
        ...
