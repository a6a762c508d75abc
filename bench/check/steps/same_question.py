"""Step 0: does the artifact's runtime read the same prompts, and end replies at the same tokens?"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

from empathy_edge.bench.check.baseline.record import Baseline, PromptRecord
from empathy_edge.bench.check.steps.likelihood import ends_the_same
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION
from empathy_edge.judging.statistics import binomial_tail
from empathy_edge.runtimes import Runtime

TESTED = 32
"""How many prompts are rendered and compared before all else: half with many turns, half with few."""

ALPHA = 0.005
"""The probability with which a FAIL of this step may be wrong, as for a look of step 2."""

MOST_ELSEWHERE = 0.05
"""The share of the reference's replies that an artifact may end elsewhere without a FAIL."""


@dataclass(frozen=True)
class SameQuestion:
    """What differs, in words; none where all is the same.

    Attributes:
        tokens: of the rendered prompts: then log-probabilities are of other texts, and step 3 is left out.
        stops: that replies surely end elsewhere; empty: they do not.
        note: that a few replies end elsewhere, too few for a verdict; empty: none does.
    """

    tokens: tuple[str, ...]
    stops: str
    note: str


def compare_questions(baseline: Baseline, runtime: Runtime) -> SameQuestion:
    """Render prompts by the artifact's own template and tokenizer, and compare with the baseline's."""
    tokens = []
    if tuple(runtime.encode(GOLDEN_CONVERSATION)) != baseline.reference.golden_ids:
        tokens.append("a fixed conversation with accents, emoji and several turns has other token ids")
    by_turns = sorted(baseline.prompts, key=lambda record: -len(record.messages))
    tested = [*by_turns[: TESTED // 2], *by_turns[-TESTED // 2 :]]
    differing = [record.id for record in tested if not same_tokens(record, runtime)]
    if differing:
        tokens.append(
            f"{len(differing)} of {len(tested)} prompts have other token ids (first: {differing[0]})"
        )
    stops, note = _other_stops(baseline, runtime.stop_ids)
    return SameQuestion(tuple(tokens), stops, note)


def same_tokens(record: PromptRecord, runtime: Runtime) -> bool:
    """Whether the artifact's runtime renders a prompt to the baseline's token ids."""
    return tuple(runtime.encode(list(record.messages))) == record.token_ids


def _other_stops(baseline: Baseline, stop_ids: frozenset[int]) -> tuple[str, str]:
    """Whether the artifact would end the reference's replies elsewhere: a reason for FAIL, and a note.

    The prompts are independent, the replies to one of them are not. So a prompt counts with the share of its
    replies, and the sum is rounded down.
    """
    if not stop_ids.intersection(baseline.reference.stop_ids):
        stops = f"it stops at {sorted(stop_ids)}, the reference at {list(baseline.reference.stop_ids)}"
        return stops, ""
    elsewhere, prompts, total = 0, 0.0, 0
    for record in baseline.prompts:
        differing = sum(not ends_the_same(reply, stop_ids) for reply in record.replies)
        elsewhere += differing
        prompts += differing / len(record.replies)
        total += len(record.replies)
    if not elsewhere:
        return "", ""
    words = f"{_how_they_end(baseline, stop_ids)} ({elsewhere} of {total} replies)"
    if binomial_tail(floor(prompts + 1e-9), len(baseline.prompts), MOST_ELSEWHERE) <= ALPHA:
        return words, ""
    return "", f"{words}: not surely more than {MOST_ELSEWHERE:.0%} of them, which is no FAIL"


def _how_they_end(baseline: Baseline, stop_ids: frozenset[int]) -> str:
    ended: set[int] = set()
    inside: set[int] = set()
    for record in baseline.prompts:
        for reply in record.replies:
            ended.update(reply.token_ids[-1:] if reply.stopped else ())
            inside.update(reply.token_ids[:-1] if reply.stopped else reply.token_ids)
    found = []
    if missing := sorted(ended - stop_ids):
        found.append(f"it does not stop at {missing}, at which replies of the reference end")
    if early := sorted(inside & stop_ids):
        found.append(f"it stops at {early}, which occur inside of the reference's replies")
    return ", and ".join(found)
