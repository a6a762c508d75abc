"""A judge without training: how likely a model finds a reply."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from empathy_edge.judging.raters.rater import CONTEXT, Rater, ToRate, refuse_long
from empathy_edge.models.find import find_model
from empathy_edge.models.shipped import SHIPPED
from empathy_edge.runtimes import Runtime, open_runtime
from empathy_edge.system.files import sha256_json

LIKELIHOOD = "likelihood:"
FORMULA = 1
"""Of the ratings; another one makes other judges."""

SHIPPED_JUDGES = tuple(f"{LIKELIHOOD}{name}" for name in SHIPPED)
"""Judges that a baseline may name without the user naming them, too."""


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
