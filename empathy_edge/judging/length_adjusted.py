"""Does length decide? How often the longer response wins, and the win rate of responses of equal length.

A judge may prefer long responses. The win rate at equal length comes from a logistic regression of the
outcome on the difference of lengths, as in length-controlled AlpacaEval (Dubois et al., arXiv 2404.04475);
here it is fitted on the run's own data.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

import numpy as np

from empathy_edge.judging.statistics import bootstrap_indices, interval_of, rounded, sign_test, wilson

MIN_PROMPTS = 40
"""With fewer prompts no win rate at equal length is given."""

MIN_SHARE_OF_EACH = 0.1
"""Each arm must be the longer one in this share of prompts; else length and arm cannot be told apart."""

RESAMPLES, SEED = 400, 0

WORDS_PER_UNIT = 10.0
RIDGE = 0.1
"""The slope's penalty, per ten words: that of scikit-learn's LogisticRegression(C=10). Without it there is no
solution where length alone separates wins from losses."""

MAX_STEPS = 30
LARGEST_STEP = 2.0
LARGEST_INTERCEPT = 10.0
LARGEST_LOGIT = 30.0
"""Limits that keep Newton's method stable where all outcomes are nearly the same."""

CONVERGED = 1e-6
SMALLEST_WEIGHT = 1e-9


class ShareInterval(TypedDict):
    """A share of `n` cases with its 95 % score interval; None where there is no case."""

    share: float | None
    low: float
    high: float
    n: int


class LengthFigures(TypedDict):
    """How length and outcome go together.

    `longer_wins`: how often the longer response won, of prompts that have a winner and responses of two
    lengths. `mean_words_ahead`: by how many words the first arm's responses are longer. `lengths_differ`:
    whether one arm is significantly more often the longer one (two-sided sign test, 5 %). `length_adjusted`:
    the win rate at equal length with its interval; None with `length_adjusted_why_not`.
    """

    longer_wins: ShareInterval
    mean_words_ahead: float
    lengths_differ: bool
    length_adjusted: dict[str, float] | None
    length_adjusted_why_not: NotRequired[str]


def length_figures(points: np.ndarray, words_ahead: np.ndarray) -> LengthFigures:
    """How often the longer response won, and the win rate where both are of one length.

    Args:
        points: the first arm's points, [prompts].
        words_ahead: by how many words its response is the longer one, [prompts].
    """
    longer, shorter = int((words_ahead > 0).sum()), int((words_ahead < 0).sum())
    figures: LengthFigures = {
        "longer_wins": _longer_wins(points, words_ahead),
        "mean_words_ahead": round(float(words_ahead.mean()), 2),
        "lengths_differ": min(sign_test(longer, shorter), sign_test(shorter, longer)) < 0.025,
        "length_adjusted": None,
    }
    reason = _why_not_adjusted(points, min(longer, shorter) / len(points))
    if reason:
        figures["length_adjusted_why_not"] = reason
    else:
        figures["length_adjusted"] = _adjusted(points, words_ahead)
    return figures


def _longer_wins(points: np.ndarray, words_ahead: np.ndarray) -> ShareInterval:
    decided = (words_ahead != 0) & (points != 0.5)
    longer_won = (words_ahead > 0) == (points > 0.5)
    return share_interval(int(longer_won[decided].sum()), int(decided.sum()))


def share_interval(successes: int, n: int) -> ShareInterval:
    """A share with its 95 % Wilson interval, four decimals each."""
    low, high = wilson(successes, n)
    return {
        "share": round(successes / n, 4) if n else None,
        "low": round(low, 4),
        "high": round(high, 4),
        "n": n,
    }


def _why_not_adjusted(points: np.ndarray, share_of_rarer: float) -> str | None:
    if len(points) < MIN_PROMPTS:
        return f"only {len(points)} prompts (needed: {MIN_PROMPTS})"
    if share_of_rarer < MIN_SHARE_OF_EACH:
        return (
            f"one arm is the longer one in {1 - share_of_rarer:.0%} of prompts: "
            "length and arm cannot be told apart"
        )
    if len(set(points.tolist())) < 2:
        return "every prompt has the same outcome"
    return None


def _adjusted(points: np.ndarray, words_ahead: np.ndarray) -> dict[str, float]:
    """The win rate at equal length, with a bootstrap interval over prompts."""
    drawn = bootstrap_indices(len(points), RESAMPLES, SEED)
    resampled = win_rate_at_equal_length(points[drawn], words_ahead[drawn])
    rate = win_rate_at_equal_length(points[None], words_ahead[None])[0]
    return rounded(interval_of(float(rate), resampled))


def win_rate_at_equal_length(points: np.ndarray, words_ahead: np.ndarray) -> np.ndarray:
    """sigmoid(a) of the logistic regression P(win) = sigmoid(a + b · words ahead / 10), for many samples.

    The fit maximizes the log-likelihood less RIDGE / 2 · b², by Newton's method: each step solves
    Hessian · step = gradient for the two coefficients of every sample.

    Args:
        points: outcomes between 0 and 1, [samples, prompts].
        words_ahead: [samples, prompts].

    Returns:
        The win rate at equal length, float64 [samples].
    """
    units_ahead = words_ahead / WORDS_PER_UNIT
    intercept, slope = np.zeros(len(points)), np.zeros(len(points))
    for _ in range(MAX_STEPS):
        probabilities = _sigmoid(intercept[:, None] + slope[:, None] * units_ahead)
        residuals = points - probabilities
        gradient = np.stack(
            [residuals.sum(1), (residuals * units_ahead).sum(1) - RIDGE * slope],
            axis=1,
        )
        steps = _solve(_hessian(probabilities, units_ahead), gradient)
        limited = np.clip(steps, -LARGEST_STEP, LARGEST_STEP)
        intercept = np.clip(intercept + limited[:, 0], -LARGEST_INTERCEPT, LARGEST_INTERCEPT)
        slope = slope + limited[:, 1]
        if np.abs(steps).max() < CONVERGED:
            break
    return _sigmoid(intercept)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    limited: np.ndarray = np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT)
    return 1 / (1 + np.exp(-limited))


def _hessian(probabilities: np.ndarray, units_ahead: np.ndarray) -> np.ndarray:
    """The negative log-likelihood's second derivatives in intercept and slope, [samples, 2, 2]."""
    weights = probabilities * (1 - probabilities) + SMALLEST_WEIGHT
    both = (weights * units_ahead).sum(1)
    rows = [
        np.stack([weights.sum(1), both], axis=1),
        np.stack([both, (weights * units_ahead * units_ahead).sum(1) + RIDGE], axis=1),
    ]
    return np.stack(rows, axis=1)


def _solve(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """x of matrix · x = vector for each sample: [samples, 2, 2] and [samples, 2] give [samples, 2]."""
    solved: np.ndarray = np.linalg.solve(matrices, vectors[:, :, None])
    return solved[:, :, 0]
