"""Severe flips: an absolute scorer rates the fine-tuned model's response 3 and the artifact's response 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from empathy_edge.bench.gate.responses import ResponseRow
from empathy_edge.bench.gate.winrate_results import ArmFlips, SevereFlips
from empathy_edge.console import say
from empathy_edge.errors import require_extra
from empathy_edge.formats.dialogue import Dialogue
from empathy_edge.judging.certificate import MIN_PAIRS, THRESHOLDS
from empathy_edge.judging.pairwise_judges import Judge, ScorerJudge

if TYPE_CHECKING:
    from empathy_edge.judging.base_scorer import BaseScorer

BAD, GOOD = 1, 3
"""The worst and the best rating."""


def open_scorer_or_reuse(file: Path, judge: Judge | None) -> BaseScorer:
    """Load a scorer, unless the judge is the same scorer.

    Then the judge's own is returned, so that no model is loaded and no response is rated twice.
    """
    if isinstance(judge, ScorerJudge) and judge.file.samefile(file):
        return judge.scorer
    require_extra("sklearn", "score", "Counting severe flips")
    from empathy_edge.judging.open_scorer import open_scorer

    return open_scorer(file)


def severe_flips(
    scorer: BaseScorer,
    dialogues: list[Dialogue],
    responses: Mapping[str, Sequence[ResponseRow]],
    reference: str,
) -> SevereFlips:
    """Rate every arm's responses and count, for each arm, the prompts that fell from 3 to 1.

    Args:
        scorer: what `score train` or `score tune` wrote, loaded.
        dialogues: what was answered.
        responses: arm → its responses, in the order of `dialogues`.
        reference: the arm that the others are compared with.
    """
    from empathy_edge.judging.base_scorer import describe
    from empathy_edge.judging.rated import rows_to_score

    ratings = {}
    for arm, rows in responses.items():
        probabilities = scorer.probabilities(rows_to_score(dialogues, [row["text"] for row in rows]))
        ratings[arm] = BAD + probabilities.argmax(1)
    seen = sum(scorer.seen(dialogue.id) for dialogue in dialogues)
    if seen:
        say(
            f"  [yellow]Warning:[/] the scorer was trained on responses to {seen} of {len(dialogues)} of "
            "these dialogues; it may not decide here. One trained with --leave-out may."
        )
    doubts = doubts_of(scorer.figures["order"]["low"], scorer.figures["order_pairs"], seen)
    return SevereFlips(
        scorer=scorer.content["format"],
        figures=describe(scorer.figures),
        seen=seen,
        doubts=tuple(doubts),
        certified=not doubts,
        arms={arm: _flips_of_arm(dialogues, ratings[reference], ratings[arm]) for arm in responses},
    )


def _flips_of_arm(dialogues: list[Dialogue], before: np.ndarray, after: np.ndarray) -> ArmFlips:
    """The flips between two arms' ratings, 1 to 3, int64 [dialogues] each."""
    has_fallen = (before == GOOD) & (after == BAD)
    has_risen = (before == BAD) & (after == GOOD)
    fell = [dialogue.id for dialogue, fallen in zip(dialogues, has_fallen, strict=True) if fallen]
    flips = count_flips(fell, len(dialogues), int(has_risen.sum()))
    return flips.model_copy(update={"mean_rating": round(float(after.mean()), 3)})


def doubts_of(order_low: float, order_pairs: int, seen: int) -> list[str]:
    """Why a scorer may not decide here; empty where it may.

    Args:
        order_low: in how many pairs (per cent) it rates a 3 above a 1, the lower end of the 95 % interval.
        order_pairs: how many such pairs there are.
        seen: how many of the dialogues it was trained on.
    """
    doubts = []
    if seen:
        doubts.append(f"it was trained on responses to {seen} of these dialogues")
    needed = 100 * THRESHOLDS["agreement_low"]
    if order_pairs < MIN_PAIRS:
        doubts.append(f"only {order_pairs} pairs tell whether it orders a 3 above a 1 (needed: {MIN_PAIRS})")
    elif order_low < needed:
        doubts.append(
            f"it orders a 3 above a 1 in as few as {order_low:.0f} % of pairs (needed: {needed:.0f} %)"
        )
    return doubts


def count_flips(fell: Sequence[str], prompts: int, rose: int = 0) -> ArmFlips:
    """The share of prompts that fell, with its one-sided 95 % bounds (Clopper and Pearson, 1934).

    A scorer's noise moves as many up as down. Only what falls beyond that is the artifact's doing, so those
    that rose are counted, too.
    """
    from scipy.stats import binomtest

    interval = binomtest(len(fell), prompts).proportion_ci(0.9)
    return ArmFlips(
        prompts=prompts,
        fell=tuple(fell),
        rose=rose,
        share=round(len(fell) / prompts, 4),
        low=round(float(interval.low), 4),
        high=round(float(interval.high), 4),
    )
