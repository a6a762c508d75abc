"""Statistics of judging: intervals for shares and means, tests against chance, prompts needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, comb, sqrt
from statistics import NormalDist

import numpy as np

FLIP_BATCHES, FLIPS_PER_BATCH = 10, 500
"""How many sign flips `sign_flip_test` draws: 5000, in batches so that they need little memory."""


def wilson(successes: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval for a share (Wilson 1927); 95 % by default."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def sign_test(worse: int, better: int) -> float:
    """The one-sided p of at least `worse` of `worse + better` discordant prompts by chance.

    This is the exact McNemar test.
    """
    n = worse + better
    return sum(comb(n, count) for count in range(worse, n + 1)) / 2**n


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval, not rounded.

    Attributes:
        mean: of the sample itself.
        low: the 2.5th percentile of the resampled means.
        high: the 97.5th percentile.
        lower_bound_one_sided: the 5th percentile, the bound of a one-sided 95 % interval.
    """

    mean: float
    low: float
    high: float
    lower_bound_one_sided: float


def bootstrap_indices(n: int, resamples: int, seed: int) -> np.ndarray:
    """Places of a sample drawn again with replacement, int64 [resamples, n], each 0 to n − 1."""
    return np.random.default_rng(seed).integers(0, n, (resamples, n))


def bootstrap(
    values: Sequence[float] | np.ndarray,
    *,
    resamples: int,
    seed: int,
    clusters: np.ndarray | None = None,
    unit: float = 1.0,
) -> Interval:
    """The mean of `values` with its interval by the percentile bootstrap (Efron 1979).

    Args:
        values: numbers or truth values, [n].
        resamples: how often the sample is drawn again.
        seed: for the draws.
        clusters: the cluster of each value, [n], such as its dialogue. Whole clusters are drawn then, because
            the values of one cluster are not independent. Without it, single values are drawn.
        unit: means are multiplied by it; 100 gives per cent.
    """
    array = np.asarray(values, dtype=float)
    if clusters is None:
        drawn = bootstrap_indices(len(array), resamples, seed)
        means = unit * array[drawn].mean(1)
    else:
        names, cluster_of = np.unique(clusters, return_inverse=True)
        sums, counts = np.bincount(cluster_of, array), np.bincount(cluster_of)
        drawn = bootstrap_indices(len(names), resamples, seed)
        means = unit * sums[drawn].sum(1) / counts[drawn].sum(1)
    return interval_of(unit * float(array.mean()), means)


def interval_of(mean: float, resampled: np.ndarray) -> Interval:
    """The percentile interval of a figure from its values on resampled data, float64 [resamples]."""
    low, high, one_sided = np.percentile(resampled, [2.5, 97.5, 5])
    return Interval(mean, float(low), float(high), float(one_sided))


def bootstrap_mean(values: Sequence[float], resamples: int, seed: int) -> dict[str, float]:
    """The mean over prompts with its 95 % interval, as it is written into JSON files.

    Returns:
        `mean`, `low`, `high`, `lower_bound_one_sided`, each with four decimals, and `n`.
    """
    return rounded(bootstrap(values, resamples=resamples, seed=seed)) | {"n": len(values)}


def rounded(interval: Interval) -> dict[str, float]:
    """An interval with four decimals, as it is written into JSON files."""
    return {
        "mean": round(interval.mean, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        "lower_bound_one_sided": round(interval.lower_bound_one_sided, 4),
    }


def sign_flip_test(points: Sequence[float], seed: int) -> float:
    """The two-sided p of a mean of 1/2, by a permutation test that flips the sign of each prompt's lead.

    Args:
        points: one arm's share of each prompt, 0 to 1, [prompts].
        seed: for the flips.
    """
    leads = np.array(points) - 0.5
    generator = np.random.default_rng(seed)
    sums = []
    for _ in range(FLIP_BATCHES):
        signs = generator.integers(0, 2, (FLIPS_PER_BATCH, len(leads)), dtype=np.int8) * 2 - 1
        sums.append(signs @ leads)
    by_chance = np.abs(np.concatenate(sums)) / len(leads)
    as_extreme = int((by_chance >= abs(leads.mean()) - 1e-12).sum())
    return round((1 + as_extreme) / (1 + len(by_chance)), 5)


def holm(values: Sequence[float]) -> list[float]:
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
        power: the probability to show it.
        alpha: the probability to show it wrongly.
    """
    z = NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(power)
    return ceil(z * z * (1 - ties) / 4 / (margin * margin))
