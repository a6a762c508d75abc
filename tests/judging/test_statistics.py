"""Intervals and tests of shares against known figures, and the coverage of the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from empathy_edge.judging.statistics import bootstrap_mean, sign_test, wilson


def test_wilson_against_the_papers_figure() -> None:
    """90 % of 250 has a Wilson interval of 85.7–93.1 %."""
    low, high = wilson(225, 250)
    assert (round(100 * low, 1), round(100 * high, 1)) == (85.7, 93.1)


def test_sign_test_is_exact() -> None:
    assert sign_test(0, 0) == 1 and sign_test(5, 0) == 1 / 32
    assert sign_test(6, 2) == pytest.approx(37 / 256)


def test_bootstrap_covers() -> None:
    """95 % intervals of a known share hold it in about 95 % of 400 samples."""
    generator = np.random.default_rng(1)
    hits = 0
    for sample in range(400):
        result = bootstrap_mean(generator.binomial(1, 0.6, 100).astype(float).tolist(), 400, sample)
        hits += result["low"] <= 0.6 <= result["high"]
    assert 0.91 <= hits / 400 <= 0.98
