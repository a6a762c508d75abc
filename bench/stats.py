"""Intervals: Wilson for shares, the percentile bootstrap over prompts for win rates."""

from __future__ import annotations

from math import comb, sqrt

import numpy as np


def wilson(successes: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval for a share (Wilson 1927); 95 % by default."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def sign_test(worse: int, better: int) -> float:
    """The one-sided p of at least `worse` of `worse + better` discordant prompts by chance (exact McNemar test)."""
    n = worse + better
    return sum(comb(n, count) for count in range(worse, n + 1)) / 2**n


def bootstrap_mean(values: list[float], resamples: int, seed: int) -> dict[str, float]:
    """The mean with its 95 % interval and its one-sided 95 % lower bound, resampling prompts (Efron 1979)."""
    array = np.asarray(values, dtype=float)
    generator = np.random.default_rng(seed)
    means = array[generator.integers(0, len(array), (resamples, len(array)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "mean": round(float(array.mean()), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "lower_bound_one_sided": round(float(np.percentile(means, 5)), 4),
        "n": len(values),
    }
