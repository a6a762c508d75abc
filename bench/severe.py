"""Severe flips: prompts whose response an absolute scorer rates 3 from the fine-tuned model and 1 from an artifact of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
        The scorer and whether it may decide (it orders a 3 above a 1 surely better than chance); by arm the prompts, the
        ids that fell, their share, and the one-sided 95 % bounds of the share (Clopper and Pearson, 1934).
    """
    import pandas as pd
    from scipy.stats import binomtest

    from empathy_edge.scoring.scorer import describe

    ratings = {}
    for arm, rows in responses.items():
        frame = pd.DataFrame(
            {
                "situation": [item.situation for item in dialogues],
                "speaker_uttr": [item.utterance for item in dialogues],
                "response": [row["text"] for row in rows],
            }
        )
        ratings[arm] = 1 + scorer.chances(frame).argmax(1)
    arms = {}
    for arm in responses:
        fell = [
            item.id
            for item, before, after in zip(dialogues, ratings[full], ratings[arm], strict=True)
            if (before, after) == (3, 1)
        ]
        test = binomtest(len(fell), len(dialogues))
        arms[arm] = {
            "prompts": len(dialogues),
            "fell": fell,
            "share": round(len(fell) / len(dialogues), 4),
            "low": round(float(test.proportion_ci(0.9).low), 4),
            "high": round(float(test.proportion_ci(0.9).high), 4),
            "mean_rating": round(float(ratings[arm].mean()), 3),
        }
    return {
        "scorer": scorer.content["format"],
        "figures": describe(scorer.figures),
        "certified": scorer.figures["order"]["low"] / 100 >= THRESHOLDS["agreement_low"],
        "arms": arms,
    }
