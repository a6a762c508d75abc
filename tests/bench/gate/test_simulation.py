"""The gate's promises, checked by simulation. The large table is in docs/results/gate.md."""

import pytest

from empathy_edge.bench.gate.simulation import Shares, World, simulate

RUNS = 80
CHANCE = 2.5 * (0.05 * 0.95 / RUNS) ** 0.5
"""How far a share of 5 % may be off with so few runs."""


def _simulate(world: World) -> Shares:
    return simulate(world, RUNS)


@pytest.mark.slow
def test_what_is_at_the_margin_seldom_passes() -> None:
    margin = _simulate(World(0.45, 0.0, 250))
    assert margin.verdicts["PASS"] <= 0.05 + CHANCE
    assert margin.interval_covers >= 0.9


@pytest.mark.slow
def test_what_is_as_good_passes_and_what_is_worse_fails() -> None:
    equal = _simulate(World(0.5, 0.5, 620))
    assert equal.verdicts["PASS"] >= 0.8 and equal.verdicts["FAIL"] == 0
    assert _simulate(World(0.35, 0.2, 250)).verdicts["FAIL"] > 0.5


@pytest.mark.slow
def test_a_judge_that_goes_by_the_order_is_not_certified() -> None:
    biased = _simulate(World(0.35, 0.2, 250, first_place=0.6))
    assert biased.verdicts["PASS"] == 0 and biased.certified == 0


@pytest.mark.slow
def test_a_judge_that_goes_by_length_passes_nothing() -> None:
    strong = _simulate(World(0.35, 0.2, 250, longer=0.6, artifact_longer=0.8))
    assert strong.verdicts["PASS"] == 0
    assert strong.certified < 0.05, "the certificate finds a judge that goes by length"
    mild = _simulate(World(0.35, 0.2, 250, longer=0.3, artifact_longer=0.8))
    assert mild.verdicts["PASS"] < 0.03, "the rate at equal length finds what the certificate lets through"


@pytest.mark.slow
def test_severe_flips_fail_where_there_are_too_many() -> None:
    at_the_bound = _simulate(World(0.5, 0.5, 620, severe=0.01))
    assert at_the_bound.verdicts["PASS"] <= 0.05 + CHANCE
    assert _simulate(World(0.5, 0.5, 620, severe=0.04)).verdicts["FAIL"] > 0.9


@pytest.mark.slow
def test_a_noisy_judge_passes_nothing_that_is_worse() -> None:
    noisy = _simulate(World(0.35, 0.2, 250, noise=0.3))
    assert noisy.verdicts["PASS"] == 0 and noisy.interval_covers >= 0.9
