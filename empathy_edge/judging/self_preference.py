"""Self-preference: does a judge prefer responses of its own family of models more than people do?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypedDict

from empathy_edge.judging.comparison_figures import PromptVerdicts, points_of
from empathy_edge.judging.response_pairs import ResponsePairs
from empathy_edge.judging.statistics import wilson

MIN_PAIRS = 20
"""With fewer pairs that have one response of the judge's family, no figure is given."""

FAMILIES = {
    "GPT": r"gpt|\bo[1-9]\b",
    "Claude": r"claude|sonnet|opus|haiku",
    "Gemini": r"gemini|gemma",
    "Llama": r"llama|vicuna",
    "Mistral": r"mistral|mixtral",
    "Qwen": r"qwen|qwq",
    "SmolLM": r"smollm",
    "DeepSeek": r"deepseek",
}
"""Families of models, by a pattern in their names."""


class SelfPreference(TypedDict, total=False):
    """How often the judge, and how often people, prefer the response of the judge's own family.

    `judge` and `people` are shares of the `pairs` with one response of the `family`; `low` and `high` are the
    95 % Wilson interval of the judge's. Where there is no figure, `why_not` says why.
    """

    family: str
    pairs: int
    judge: float
    low: float
    high: float
    people: float
    why_not: str


def family_of(name: str) -> str | None:
    """The family of models that a judge or a response's source belongs to, by its name; None: not known."""
    return next((family for family, pattern in FAMILIES.items() if re.search(pattern, name.lower())), None)


def self_preference(
    rows: Iterable[PromptVerdicts], pairs: ResponsePairs, family: str | None
) -> SelfPreference:
    """How often a judge prefers its own family's response to another one, and how often people do.

    Args:
        rows: the judge's verdicts.
        pairs: the responses, the one that people rated better first; each row has its `source`.
        family: the judge's.
    """
    if family is None:
        return {"why_not": "the judge's family is not known by its name"}
    by_judge, by_people = [], []
    for name, points in points_of(rows).items():
        better_is_own = family_of(pairs.first[name]["source"]) == family
        worse_is_own = family_of(pairs.second[name]["source"]) == family
        if better_is_own != worse_is_own:
            by_judge.append(points if better_is_own else 1 - points)
            by_people.append(better_is_own)
    if len(by_judge) < MIN_PAIRS:
        return {
            "family": family,
            "why_not": f"only {len(by_judge)} pairs have one response of its family, {family}",
        }
    low, high = wilson(sum(by_judge), len(by_judge))
    return {
        "family": family,
        "pairs": len(by_judge),
        "judge": round(sum(by_judge) / len(by_judge), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "people": round(sum(by_people) / len(by_people), 4),
    }


def describe(found: SelfPreference) -> str:
    """Self-preference in one line."""
    if "why_not" in found:
        return f"not available, {found['why_not']}"
    return (
        f"{found['family']}'s own response preferred in {found['judge']:.0%} "
        f"[{found['low']:.0%}, {found['high']:.0%}] of {found['pairs']} pairs, "
        f"by people in {found['people']:.0%}"
    )
