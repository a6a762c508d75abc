"""From the evidence of all steps to bounds of the win rate W, with one promise for the whole ladder.

Each step gives an e-value against "W is at most m", and one against "W is at least m". It exceeds 1 / α with
a probability of at most α, whenever one stops. The steps share α by fixed parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log, pi, sin
from typing import Literal

import numpy as np

from empathy_edge.bench.check.baseline.record import JudgeRecord
from empathy_edge.judging.evidence import log_evidence, log_mean_exp, lower_bound

Step = Literal["any-judge", "likelihood", "judge"]

STEPS: tuple[Step, ...] = ("any-judge", "likelihood", "judge")
MONEY = {"any-judge": 0.2, "likelihood": 0.4, "judge": 0.4}
"""How the average is weighted: fixed before anything is seen."""

ALPHA = 0.05
"""The probability with which a PASS (or a FAIL) may be wrong, for all steps together."""

ALPHA_JUDGE = 0.01
"""The part of it that is for the judge's own accuracy."""

ENOUGH = log(1 / (ALPHA - ALPHA_JUDGE))
"""The logarithm of the evidence that decides."""

SMALLEST_EFFECTIVE_SHARE = 0.2
"""Below it weighted comparisons tell nothing: too few of the reference's replies stand for all of them."""


@dataclass(frozen=True)
class Evidence:
    """What all steps have found so far; one number for each prompt.

    Attributes:
        judge: of the baseline.
        any_judge: see `PromptEvidence`.
        wins: see `PromptEvidence`.
        losses: the same.
        judged: the points (0 to 1) of the artifact's own replies against the reference's.
        weights_hold: whether the weights tell anything; else their evidence counts as none at all (an
            e-value of 0: that a step was refused because of what it found must not help).
        judge_counts: whether the judge is certified and the controls behaved; else the same.
    """

    judge: JudgeRecord
    any_judge: Sequence[float] = ()
    wins: Sequence[float] = ()
    losses: Sequence[float] = ()
    judged: Sequence[float] = ()
    weights_hold: bool = True
    judge_counts: bool = True

    def log_against_at_most(self, m: float) -> dict[Step, float]:
        """The logarithm of each step's e-value against "W ≤ m"; 0 where a step has not been taken."""
        by_judge = as_judge_sees(m, self.judge.agreement_low)
        return {
            "any-judge": log_evidence(self.any_judge, m),
            "likelihood": self._of_weights(self.wins, by_judge),
            "judge": log_evidence(self.judged, by_judge) if self.judge_counts else -inf,
        }

    def log_against_at_least(self, m: float) -> dict[Step, float]:
        """The same against "W ≥ m": that the losses are at most 1 − m."""
        losses = loss_as_judge_sees(m, self.judge)
        lost = 1 - np.asarray(self.judged)
        return {
            "any-judge": 0.0,
            "likelihood": self._of_weights(self.losses, losses),
            "judge": log_evidence(lost, losses) if self.judge_counts else -inf,
        }

    def _of_weights(self, values: Sequence[float], m: float) -> float:
        return log_evidence(values, m) if self.weights_hold and self.judge_counts else -inf


def as_judge_sees(win_rate: float, agreement: float) -> float:
    """A win rate as a judge sees it who is right in this share of unequal pairs, whichever they are.

    W_judge − ½ = (2 · agreement − 1) (W − ½): the correction of Rogan and Gladen (1978) for a judge who errs
    equally often both ways (arXiv 2511.21140). It is the least that such a judge sees of a loss.
    """
    return 0.5 + (2 * agreement - 1) * (win_rate - 0.5)


def as_judge_sees_at_most(win_rate: float, agreement: float) -> float:
    """The same for a judge who errs seldom on pairs that are far apart, and so sees more of a loss.

    Where quality and ratings are normal with the correlation c, agreement is ½ + arcsin(c) / π (Sheppard
    1899), and a shift of the quality shifts the ratings by its c-th part: W_judge − ½ ≈ c (W − ½).
    """
    return 0.5 + sin(pi * (agreement - 0.5)) * (win_rate - 0.5)


def loss_as_judge_sees(m: float, judge: JudgeRecord) -> float:
    """The largest share of losses that the judge sees where W is at least m."""
    if m <= 0.5:
        return 1 - as_judge_sees_at_most(m, judge.agreement_high)
    return 1 - as_judge_sees(m, judge.agreement_low)


@dataclass(frozen=True)
class Decision:
    """Whether the evidence decides on a win rate, and which step did."""

    verdict: Literal["PASS", "FAIL"]
    step: Step


def decide(evidence: Evidence, min_win_rate: float) -> Decision | None:
    """PASS if "W ≤ the win rate" is refuted, FAIL if "W ≥ it" is; None: undecided."""
    at_most, at_least = (
        evidence.log_against_at_most(min_win_rate),
        evidence.log_against_at_least(min_win_rate),
    )
    if _combined(at_most) >= ENOUGH:
        return Decision("PASS", _step_that_decides(at_most))
    if _combined(at_least) >= ENOUGH:
        return Decision("FAIL", _step_that_decides(at_least))
    return None


def _step_that_decides(logs: dict[Step, float]) -> Step:
    """The first step whose evidence is enough alone; else likelihood, of which both kinds were needed."""
    return next((step for step in STEPS if log(MONEY[step]) + logs[step] >= ENOUGH), "likelihood")


@dataclass(frozen=True)
class Bounds:
    """W is between these; each end with 95 % confidence. The lower one is at most ½."""

    low: float
    high: float


def bounds_of(evidence: Evidence, decision: Decision | None) -> Bounds:
    """The bounds of W; where it is decided whatever the judge, the lower one holds whatever the judge."""

    def log_at_most(m: float) -> float:
        logs = evidence.log_against_at_most(m)
        if decision is not None and decision.step == "any-judge":
            return log(MONEY["any-judge"]) + logs["any-judge"]
        return _combined(logs)

    alpha = ALPHA - ALPHA_JUDGE
    low = lower_bound(log_at_most, alpha, highest=0.5)
    lost = lower_bound(lambda loss: _combined(evidence.log_against_at_least(1 - loss)), alpha)
    return Bounds(low, max(low, 1 - lost))


def _combined(logs: dict[Step, float]) -> float:
    """Of step 3, whose two kinds run along each other, the average; of it and step 4, which comes later and
    on the same replies, the larger one by its part of the money: that holds whenever one stops.
    """
    early: list[Step] = ["any-judge", "likelihood"]
    money = sum(MONEY[step] for step in early)
    average = log_mean_exp([logs[step] for step in early], [MONEY[step] / money for step in early])
    return max(log(money) + average, log(MONEY["judge"]) + logs["judge"])


def estimate(evidence: Evidence) -> float | None:
    """The win rate by the judge, if it counts, not corrected: of the artifact's replies, else by weights."""
    if not evidence.judge_counts:
        return None
    if len(evidence.judged):
        return float(np.mean(evidence.judged))
    if len(evidence.wins) and evidence.weights_hold:
        return 0.5 + float(np.mean(evidence.wins) - np.mean(evidence.losses)) / 2
    return None
