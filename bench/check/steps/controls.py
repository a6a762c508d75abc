"""Controls, from the baseline alone: does the judge see a loss where there is one, and only there?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from empathy_edge.bench.check.baseline.record import Baseline, PromptRecord
from empathy_edge.judging.raters.rater import better, better_reply
from empathy_edge.judging.statistics import Interval, score_interval

MILD = (0.05, 0.1, 0.2)
"""In which shares of prompts the reply of another prompt is given, as mild damage of well-formed replies."""

SURELY = 3.3
"""Standard errors from one half: a reference against itself is there by chance once in a thousand runs."""


@dataclass(frozen=True)
class Controls:
    """Win rates of replies whose loss is known.

    Attributes:
        against_itself: the reference's first reply against its other ones: ½ in expectation.
        misplaced: a reply to another prompt against those to this one.
        q2_k: a reply of the reference's own Q2_K form against the reference's; None where there are none.
            A model may bear so few bits well, but it does not get better.
        doubts: what is out of order; then the judge's figures decide nothing.
    """

    against_itself: Interval
    misplaced: Interval
    q2_k: Interval | None
    doubts: tuple[str, ...]

    def damaged(self, share: float) -> float:
        """The win rate of the reference with the reply of another prompt in a share of the prompts."""
        return 0.5 + share * (self.misplaced.mean - 0.5)


def controls_of(baseline: Baseline) -> Controls:
    """The controls, with intervals over prompts."""
    itself, misplaced, q2_k = [], [], []
    for record in baseline.prompts:
        first, *others = [reply.rating for reply in record.replies]
        itself.append(float(np.mean([better(first, other) for other in others])))
        ratings = [reply.rating for reply in record.replies]
        misplaced.append(float(np.mean([better(record.misplaced_rating, other) for other in ratings])))
        if record.q2_k_rating is not None:
            q2_k.append(_points_of_q2_k(record, record.q2_k_rating))
    of_itself, of_misplaced = score_interval(itself), score_interval(misplaced)
    of_q2_k = score_interval(q2_k) if q2_k else None
    doubts = []
    if abs(of_itself.mean - 0.5) > SURELY * _standard_error(itself) + 1e-12:
        doubts.append(f"the reference against itself wins {of_itself.mean:.1%}, not half")
    if of_misplaced.high >= 0.5:
        doubts.append(
            f"the judge does not see replies to other prompts: they win {of_misplaced.mean:.1%} "
            f"[{of_misplaced.low:.1%}, {of_misplaced.high:.1%}]"
        )
    if of_q2_k is not None and of_q2_k.mean - 0.5 > SURELY * _standard_error(q2_k) + 1e-12:
        doubts.append(
            f"the judge prefers the reference's own Q2_K form to the reference: it wins {of_q2_k.mean:.1%} "
            f"[{of_q2_k.low:.1%}, {of_q2_k.high:.1%}]"
        )
    return Controls(of_itself, of_misplaced, of_q2_k, tuple(doubts))


def _standard_error(points: Sequence[float]) -> float:
    return float(np.std(points)) / len(points) ** 0.5


def _points_of_q2_k(record: PromptRecord, rating: float) -> float:
    """Against each of the reference's replies; the same text is equally good."""
    q2_k = (record.q2_k_text or "", rating)
    return float(np.mean([better_reply(q2_k, (reply.text, reply.rating)) for reply in record.replies]))
