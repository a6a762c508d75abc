"""What is said to whom: a dialogue with its responses, and a preference pair.

The paper is *Distilling Empathy from Large Language Models* (arXiv 2507.08151).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from empathy_edge.formats.chat_format import Message, messages_for

Split = Literal["train", "test"]

RATINGS = (1, 2, 3)
"""1 bad, 2 okay, 3 good."""


@dataclass(frozen=True)
class Response:
    """One response to a dialogue: who wrote it, its text, and its rating from 1 to 3 (None: not rated)."""

    source: str
    text: str
    rating: int | None = None


@dataclass(frozen=True)
class Dialogue:
    """What a person says, with the responses to it.

    Attributes:
        id: of the dialogue; no other one of its file has it.
        emotion: empty where it is not known.
        situation: empty where it is not known.
        utterance: the person's last message.
        responses: none for a prompt alone.
        split: train or test.
        history: the messages before the utterance; the first may be a system prompt.
    """

    id: str
    emotion: str
    situation: str
    utterance: str
    responses: tuple[Response, ...]
    split: Split
    history: tuple[Message, ...] = ()

    def response(self, source: str) -> Response | None:
        """The response of `source`, if there is one."""
        return next((item for item in self.responses if item.source == source), None)

    def prompt(self) -> list[Message]:
        """The messages that a model answers, with our system prompt where the dialogue has none."""
        return messages_for(self.utterance, history=self.history)

    @property
    def earlier_turns(self) -> str:
        """The conversation before the utterance as a text, without the system prompt; mostly empty."""
        names = {"user": "The person", "assistant": "The reply"}
        turns = [item for item in self.history if item["role"] in names]
        return " ".join(f'{names[item["role"]]}: "{item["content"]}"' for item in turns)

    @property
    def said(self) -> str:
        """What a judge is shown: the utterance, after what was said before it."""
        earlier = self.earlier_turns
        return f"{earlier} The person: {self.utterance}" if earlier else self.utterance

    def row(self) -> dict[str, Any]:
        """The dialogue in our own form; what one without history was written as before stays the same."""
        row = asdict(self)
        if not self.history:
            del row["history"]
        return row


@dataclass(frozen=True)
class PreferencePair:
    """Two responses to one prompt, the better one first; a row of `preference.jsonl`."""

    id: str
    prompt: list[dict[str, str]]
    chosen: str
    rejected: str


def paper_split(responses: Iterable[Response]) -> Split:
    """The paper's split: a dialogue with fewer than 2 responses rated 3 is test (arXiv 2507.08151)."""
    return "test" if sum(item.rating == 3 for item in responses) < 2 else "train"
