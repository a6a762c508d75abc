"""Medians and ratios of few samples, with intervals that assume no distribution. No numpy: they start fast."""

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
    """The median between two order statistics: the narrowest pair that covers enough, or the extremes
    (5 samples: 93.8 %). Binomial argument: Conover, Practical Nonparametric Statistics, 3.2."""
    ordered, n = sorted(values), len(values)
    best = 0
    for place in range(n // 2):
        if _covers(n, place) >= coverage:
            best = place
    return Interval(median(ordered), ordered[best], ordered[n - 1 - best], _covers(n, best) if n > 1 else 0.0)


def _covers(n: int, place: int) -> float:
    return 1 - 2 * sum(math.comb(n, k) for k in range(place + 1)) / 2**n


def ratio_interval(new: list[float], old: list[float], coverage: float = 0.95) -> Interval:
    """How many times `old` is `new`: the median of all pairs' ratios, with the interval that belongs to the exact
    Mann-Whitney test (Hodges and Lehmann 1963)."""
    ratios = sorted(a / b for a in new for b in old)
    counts = _mann_whitney(len(new), len(old))
    total = sum(counts)
    tail, below = 0, 0
    while (tail + counts[below]) / total <= (1 - coverage) / 2:
        tail += counts[below]
        below += 1
    place = max(below - 1, 0)
    return Interval(
        median(ratios), ratios[place], ratios[-1 - place], 1 - 2 * sum(counts[: place + 1]) / total
    )


@lru_cache(maxsize=64)
def _mann_whitney(n: int, m: int) -> tuple[int, ...]:
    """How many of the orders of n + m samples have each value of U (Mann and Whitney 1947)."""
    counts = [1] + [0] * (n * m)
    for size in range(1, n + 1):
        factor = m + size
        for place in range(n * m, factor - 1, -1):
            counts[place] -= counts[place - factor]
        for place in range(size, n * m + 1):
            counts[place] += counts[place - size]
    return tuple(counts)


def percentile(values: list[float], percent: float) -> float:
    """The percentile by linear interpolation between order statistics."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
