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

    def key(self, model: str) -> str:
        """The ledger's key: the hash of model, messages, parameters and sample index."""
        parameters: dict[str, float | str] = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        if self.schema:
            parameters["schema"] = self.schema
        return sha256_json([model, list(self.messages), parameters, self.sample])

    @property
    def structured_output(self) -> dict[str, Any]:
        """The parameters of `chat/completions` that ask for the schema; none for free text."""
        if not self.schema:
            return {}
        answer = {"name": "answer", "strict": True, "schema": json.loads(self.schema)}
        return {"response_format": {"type": "json_schema", "json_schema": answer}}


@dataclass(frozen=True)
class Answer:
    """What a model answered, and the cost in USD (None where the price is unknown)."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None = None
    from_ledger: bool = False


class TeacherError(Exception):
    """One call failed for good; the ledger keeps the message, but never gives it as an answer."""


class StepNotKept(TeacherError):
    """A file of answers has not kept an intermediate step of a strategy; it may have the later steps."""


class Teacher(Protocol):
    """A model that answers requests."""

    model: str
    parallel: int

    async def answer(self, request: Request, key: str) -> Answer:
        """Answer one request. Equal requests have equal keys.

        Raises:
            TeacherError: the call failed for good.
        """
        ...

    async def close(self) -> None:
        """Close connections and free memory."""
        ...
