"""Who rates replies without an API: a judge that gives each reply a number, larger for a better one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.models.find import find_model
from empathy_edge.models.shipped import SHIPPED
from empathy_edge.runtimes import Runtime, open_runtime
from empathy_edge.system.files import sha256_json

CONTEXT = 2048
LIKELIHOOD = "likelihood:"
FORMULA = 1
"""Of the ratings; another one makes other judges."""

SHIPPED_JUDGES = tuple(f"{LIKELIHOOD}{name}" for name in SHIPPED)
"""Judges that a baseline may name without the user naming them, too."""


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
    """

    name: str
    identity: str
    together: bool = False
    block: int = 16
    tuned: bool = True

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


class LikelihoodRater(Rater):
    """The mean log-probability of a reply's tokens under a model; fluent, fitting replies have a high one."""

    def __init__(self, model: str) -> None:
        self._runtime: Runtime = open_runtime(model, context=CONTEXT)
        self.name = f"{LIKELIHOOD}{model}"
        self.identity = sha256_json(["likelihood", FORMULA, CONTEXT, find_model(model).identity])

    def rate_many(
        self, items: Sequence[ToRate], rated: Callable[[], None] = lambda: None
    ) -> list[list[float]]:
        found = []
        for item in items:
            prompt = self._runtime.encode(list(item.conversation))
            found.append([self._rating(prompt, reply) for reply in item.replies])
            rated()
        return found

    def _rating(self, prompt: list[int], reply: str) -> float:
        whole = [*prompt, *(self._runtime.tokenize(reply) or self._runtime.tokenize(" "))]
        refuse_long(len(whole), self._runtime.context)
        return round(float(self._runtime.log_probs(whole, len(prompt)).mean()), 5)

    def close(self) -> None:
        self._runtime.close()


def open_rater(spec: str, api: ApiSettings) -> Rater:
    """A judge from its name.

    Args:
        spec: likelihood:MODEL, openai:MODEL, local:MODEL, trained:FOLDER or sheet:FILE.csv.
        api: endpoint and limits, for openai:MODEL.

    Raises:
        EmpathyEdgeError: there is no such judge.
    """
    kind, _, name = spec.partition(":")
    if kind == "likelihood" and name:
        return LikelihoodRater(name)
    if kind == "trained" and name:
        from empathy_edge.bench.check.judges.trained_rater import TrainedRater

        return TrainedRater(spec, Path(name))
    if kind in ("openai", "local") and name:
        from empathy_edge.bench.check.judges.model_rater import ModelRater

        return ModelRater(spec, api)
    if kind == "sheet" and name:
        from empathy_edge.bench.check.judges.certificate import certifying_items
        from empathy_edge.bench.check.judges.sheet_rater import SheetRater

        return SheetRater(Path(name), certifying_items())
    raise EmpathyEdgeError(
        f"{spec}: no such judge. Give openai:MODEL, local:MODEL, sheet:FILE.csv, trained:FOLDER or "
        f"{LIKELIHOOD}MODEL, as {LIKELIHOOD}smollm2-135m."
    )


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
