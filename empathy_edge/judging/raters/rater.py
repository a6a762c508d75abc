"""A judge that gives each reply a number, larger for a better one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message

CONTEXT = 2048

LARGEST = 100.0
"""The best rating where people or a model behind an API give numbers; the worst is 0."""


class ToRate(NamedTuple):
    """A conversation and replies to it."""

    conversation: Sequence[Message]
    replies: Sequence[str]


class Rater(ABC):
    """A judge of replies.

    Attributes:
        name: as the user gives it.
        identity: the hash of all that decides its ratings.
        together: whether only ratings of one call can be compared with each other.
        block: how many prompts are rated between two looks at the evidence.
        tuned: whether the tuning half of the certification pairs may have been used to choose or train it;
            then only the other half certifies it.
        scale: what the best reply gets; 1 where ratings have no largest.
    """

    name: str
    identity: str
    together: bool = False
    block: int = 16
    tuned: bool = True
    scale: float = 1.0

    def prepare(self, items: Sequence[ToRate]) -> None:  # noqa: B027 - only sheets are prepared
        """Told all that a baseline has to have rated, before the first rating.

        Raises:
            EmpathyEdgeError: the ratings must be made first.
        """

    @abstractmethod
    def rate_many(
        self, items: Sequence[ToRate], rated: Callable[[], None] = lambda: None
    ) -> list[list[float]]:
        """A number for each reply of each item; `rated` is called after each item."""

    def close(self) -> None:  # noqa: B027 - some raters have nothing to close
        """Free the memory."""


def refuse_long(tokens: int, context: int) -> None:
    """Refuse a conversation with its reply that the judge cannot read whole."""
    if tokens > context:
        raise EmpathyEdgeError(
            f"a conversation with its reply has {tokens} tokens, more than the judge's context window of "
            f"{context}"
        )


def better_reply(first: tuple[str, float], second: tuple[str, float]) -> float:
    """As `better`, of texts with their ratings: the same text is equally good."""
    return 0.5 if first[0] == second[0] else better(first[1], second[1])


def better(first: float, second: float) -> float:
    """The points of the first of two ratings: 1 if it is larger, 1/2 if they are equal."""
    if first == second:
        return 0.5
    return float(first > second)
