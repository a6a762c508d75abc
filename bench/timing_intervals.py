"""Medians and ratios of few timings, with intervals that assume no distribution. No numpy: they start fast.

`judging/statistics.py` has the intervals of shares and win rates.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import median
from typing import NamedTuple


class Interval(NamedTuple):
    """A figure with its interval, and the chance that the interval holds the true one."""

    value: float
    low: float
    high: float
    coverage: float


def median_interval(values: list[float], coverage: float = 0.95) -> Interval:
    """The median between two order statistics: the narrowest pair that covers enough, or the extremes.

    The extremes of 5 samples cover 93.8 %. By a binomial argument: Conover, Practical Nonparametric
    Statistics, 3.2.
    """
    ordered, n = sorted(values), len(values)
    place = 0
    for candidate in range(n // 2):
        if _coverage(n, candidate) >= coverage:
            place = candidate
    covered = _coverage(n, place) if n > 1 else 0.0
    return Interval(median(ordered), ordered[place], ordered[n - 1 - place], covered)


def _coverage(n: int, place: int) -> float:
    """The chance that the median lies between the order statistics `place` and n - 1 - `place`."""
    one_tail = sum(math.comb(n, below) for below in range(place + 1)) / 2**n
    return 1 - 2 * one_tail


def ratio_interval(new: list[float], old: list[float], coverage: float = 0.95) -> Interval:
    """How many times `old` is `new`: the median of all pairs' ratios (Hodges and Lehmann 1963).

    The interval is the one that belongs to the exact Mann-Whitney test.
    """
    ratios: list[float] = []
    for value in new:
        ratios += [value / other for other in old]
    ratios.sort()
    counts = _mann_whitney_counts(len(new), len(old))
    total = sum(counts)
    tail, below = 0, 0
    while (tail + counts[below]) / total <= (1 - coverage) / 2:
        tail += counts[below]
        below += 1
    place = max(below - 1, 0)
    covered = 1 - 2 * sum(counts[: place + 1]) / total
    return Interval(median(ratios), ratios[place], ratios[-1 - place], covered)


@lru_cache(maxsize=64)
def _mann_whitney_counts(n: int, m: int) -> tuple[int, ...]:
    """How many of the orders of n + m samples have each value of U, 0 to n·m (Mann and Whitney 1947).

    They are the coefficients of the Gaussian binomial, the product of (1 - x^(m + k)) / (1 - x^k) for k
    from 1 to n.
    """
    counts = [1] + [0] * (n * m)
    for k in range(1, n + 1):
        for power in range(n * m, m + k - 1, -1):  # times 1 - x^(m + k)
            counts[power] -= counts[power - (m + k)]
        for power in range(k, n * m + 1):  # divided by 1 - x^k
            counts[power] += counts[power - k]
    return tuple(counts)


def percentile(values: list[float], percent: float) -> float:
    """The percentile by linear interpolation between order statistics."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
