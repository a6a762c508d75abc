"""Step 0: does the artifact's runtime read the same prompts, and end replies at the same tokens?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from empathy_edge.bench.check.baseline.record import Baseline, PromptRecord
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION
from empathy_edge.runtimes import Runtime

TESTED = 32
"""How many prompts are rendered and compared before all else: half with many turns, half with few."""


@dataclass(frozen=True)
class SameQuestion:
    """What differs, in words; none where all is the same.

    Attributes:
        tokens: of the rendered prompts: then log-probabilities are of other texts, and step 3 is left out.
        stops: of the tokens at which replies end.
    """

    tokens: tuple[str, ...]
    stops: tuple[str, ...]


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
    return SameQuestion(tuple(tokens), tuple(_other_stops(baseline, runtime)))


def same_tokens(record: PromptRecord, runtime: Runtime) -> bool:
    """Whether the artifact's runtime renders a prompt to the baseline's token ids."""
    return tuple(runtime.encode(list(record.messages))) == record.token_ids


def _other_stops(baseline: Baseline, runtime: Runtime) -> Iterator[str]:
    """Where the artifact would end replies of the reference, or go on after them, in words."""
    ended: set[int] = set()
    inside: set[int] = set()
    for record in baseline.prompts:
        for reply in record.replies:
            ended.update(reply.token_ids[-1:] if reply.stopped else ())
            inside.update(reply.token_ids[:-1] if reply.stopped else reply.token_ids)
    missing = sorted(ended - runtime.stop_ids)
    if missing:
        yield f"it does not stop at {missing}, at which the reference's replies end"
    elif not runtime.stop_ids.intersection(baseline.reference.stop_ids):
        yield f"it stops at {sorted(runtime.stop_ids)}, the reference at {list(baseline.reference.stop_ids)}"
    early = sorted(inside & runtime.stop_ids)
    if early:
        yield f"it stops at {early}, which occur inside of the reference's replies"
