"""Step 0: where an artifact would end the reference's replies."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from empathy_edge.bench.check.baseline.record import Baseline, ReferenceReply
from empathy_edge.bench.check.steps.same_question import compare_questions
from empathy_edge.formats.chat_format import Message
from empathy_edge.runtimes.base import Runtime, Sampling
from tests.bench.check.rated import rated_baseline

END, OTHER_END, WORD = 1, 2, 7


class Stops(Runtime):
    """A runtime that renders each prompt to one token."""

    def __init__(self, *stop_ids: int) -> None:
        self.stop_ids = frozenset(stop_ids)

    def encode(self, messages: list[Message]) -> list[int]:
        return [1]

    def tokenize(self, text: str) -> list[int]:
        raise NotImplementedError

    def token_bytes(self, token: int) -> bytes:
        raise NotImplementedError

    def tokens(self, ids: Sequence[int], sampling: Sampling) -> Iterator[int]:
        raise NotImplementedError

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        raise NotImplementedError


def baseline(differing: int, *token_ids: int, prompts: int = 640) -> Baseline:
    """One with 4 replies to each prompt; the first reply to some of the prompts has other tokens."""
    made = rated_baseline(np.random.default_rng(0), prompts)
    records = list(made.prompts)
    for place in range(differing):
        records[place] = records[place].model_copy(
            update={"replies": (reply(*token_ids), *records[place].replies[1:])}
        )
    return made.model_copy(update={"prompts": tuple(records)})


def reply(*token_ids: int) -> ReferenceReply:
    log_probs = (0.0,) * len(token_ids)
    return ReferenceReply(token_ids=token_ids, log_probs=log_probs, text="Hello.", stopped=True, rating=0.0)


def test_nothing_is_said_where_all_replies_end_the_same() -> None:
    found = compare_questions(baseline(0), Stops(END, OTHER_END))
    assert (found.tokens, found.stops, found.note) == ((), "", "")


@pytest.mark.parametrize(
    ("token_ids", "stops", "words"),
    [
        ((WORD, END), (END, WORD), r"stops at [7], which occur inside"),
        ((WORD, OTHER_END), (END,), r"does not stop at [2], at which replies of the reference end"),
    ],
)
def test_a_few_replies_that_end_elsewhere_are_a_note(
    token_ids: tuple[int, ...], stops: tuple[int, ...], words: str
) -> None:
    found = compare_questions(baseline(1, *token_ids), Stops(*stops))
    assert not found.stops and words in found.note and "(1 of 2560 replies)" in found.note


def test_only_surely_more_than_five_percent_fail() -> None:
    """Of 640 prompts 48 with all of their replies: the first number with an exact p of at most 0.5 %."""
    for prompts, is_sure in ((47, False), (48, True)):
        made = baseline(0)
        records = [
            record.model_copy(update={"replies": (reply(WORD, END),) * 4}) if place < prompts else record
            for place, record in enumerate(made.prompts)
        ]
        found = compare_questions(made.model_copy(update={"prompts": tuple(records)}), Stops(END, WORD))
        assert bool(found.stops) is is_sure and bool(found.note) is not is_sure


def test_replies_to_one_prompt_are_not_independent() -> None:
    """One of the four replies to each of 64 prompts is 16 prompts' worth: 2.5 % of the replies."""
    found = compare_questions(baseline(64, WORD, END), Stops(END, WORD))
    assert not found.stops and "(64 of 2560 replies)" in found.note


def test_thousands_of_prompts_are_counted() -> None:
    found = compare_questions(baseline(1600, WORD, END, prompts=1600), Stops(END, WORD))
    assert "(1600 of 6400 replies)" in found.stops


def test_no_stop_token_in_common_fails() -> None:
    found = compare_questions(baseline(0), Stops(OTHER_END))
    assert found.stops == "it stops at [2], the reference at [1]"
