"""Who rates replies without an API: a judge that gives each reply a number, larger for a better one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message
from empathy_edge.models.find import SHIPPED, find_model
from empathy_edge.runtimes import Runtime, open_runtime
from empathy_edge.system.files import sha256_json

CONTEXT = 2048
LIKELIHOOD = "likelihood:"
FORMULA = 1
"""Of the ratings; another one makes other judges."""

SHIPPED_JUDGES = tuple(f"{LIKELIHOOD}{name}" for name in SHIPPED)
"""Judges that a baseline may name without the user naming them, too."""


class Rater(ABC):
    """A judge of single replies.

    Attributes:
        name: as the user gives it.
        identity: the hash of all that decides its ratings.
    """

    name: str
    identity: str

    @abstractmethod
    def rate(self, conversation: Sequence[Message], replies: Sequence[str]) -> list[float]:
        """A number for each reply to the same conversation."""

    def close(self) -> None:  # noqa: B027 - some raters have nothing to close
        """Free the memory."""


class LikelihoodRater(Rater):
    """The mean log-probability of a reply's tokens under a model; fluent, fitting replies have a high one."""

    def __init__(self, model: str) -> None:
        self._runtime: Runtime = open_runtime(model, context=CONTEXT)
        self.name = f"{LIKELIHOOD}{model}"
        self.identity = sha256_json(["likelihood", FORMULA, CONTEXT, find_model(model).identity])

    def rate(self, conversation: Sequence[Message], replies: Sequence[str]) -> list[float]:
        prompt = self._runtime.encode(list(conversation))
        ratings = []
        for reply in replies:
            ids = self._runtime.tokenize(reply) or self._runtime.tokenize(" ")
            whole = [*prompt, *ids]
            if len(whole) > self._runtime.context:
                raise EmpathyEdgeError(
                    f"a conversation with its reply has {len(whole)} tokens, more than the judge's context "
                    f"window of {self._runtime.context}"
                )
            ratings.append(round(float(self._runtime.log_probs(whole, len(prompt)).mean()), 5))
        return ratings

    def close(self) -> None:
        self._runtime.close()


def open_rater(spec: str) -> Rater:
    """A judge from its name.

    Raises:
        EmpathyEdgeError: there is no such judge.
    """
    if spec.startswith(LIKELIHOOD):
        return LikelihoodRater(spec.removeprefix(LIKELIHOOD))
    raise EmpathyEdgeError(f"{spec}: no such judge. Give {LIKELIHOOD}MODEL, as likelihood:smollm2-135m.")


def better(first: float, second: float) -> float:
    """The points of the first of two ratings: 1 if it is larger, 1/2 if they are equal."""
    if first == second:
        return 0.5
    return float(first > second)
