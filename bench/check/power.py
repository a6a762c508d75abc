"""Which loss step 4 would have seen in this check, and how often it would pass an artifact without one.

Artifacts whose loss is known are made of the baseline's own ratings: in a share of the prompts their replies
are replies to other prompts, else they are replies of the reference. Step 4 judges each of them as a real
artifact, with the same looks, and its verdicts are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, log

import numpy as np

from empathy_edge.bench.check.baseline.record import Baseline, PromptRecord
from empathy_edge.bench.check.prompts import FEWEST
from empathy_edge.bench.check.report import POWER
from empathy_edge.bench.check.steps.ladder import OWN_REPLIES
from empathy_edge.bench.check.steps.win_rate import ENOUGH, MONEY, as_judge_sees, loss_as_judge_sees
from empathy_edge.judging.evidence import evidence_of_counts
from empathy_edge.judging.raters.rater import Rater, better_reply
from empathy_edge.judging.raters.sheet_rater import SheetRater
from empathy_edge.system.files import sha256_json

RUNS = 400
"""Simulated artifacts: a share of 80 % of them has a standard error of 2 points."""

MOST_PROMPTS = 5000
"""Only so many are simulated; with more a check sees smaller losses than is said."""

MOST_LOOKS = 64
"""At the evidence; where a check looks more often, it decides a little earlier than is simulated."""

BISECTIONS = 10
"""Of the share of prompts with a reply to another prompt."""


@dataclass(frozen=True)
class Power:
    """What step 4 finds in runs like this one.

    Attributes:
        loss: the smallest loss, by the judge, that FAILs in 80 % of runs: ½ minus the win rate; None where
            not even replies to other prompts, in all prompts, FAIL so often.
        loss_in_truth: the true loss is at most this, if the judge is right as seldom as its certificate
            allows; None where there is no loss, or no such bound.
        share: of the prompts in which a reply to another prompt makes that loss; None where there is none.
        unharmed_passes: how often an artifact that lost nothing PASSes; None for greedy replies, of which it
            would give most as the same text.
    """

    loss: float | None
    loss_in_truth: float | None
    share: float | None
    unharmed_passes: float | None


def power_of(baseline: Baseline, min_win_rate: float, *, greedy: bool) -> Power:
    """The power of step 4, by simulation; the same each time for the same ratings.

    Args:
        baseline: rated by a certified judge whose controls are in order.
        min_win_rate: the bound.
        greedy: whether one reply of the artifact is compared with one of the reference, as for greedy apps.
    """
    simulated = _Simulated(baseline, min_win_rate, greedy=greedy)
    unharmed_passes = None if greedy else simulated.verdicts(0.0)[0]
    if simulated.verdicts(1.0)[1] < POWER:
        return Power(None, None, None, unharmed_passes)
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if simulated.verdicts(middle)[1] >= POWER else (middle, high)
    loss = high * (0.5 - simulated.misplaced_mean)
    seen = 2 * baseline.judge.agreement_low - 1
    in_truth = loss / seen if seen > 0 else inf
    return Power(loss, in_truth if in_truth <= 0.5 else None, high, unharmed_passes)


class _Simulated:
    """Artifacts of the baseline's own ratings, with the same random numbers whatever their loss.

    Attributes:
        misplaced_mean: the win rate of the replies to other prompts.
    """

    def __init__(self, baseline: Baseline, min_win_rate: float, *, greedy: bool) -> None:
        judge, records = baseline.judge, baseline.prompts[:MOST_PROMPTS]
        generator = np.random.default_rng(_seed(baseline))
        by_prompt = [_points(record) for record in records]
        draw = _draw_greedy if greedy else _draw_sampled
        drawn = np.array([draw(among, misplaced, generator) for among, misplaced in by_prompt])
        self.misplaced_mean = float(np.mean([misplaced.mean() for _, misplaced in by_prompt]))
        self._values, places = np.unique(drawn.round(9), return_inverse=True)
        places = places.reshape(drawn.shape)
        self._unharmed, self._misplaced = places[:, 0], places[:, 1]
        self._chance = generator.random((len(records), RUNS))
        self._at_most = as_judge_sees(min_win_rate, judge.agreement_low)
        self._lost_at_most = loss_as_judge_sees(min_win_rate, judge)
        block = SheetRater.block if judge.name.startswith("sheet:") else Rater.block
        self._block = max(block, ceil(len(records) / MOST_LOOKS))

    def verdicts(self, share: float) -> tuple[float, float]:
        """How often artifacts with replies to other prompts in a share of the prompts PASS, and FAIL."""
        prompts = len(self._chance)
        if prompts < FEWEST:
            return 0.0, 0.0
        place = np.where(self._chance < share, self._misplaced, self._unharmed)
        counts = self._counts(place)[:, ceil(FEWEST / self._block) - 1 :]
        needed = ENOUGH - log(MONEY["judge"])
        passes = _first(evidence_of_counts(self._values, counts, self._at_most) >= needed)
        fails = _first(evidence_of_counts(1 - self._values, counts, self._lost_at_most) >= needed)
        undecided = counts.shape[1]
        passed = (passes < undecided) & (passes <= fails)
        return float(np.mean(passed)), float(np.mean(fails < passes))

    def _counts(self, place: np.ndarray) -> np.ndarray:
        """How often each value came until each look, [runs, looks, values]."""
        looks, size = ceil(len(place) / self._block), len(self._values)
        look = np.arange(len(place)) // self._block
        cell = (np.arange(RUNS) * looks + look[:, None]) * size + place
        counted = np.bincount(cell.ravel(), minlength=RUNS * looks * size)
        found: np.ndarray = counted.reshape(RUNS, looks, size).cumsum(axis=1)
        return found


def _first(decided: np.ndarray) -> np.ndarray:
    """The first look that decides, [runs]; one beyond the last where none does."""
    return np.where(decided.any(axis=1), decided.argmax(axis=1), decided.shape[1])


def _seed(baseline: Baseline) -> int:
    ratings = [
        [record.misplaced_rating, *(reply.rating for reply in record.replies)] for record in baseline.prompts
    ]
    return int(sha256_json(ratings)[:16], 16)


def _points(record: PromptRecord) -> tuple[np.ndarray, np.ndarray]:
    """Of the reference's replies against each other, [replies, replies], and the misplaced one's."""
    replies = [(reply.text, reply.rating) for reply in record.replies]
    misplaced = (record.misplaced_text, record.misplaced_rating)
    against = [[better_reply(first, second) for second in replies] for first in replies]
    return np.array(against), np.array([better_reply(misplaced, other) for other in replies])


def _draw_sampled(
    among: np.ndarray, misplaced: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The points of each run's artifact on a prompt, unharmed and misplaced, [runs] each.

    `OWN_REPLIES` replies of the reference, drawn independently, against its other ones.
    """
    count = len(among)
    against_others = (among.sum(axis=1) - 0.5) / (count - 1)  # its points against itself are ½
    own = generator.integers(0, count, (OWN_REPLIES, RUNS))
    return against_others[own].mean(axis=0), np.full(RUNS, misplaced.mean())


def _draw_greedy(
    among: np.ndarray, misplaced: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The same of one reply against one other reply."""
    count = len(among)
    own = generator.integers(0, count, RUNS)
    other = (own + generator.integers(1, count, RUNS)) % count
    return among[own, other], misplaced[other]
