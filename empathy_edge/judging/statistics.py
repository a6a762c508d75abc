"""Intervals: Wilson for shares, the percentile bootstrap over prompts for win rates."""

from __future__ import annotations

from math import ceil, comb, sqrt

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


def holm(values: list[float]) -> list[float]:
    """p-values of several questions asked at once, adjusted (Holm 1979)."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = round(largest, 5)
    return adjusted


def prompts_needed(margin: float, ties: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """How many prompts show, one-sided, that an arm is not worse than 1/2 − margin when it is equal.

    A prompt's points are 1, 1/2 or 0; with a share `ties` of halves their variance is (1 − ties) / 4.

    Args:
        margin: of the win rate, 0.05 for a bound of 45 %.
        ties: the share of prompts that end in a tie.
        power: the chance to show it.
        alpha: the chance to claim it wrongly.
    """
    from statistics import NormalDist

    z = NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(power)
    return ceil(z * z * (1 - ties) / 4 / (margin * margin))
