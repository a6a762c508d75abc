"""What a judge is shown and what it answers: pairs, verdicts, what a verdict counts, and what makes a tie."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from empathy_edge.formats.chat_format import Message
from empathy_edge.prompts import load_prompts
from empathy_edge.system.files import sha256_json

ANSWERS = {"1": "first", "2": "second", "0": "tie"}
"""A judge's or a person's answer about a pair → the verdict."""

POINTS = {"first": 1.0, "tie": 0.5, "second": 0.0}
"""A verdict → the first response's points. An answer that could not be read (`unparsed`) has none."""

SWAPPED = {"first": "second", "second": "first", "tie": "tie", "unparsed": "unparsed"}
"""A verdict on a pair shown in the other order → the same verdict in this order."""

FAILED = "failed"
"""No verdict: the call to the judge failed. It is not stored, and asked for again."""

POINT_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The points that one dialogue can have from both orders."""

PREFERENCE_TIE_MARGIN = 0.05
"""The learned judge: a tie where P(the first response is better) is within 0.5 ± this."""

ANSWER_TIE_MARGIN = 0.1
"""A local model as judge: a tie where the probabilities of its answers 1 and 2 differ by less than this."""

RATING_TIE_MARGIN = 0.1
"""Two ratings, by a scorer or by people: a tie where they differ by less than this."""


UNKNOWN = "(not told)"
"""What a judge is told of a situation that is not known."""


@dataclass(frozen=True)
class Pair:
    """Two responses to one person, in the order in which the judge sees them."""

    id: str
    situation: str
    utterance: str
    first: str
    second: str

    def key(self, question: str) -> str:
        """What a verdict is stored under: the hash of the question and of the texts in their order."""
        return sha256_json([question, self.situation, self.utterance, self.first, self.second])[:24]

    def swapped(self) -> Pair:
        """The same pair in the other order."""
        return replace(self, first=self.second, second=self.first)

    def messages(self, question: str) -> list[Message]:
        """The chat messages that ask a model about this pair."""
        prompts = load_prompts("judge")
        slots = {name: value for name, value in asdict(self).items() if name != "id"}
        slots["situation"] = self.situation or UNKNOWN
        return [
            {"role": "system", "content": prompts.text("system")},
            {"role": "user", "content": prompts.text("pair", **slots, question=prompts.text(question))},
        ]


@dataclass(frozen=True)
class Verdict:
    """What a judge says about a pair in one order.

    Attributes:
        verdict: first, second, tie or unparsed.
        first: the probability that the first response is better, where the judge gives one.
        answer: the judge's own words, where it used words.
        mirrored: the judge was not asked in this order; its verdict in the other order was turned round.
    """

    verdict: str
    first: float | None = None
    answer: str = ""
    mirrored: bool = False


def verdict_of_ratings(first: float, second: float) -> Verdict:
    """The response that is rated higher wins, unless the ratings are nearly the same."""
    if abs(first - second) < RATING_TIE_MARGIN:
        return Verdict("tie")
    return Verdict("first" if first > second else "second")


def rating_key(question: str, situation: str, utterance: str, reply: str) -> str:
    """What a rating of a single reply is stored under."""
    return sha256_json([question, situation, utterance, reply])[:24]
