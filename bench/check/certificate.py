"""How often a judge agrees with blind readers, and how sure that is."""

from __future__ import annotations

from math import comb

from empathy_edge.bench.check.win_rate import ALPHA_JUDGE

BISECTIONS = 50


def agreement_bound(right: int, pairs: int, alpha: float = ALPHA_JUDGE) -> float:
    """The exact one-sided lower bound of a share (Clopper and Pearson 1934).

    Args:
        right: pairs on which the judge agrees.
        pairs: all of them, independent of each other; one a prompt.
        alpha: the probability with which the bound may be wrong.
    """
    if right == 0:
        return 0.0
    low, high = 0.0, right / pairs
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _at_least(right, pairs, middle) >= alpha:
            high = middle
        else:
            low = middle
    return low


def agreement_upper_bound(right: int, pairs: int, alpha: float = ALPHA_JUDGE) -> float:
    """The exact one-sided upper bound; see `agreement_bound`."""
    return 1 - agreement_bound(pairs - right, pairs, alpha)


def _at_least(right: int, pairs: int, share: float) -> float:
    """The probability of at least `right` of `pairs`."""
    return sum(comb(pairs, k) * share**k * (1 - share) ** (pairs - k) for k in range(right, pairs + 1))
