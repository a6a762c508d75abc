"""Statistics of judging: intervals for shares and means, tests against chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, exp, lgamma, log, sqrt
from statistics import NormalDist

import numpy as np

FLIP_BATCHES, FLIPS_PER_BATCH = 10, 500
"""How many sign flips `sign_flip_test` draws: 5000, in batches so that they need little memory."""


VALUES_AT_ONCE = 1 << 22
"""How many values of resamples `bootstrap` holds in memory."""

FEW_UNITS = 50
"""Below so many independent units the effective sample size is at most their number."""


def wilson(successes: float, n: float, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval for a share (Wilson 1927); 95 % by default."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def binomial_tail(count: int, total: int, share: float) -> float:
    """The probability of at least `count` of `total`, each with the probability `share` (0 < share < 1)."""
    found = 0.0
    for k in range(count, total + 1):
        ways = lgamma(total + 1) - lgamma(k + 1) - lgamma(total - k + 1)
        found += exp(ways + k * log(share) + (total - k) * log(1 - share))
    return found


def sign_test(worse: int, better: int) -> float:
    """The one-sided p of at least `worse` of `worse + better` discordant prompts by chance.

    This is the exact McNemar test.
    """
    n = worse + better
    return sum(comb(n, count) for count in range(worse, n + 1)) / 2**n


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, not rounded.

    Attributes:
        mean: of the sample itself.
        low: lower end of the two-sided interval.
        high: upper end of it.
        lower_bound_one_sided: the bound of the one-sided interval.
    """

    mean: float
    low: float
    high: float
    lower_bound_one_sided: float


def bootstrap_indices(n: int, resamples: int, seed: int) -> np.ndarray:
    """Places of a sample drawn again with replacement, int64 [resamples, n], each 0 to n − 1."""
    return np.random.default_rng(seed).integers(0, n, (resamples, n))


def bootstrap(values: Sequence[float] | np.ndarray, *, resamples: int, seed: int) -> Interval:
    """The mean of `values` with its interval by the percentile bootstrap (Efron 1979).

    For means of points between 0 and 1 take `score_interval`: this one is too narrow for few of them.

    Args:
        values: numbers, [n].
        resamples: how often the sample is drawn again.
        seed: for the draws.
    """
    array = np.asarray(values, dtype=float)
    generator = np.random.default_rng(seed)
    at_once = max(1, VALUES_AT_ONCE // max(1, len(array)))
    means = []
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        means.append(array[generator.integers(0, len(array), (rows, len(array)))].mean(1))
    return interval_of(float(array.mean()), np.concatenate(means))


def interval_of(mean: float, resampled: np.ndarray) -> Interval:
    """The percentile interval of a figure from its values on resampled data, float64 [resamples]."""
    low, high, one_sided = np.percentile(resampled, [2.5, 97.5, 5])
    return Interval(mean, float(low), float(high), float(one_sided))


def score_interval(
    points: Sequence[float] | np.ndarray,
    *,
    clusters: Sequence[str] | np.ndarray | None = None,
    members: Sequence[tuple[str, str]] | None = None,
) -> Interval:
    """The mean of points between 0 and 1 with a score interval that also holds for few and for extreme ones.

    It is Wilson's interval with the effective sample size p (1 − p) / V, where V is the variance of the mean
    that counts dependence, and with Student's t for z, after Korn and Graubard (Survey Methodology 24, 1998).
    The percentile bootstrap of few prompts is too narrow, and has no width where all are equal.

    Args:
        points: 0 to 1, [n].
        clusters: the cluster of each, [n], such as its dialogue: points of one cluster are not independent.
        members: for pairs, the two replies of each, [n]: pairs that share a reply are not independent
            (dyadic-robust variance: Aronow, Samii and Assenova, Political Analysis 23, 2015).
    """
    array = np.asarray(points, dtype=float)
    if len(array) == 0:
        return Interval(float("nan"), 0.0, 1.0, 0.0)
    mean = float(array.mean())
    errors = array - mean
    if members is not None:
        units, variance = _variance_of_pairs(errors, members)
    else:
        names = np.arange(len(array)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
        sums = np.bincount(names, errors)
        units = len(sums)
        variance = float((sums**2).sum()) / len(array) ** 2 * units / max(1, units - 1)
    effective = float(units)
    if variance > 0:
        effective = mean * (1 - mean) / variance
        if units < FEW_UNITS:  # so few do not tell that their variance is small
            effective = min(effective, units)
    bounds = []
    for confidence in (0.975, 0.95):
        z = NormalDist().inv_cdf(confidence)
        n = max(1e-9, effective * (z / _student(z, max(1, units - 1))) ** 2)
        bounds.append(wilson(mean * n, n, z))
    (low, high), (one_sided, _) = bounds
    return Interval(mean, low, high, one_sided)


def _variance_of_pairs(errors: np.ndarray, members: Sequence[tuple[str, str]]) -> tuple[int, float]:
    """How many replies there are, and the variance of the mean where pairs share replies."""
    sums: dict[str, float] = {}
    for error, pair in zip(errors, members, strict=True):
        for reply in pair:
            sums[reply] = sums.get(reply, 0.0) + float(error)
    own = float((errors**2).sum())
    shared = sum(value * value for value in sums.values()) - own
    return len(sums), max(shared, own) / len(errors) ** 2


def _student(z: float, freedom: int) -> float:
    """Student's t at the normal quantile z (Abramowitz and Stegun 26.7.5)."""
    if freedom < 3:
        return {1: 7.7, 2: 2.3}[freedom] * z
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def mean_points(
    points: Sequence[float] | np.ndarray,
    *,
    clusters: Sequence[str] | np.ndarray | None = None,
    members: Sequence[tuple[str, str]] | None = None,
) -> dict[str, float]:
    """As `score_interval`, as it is written into JSON files.

    Returns:
        `mean`, `low`, `high`, `lower_bound_one_sided`, each with four decimals, and `n`, how many points.
    """
    return rounded(score_interval(points, clusters=clusters, members=members)) | {"n": len(points)}


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
