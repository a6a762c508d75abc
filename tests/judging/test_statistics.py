"""Intervals and tests of shares against known figures, and their coverage."""

from __future__ import annotations

import numpy as np
import pytest

from empathy_edge.judging.statistics import score_interval, sign_test, wilson


def test_wilson_against_the_papers_figure() -> None:
    """90 % of 250 has a Wilson interval of 85.7–93.1 %."""
    low, high = wilson(225, 250)
    assert (round(100 * low, 1), round(100 * high, 1)) == (85.7, 93.1)


def test_sign_test_is_exact() -> None:
    assert sign_test(0, 0) == 1 and sign_test(5, 0) == 1 / 32
    assert sign_test(6, 2) == pytest.approx(37 / 256)


@pytest.mark.parametrize("prompts", [8, 20, 32, 60, 250])
@pytest.mark.parametrize(("win", "tie"), [(0.5, 0.0), (0.9, 0.0), (0.4, 0.2), (0.2, 0.6), (0.97, 0.0)])
def test_score_intervals_cover(win: float, tie: float, prompts: int) -> None:
    """The review's A4: the bootstrap's 95 % interval held a true 90 % in 84 % of samples of 32 prompts."""
    generator = np.random.default_rng(1)
    truth = win + tie / 2
    hits = one_sided = 0
    for _ in range(1000):
        points = generator.choice([1.0, 0.5, 0.0], prompts, p=[win, tie, 1 - win - tie])
        found = score_interval(points)
        hits += found.low <= truth <= found.high
        one_sided += found.lower_bound_one_sided <= truth
    assert hits >= 920 and one_sided >= 915, (hits, one_sided)
    if prompts == 250:
        assert hits <= 990


def test_dependent_points_widen_the_interval() -> None:
    """Ten dialogues of ten equal pairs are ten dialogues: the pairs add nothing."""
    generator = np.random.default_rng(2)
    clusters = [f"d{place // 10}" for place in range(200)]
    hits = naive = 0
    for _ in range(600):
        points = np.repeat(generator.binomial(1, 0.7, 20).astype(float), 10)
        found, as_if = score_interval(points, clusters=clusters), score_interval(points)
        hits += found.low <= 0.7 <= found.high
        naive += as_if.low <= 0.7 <= as_if.high
    assert hits >= 0.92 * 600 and naive < 0.6 * 600


def test_pairs_that_share_replies_widen_the_interval() -> None:
    """The review's A1: 200 pairs of 50 replies gave a "95 %" interval that held the truth in 66 %."""
    generator = np.random.default_rng(3)
    hits = naive = 0
    for _ in range(300):
        # Whether a judge likes a reply too much decides all pairs that the reply is in.
        quality, error = generator.normal(0, 1, 50), generator.normal(0, 1, 50)
        first, second = generator.integers(0, 50, (2, 400))
        keep = quality[first] - quality[second] > 0.5
        first, second = first[keep][:200], second[keep][:200]
        points = (quality + error)[first] > (quality + error)[second]
        members = [(f"r{one}", f"r{other}") for one, other in zip(first, second, strict=True)]
        found, as_if = score_interval(points, members=members), score_interval(points)
        hits += found.low <= TRUE_AGREEMENT <= found.high
        naive += as_if.low <= TRUE_AGREEMENT <= as_if.high
    assert hits >= 0.9 * 300 and naive <= 0.85 * 300, (hits, naive)


TRUE_AGREEMENT = 0.8197
"""Of that judge, on a million pairs of independent replies."""


def test_the_true_agreement_is_right() -> None:
    generator = np.random.default_rng(4)
    quality, error = generator.normal(0, 1, (2, 2, 1_000_000))
    keep = quality[0] - quality[1] > 0.5
    right = (quality + error)[0] > (quality + error)[1]
    assert right[keep].mean() == pytest.approx(TRUE_AGREEMENT, abs=0.003)


@pytest.mark.parametrize("point", [0.0, 0.5, 1.0])
def test_one_prompt_tells_nothing(point: float) -> None:
    """The review's A4: one prompt was enough for PASS and for FAIL."""
    found = score_interval([point])
    assert found.low < 0.3 or found.high > 0.7
    assert found.lower_bound_one_sided < 0.45 < found.high
    assert score_interval([]).low == 0 and score_interval([]).high == 1
