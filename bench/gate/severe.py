"""Severe flips: prompts whose response an absolute scorer rates 3 from the fine-tuned model and 1 from an artifact of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from empathy_edge.console import say
from empathy_edge.formats.dialogue import Dialogue
from empathy_edge.judging.certify import FEWEST, THRESHOLDS

if TYPE_CHECKING:
    from empathy_edge.judging.scorer import Scorer
    from empathy_edge.judging.tuned import TunedScorer


def severe_flips(
    scorer: Scorer | TunedScorer,
    dialogues: list[Dialogue],
    responses: dict[str, list[dict[str, Any]]],
    full: str,
) -> dict[str, Any]:
    """Rate every arm's responses and count, for each arm, the prompts that fell from 3 to 1.

    Args:
        scorer: what `score train` or `score tune` wrote, loaded.
        dialogues: what was answered.
        responses: arm → its responses, in the order of `dialogues`.
        full: the arm that the others are held against.

    Returns:
        The scorer, how many of the dialogues it was trained on, `doubts` why it may not decide, and whether it may (`certified`); by arm what
        `count_flips` gives, and the mean rating.
    """
    from empathy_edge.judging.rated import rows_to_score
    from empathy_edge.judging.scorer_figures import describe

    ratings = {
        arm: 1 + scorer.chances(rows_to_score(dialogues, [row["text"] for row in rows])).argmax(1)
        for arm, rows in responses.items()
    }
    seen = sum(scorer.seen(item.id) for item in dialogues)
    if seen:
        say(
            f"  [yellow]Warning:[/] the scorer was trained on responses to {seen} of {len(dialogues)} of these dialogues; it may not "
            "decide here. One trained with --leave-out may."
        )
    arms = {}
    for arm in responses:
        fell = [
            item.id
            for item, before, after in zip(dialogues, ratings[full], ratings[arm], strict=True)
            if (before, after) == (3, 1)
        ]
        rose = int(((ratings[full] == 1) & (ratings[arm] == 3)).sum())
        arms[arm] = count_flips(fell, len(dialogues), rose) | {
            "mean_rating": round(float(ratings[arm].mean()), 3)
        }
    doubts = doubts_of(scorer.figures, seen)
    return {
        "scorer": scorer.content["format"],
        "figures": describe(scorer.figures),
        "seen": seen,
        "doubts": doubts,
        "certified": not doubts,
        "arms": arms,
    }


def doubts_of(figures: dict[str, Any], seen: int) -> list[str]:
    """Why a scorer may not decide here, from its own figures and how many of the dialogues it has seen; nothing where it may."""
    found = [f"it was trained on responses to {seen} of these dialogues"] if seen else []
    low, pairs, least = figures["order"]["low"], figures["order_pairs"], 100 * THRESHOLDS["agreement_low"]
    if pairs < FEWEST:
        found.append(f"only {pairs} pairs tell whether it orders a 3 above a 1 (needed: {FEWEST})")
    elif low < least:
        found.append(f"it orders a 3 above a 1 in as few as {low:.0f} % of pairs (needed: {least:.0f} %)")
    return found


def count_flips(fell: list[str], prompts: int, rose: int = 0) -> dict[str, Any]:
    """The prompts that fell, their share with its one-sided 95 % bounds (Clopper and Pearson, 1934), and how many rose from 1 to 3.

    A scorer's noise moves as many up as down; only what falls beyond that is the artifact's doing.
    """
    from scipy.stats import binomtest

    interval = binomtest(len(fell), prompts).proportion_ci(0.9)
    return {
        "prompts": prompts,
        "fell": fell,
        "rose": rose,
        "share": round(len(fell) / prompts, 4),
        "low": round(float(interval.low), 4),
        "high": round(float(interval.high), 4),
    }
