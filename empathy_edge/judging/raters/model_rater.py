"""A large model that rates replies, behind an API or on this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message
from empathy_edge.judging.raters.rater import LARGEST, Rater, ToRate
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.llm.client import CallsFailed
from empathy_edge.llm.records import CutOff, Request, TeacherError, Withheld
from empathy_edge.llm.teachers import open_model_client
from empathy_edge.prompts import load_prompts
from empathy_edge.system.files import sha256_json

TRIES = 3
"""How often the model is asked in all when its answer cannot be read."""

MOST_LEFT_OUT = 0.2
"""The largest share of answers that may be withheld or unreadable where prompts can be left out."""

TOKENS_A_RATING = 8
"""Of the answer."""

MOST_NAMED = 10
"""So many prompts are named in an error."""

FIRST_LETTERS = 60
"""Of a prompt, where an error names it."""


class ModelRater(Rater):
    """Asks for ratings from 0 to 100 of all replies to a conversation in one call, in both orders.

    Answers go through the ledger: what was paid for is not asked again.
    """

    together = True
    tuned = False
    scale = LARGEST

    def __init__(self, spec: str, api: ApiSettings, run: str, *, leave_out: bool = False) -> None:
        self._stack = ExitStack()
        self._client = self._stack.enter_context(open_model_client(spec, api, run=run))
        self._prompts = load_prompts("rate")
        self.name = spec
        self._leave_out = leave_out
        self._most_unread = MOST_LEFT_OUT if leave_out else 0.0
        self.identity = sha256_json(["model", self._client.identity(), self._prompts.sha256])

    def rate_many(
        self, items: Sequence[ToRate], rated: Callable[[], None] = lambda: None
    ) -> list[list[float]]:
        """See `Rater`. An item has no ratings where they are withheld or unreadable and may be left out.

        Raises:
            CallsFailed: some calls failed.
            EmpathyEdgeError: too many answers are withheld or unreadable.
        """
        ratings = self._client.run(items, self._both_orders, label=f"ratings by {self.name}")
        failed = [item for item in ratings if isinstance(item, TeacherError) and not _is_withheld(item)]
        if failed:
            raise CallsFailed(
                f"{len(failed)} of {len(items)} calls to {self.name} failed (the first: {failed[0]}).\n"
                "  The other answers are kept; run the same command again to ask for the missing ones."
            )
        unread = sum(item is None for item in ratings)
        withheld = [item for item, given in zip(items, ratings, strict=True) if _is_withheld(given)]
        if unread + len(withheld) > self._most_unread * len(items):
            raise self._too_many(len(items), unread, withheld)
        return [item if isinstance(item, list) else [] for item in ratings]

    def _too_many(self, count: int, unread: int, withheld: Sequence[ToRate]) -> EmpathyEdgeError:
        """The error about answers without ratings, of `count` answers."""
        found = []
        if withheld:
            advice = "Take another judge."
            if not self._leave_out:
                advice = (
                    "Leave these prompts out of --prompts, and make the baseline again; one that is not in "
                    "that file is of the certificate, and needs another judge."
                )
            found.append(
                f"{len(withheld)} of {count} answers are withheld (a refusal, or a content filter), to the "
                f"prompts {_first_words(withheld)}. {advice} The other answers are kept, and not paid for "
                "twice."
            )
        if unread:
            found.append(
                f"{unread} of {count} answers are no lists of ratings, after {TRIES} tries each. Take a "
                "larger model as judge."
            )
        return EmpathyEdgeError(f"{self.name}: " + "\n  ".join(found))

    def close(self) -> None:
        self._stack.close()

    async def _both_orders(self, item: ToRate) -> list[float] | None:
        forward = await self._ask(item.conversation, item.replies)
        if forward is None or len(item.replies) == 1:
            return forward
        backward = await self._ask(item.conversation, item.replies[::-1])
        if backward is None:
            return None
        return [float(np.mean(both)) for both in zip(forward, backward[::-1], strict=True)]

    async def _ask(self, conversation: Sequence[Message], replies: Sequence[str]) -> list[float] | None:
        """The ratings of the first answer that can be read.

        Raises:
            TeacherError: a call failed for good, or the endpoint withholds the answer.
        """
        count = len(replies)
        said = [f"{turn['role']}: {turn['content']}" for turn in conversation if turn["role"] != "system"]
        shown = [
            f"{number}. {json.dumps(reply, ensure_ascii=False)}" for number, reply in enumerate(replies, 1)
        ]
        text = partial(self._prompts.text, count=str(count))
        question = [text("conversation"), *said, "", text("replies"), *shown, "", text("ask")]
        messages: tuple[Message, ...] = (
            {"role": "system", "content": self._prompts.text("system")},
            {"role": "user", "content": "\n".join(question)},
        )
        for sample in range(TRIES):
            temperature = 0.0 if sample == 0 else 0.7
            request = Request(messages, temperature, TOKENS_A_RATING * (count + 2), sample, said[-1][:40])
            try:
                answer = await self._client.ask(request)
            except CutOff:
                continue
            ratings = read_ratings(answer.text, count)
            if ratings is not None:
                return ratings
        return None


def _is_withheld(given: object) -> bool:
    return isinstance(given, Withheld)


def _first_words(items: Sequence[ToRate]) -> str:
    """How the last turns of these conversations begin."""
    said = [" ".join(item.conversation[-1]["content"].split()) for item in items]
    named = [repr(text[:FIRST_LETTERS]) for text in said[:MOST_NAMED]]
    more = len(said) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def read_ratings(text: str, count: int) -> list[float] | None:
    """The numbers of an answer that is one JSON array of so many numbers from 0 to 100."""
    match = re.fullmatch(r"\s*(?:```(?:json)?)?\s*(\[[^\[\]]*\])\s*(?:```)?\s*", text)
    try:
        numbers = json.loads(match[1]) if match else None
    except ValueError:
        return None
    if not isinstance(numbers, list) or len(numbers) != count:
        return None
    if not all(type(number) in (int, float) and 0 <= number <= LARGEST for number in numbers):
        return None
    return [float(number) for number in numbers]
