"""Severe flips: prompts whose response an absolute scorer rates 3 from the fine-tuned model and 1 from an artifact of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from empathy_edge.console import say
from empathy_edge.dialogue import Dialogue

from .certify import THRESHOLDS

if TYPE_CHECKING:
    from empathy_edge.scoring.scorer import Scorer
    from empathy_edge.scoring.tuned import TunedScorer


def severe_flips(
    scorer: Scorer | TunedScorer, dialogues: list[Dialogue], responses: dict[str, list[dict[str, Any]]], full: str
) -> dict[str, Any]:
    """Rate every arm's responses and count, for each arm, the prompts that fell from 3 to 1.

    Args:
        scorer: what `score train` or `score tune` wrote, loaded.
        dialogues: what was answered.
        responses: arm → its responses, in the order of `dialogues`.
        full: the arm that the others are held against.

    Returns:
        The scorer, how many of the dialogues it was trained on, and whether it may decide (none, and it orders a 3 above a 1
        surely better than chance); by arm the prompts, the ids that fell, their share, and the one-sided 95 % bounds of the share (Clopper and Pearson, 1934).
    """
    from empathy_edge.scoring.rated import rows_to_score
    from empathy_edge.scoring.scorer import describe

    ratings = {
        arm: 1 + scorer.chances(rows_to_score(dialogues, [row["text"] for row in rows])).argmax(1)
        for arm, rows in responses.items()
    }
    seen = sum(scorer.seen(item.id) for item in dialogues)
    if seen:
        say(
            f"  [yellow]Warning:[/] the scorer was trained on responses to {seen} of {len(dialogues)} of these dialogues; it may not "
            "decide here. One trained with --certifiable, or on other dialogues, may."
        )
    arms = {}
    for arm in responses:
        fell = [
            item.id
            for item, before, after in zip(dialogues, ratings[full], ratings[arm], strict=True)
            if (before, after) == (3, 1)
        ]
        arms[arm] = count_flips(fell, len(dialogues)) | {"mean_rating": round(float(ratings[arm].mean()), 3)}
    return {
        "scorer": scorer.content["format"],
        "figures": describe(scorer.figures),
        "seen": seen,
        "certified": not seen and scorer.figures["order"]["low"] / 100 >= THRESHOLDS["agreement_low"],
        "arms": arms,
    }


def count_flips(fell: list[str], prompts: int) -> dict[str, Any]:
    """The share of prompts that fell, and the one-sided 95 % bounds of it (Clopper and Pearson, 1934)."""
    from scipy.stats import binomtest

    interval = binomtest(len(fell), prompts).proportion_ci(0.9)
    return {
        "prompts": prompts,
        "fell": fell,
        "share": round(len(fell) / prompts, 4),
        "low": round(float(interval.low), 4),
        "high": round(float(interval.high), 4),
    }
