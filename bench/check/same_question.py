"""Step 0: does the artifact's runtime read the same prompts, and end replies at the same tokens?"""

from __future__ import annotations

from dataclasses import dataclass

from empathy_edge.bench.check.baseline import Baseline
from empathy_edge.bench.check.make import golden_ids
from empathy_edge.runtimes import Runtime

TESTED = 32
"""How many prompts are rendered and compared; those with several turns come first."""


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
    if tuple(golden_ids(runtime)) != baseline.reference.golden_ids:
        tokens.append("a fixed conversation with accents, emoji and several turns has other token ids")
    by_turns = sorted(baseline.prompts, key=lambda record: -len(record.messages))
    tested = by_turns[:TESTED]
    differing = [
        record.id for record in tested if tuple(runtime.encode(list(record.messages))) != record.token_ids
    ]
    if differing:
        tokens.append(
            f"{len(differing)} of {len(tested)} prompts have other token ids (first: {differing[0]})"
        )
    stops = []
    if not set(baseline.reference.stop_ids) & runtime.stop_ids:
        stops.append(
            f"replies end at the tokens {sorted(runtime.stop_ids)}, the reference's at "
            f"{list(baseline.reference.stop_ids)}"
        )
    missing = set(baseline.reference.declared_stop_ids) & set(baseline.reference.stop_ids) - runtime.stop_ids
    if missing and not stops:
        stops.append(f"it does not stop at {sorted(missing)}, at which the reference stops")
    return SameQuestion(tuple(tokens), tuple(stops))
