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

    `purpose` says what it is for (dialogue, method, strategy, step); the file teacher finds answers by it, and it is not
    part of the key. `schema` is the JSON schema that the answer must have, as text; empty for free text. Not every teacher can hold an
    answer to it: who reads the answer checks it.
    """

    messages: tuple[Message, ...]
    temperature: float = 0.7
    max_tokens: int = 256
    sample: int = 0
    purpose: str = ""
    schema: str = ""

    def key(self, model: str) -> str:
        """The ledger's key: the hash of model, messages, parameters and sample index."""
        parameters: dict[str, Any] = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        if self.schema:
            parameters["schema"] = self.schema
        return sha256_json([model, list(self.messages), parameters, self.sample])

    @property
    def structured_output(self) -> dict[str, Any]:
        """What `chat/completions` is given besides, so that the answer has the schema; empty for free text."""
        if not self.schema:
            return {}
        answer = {"name": "answer", "strict": True, "schema": json.loads(self.schema)}
        return {"response_format": {"type": "json_schema", "json_schema": answer}}


@dataclass(frozen=True)
class Answer:
    """What came back, and what it cost (None where the price is unknown)."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None = None
    from_ledger: bool = False


class TeacherError(Exception):
    """One call failed for good; the message is kept in the ledger, and never served as an answer."""


class StepNotKept(TeacherError):
    """An intermediate step of a strategy that a file of answers did not keep; the later steps may be there."""


class Teacher(Protocol):
    """Something that answers requests."""

    model: str
    parallel: int

    async def answer(self, request: Request, key: str) -> Answer:
        """Answer one request, or raise TeacherError; `key` is the same for the same request, always."""
        ...

    async def close(self) -> None:
        """Give connections and memory back."""
        ...
