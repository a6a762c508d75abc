"""Evidence on a mean that may be looked at after every observation: e-values by betting.

For values x ≥ 0 whose mean is at most m, a bet of the share λ of one's money gives 1 + λ (x / m − 1) for each
unit, at most 1 in expectation. What one unit has become after n bets is the e-value against "the mean is at
most m": it exceeds 1 / α with a probability of at most α, however often one looks (Ville 1939; Waudby-Smith
and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86, 2024). An upper limit of the
values is not needed, so that it holds for importance weights, too, which have none.

Averages of e-values against the same claim are e-values: several kinds of evidence can be added up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, log

import numpy as np

SHARES = np.concatenate([np.geomspace(0.004, 0.5, 20), 1 - np.geomspace(0.45, 0.02, 8)])
"""The shares λ that are bet; the money is split evenly among them, so that none must be chosen."""

BISECTIONS = 40
"""Halvings of an interval of width 1: far below any figure that is shown."""


def log_evidence(values: Sequence[float] | np.ndarray, mean: float) -> float:
    """The logarithm of the e-value against "the values' mean is at most `mean`", after all values.

    Args:
        values: numbers, independent of each other, [n]; none gives 0.
        mean: above 0.
    """
    if len(values) == 0:
        return 0.0
    return float(evidence_path(values, mean)[-1])


def evidence_path(values: Sequence[float] | np.ndarray, mean: float, every: int = 1) -> np.ndarray:
    """As `log_evidence`, each time so many more values are known, float64 [n // every].

    Raises:
        ValueError: a value is below 0; then a bet could lose more than all of its money.
    """
    array = np.asarray(values, dtype=float)
    if not (array >= -1e-9).all():
        raise ValueError("evidence needs numbers of at least 0")
    gains = array / mean - 1
    looks = len(gains) // every
    factors = np.maximum(1 + SHARES[:, None] * gains[None, : looks * every], 0)
    with np.errstate(divide="ignore"):
        money = np.log(factors.reshape(len(SHARES), looks, every).prod(axis=2)).cumsum(axis=1)
    largest = np.maximum(money.max(axis=0), -700.0)
    path: np.ndarray = largest + np.log(np.maximum(np.exp(money - largest).mean(axis=0), 1e-300))
    return path


def evidence_of_counts(values: np.ndarray, counts: np.ndarray, mean: float) -> np.ndarray:
    """As `log_evidence`, of many samples at once that have few different values.

    Args:
        values: the different ones, each at least 0, [values].
        counts: how often each is in a sample, [..., values].
        mean: above 0.

    Returns:
        float64 [...].
    """
    gains = values[:, None] / mean - 1
    money = counts.astype(float) @ np.log(np.maximum(1 + SHARES * gains, 1e-300))
    largest = money.max(axis=-1)
    found: np.ndarray = largest + np.log(np.exp(money - largest[..., None]).mean(axis=-1))
    return found


def log_mean_exp(values: Sequence[float] | np.ndarray, weights: Sequence[float] | None = None) -> float:
    """The logarithm of the mean of exponentials, weighted where weights, which add up to 1, are given."""
    array = np.asarray(values, dtype=float)
    shares = np.full(len(array), 1 / len(array)) if weights is None else np.asarray(weights, dtype=float)
    largest = float(array.max())
    if largest == -inf:
        return -inf
    return largest + log(float((shares * np.exp(array - largest)).sum()))


def lower_bound(log_e_value: Callable[[float], float], alpha: float, highest: float = 1.0) -> float:
    """The largest m such that all means up to m are refuted: their e-values are at least 1 / α.

    Args:
        log_e_value: the logarithm of the e-value against "the mean is at most m"; it falls with m.
        alpha: the probability with which the bound may be wrong.
        highest: no bound above this one is looked for.
    """
    low, high = 0.0, highest
    if log_e_value(high) >= log(1 / alpha):
        return high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if middle > 0 and log_e_value(middle) >= log(1 / alpha):
            low = middle
        else:
            high = middle
    return low
