"""The check on simulated artifacts, a few runs each; all of them: docs/results/gate-simulation.md."""

from empathy_edge.bench.check.simulation import Cell, simulate


def test_what_lost_nothing_passes_and_what_lost_much_fails() -> None:
    kept = simulate(Cell(0.5, 0.9, 400, 0.3), 30, 0)
    lost = simulate(Cell(0.35, 0.9, 400, 0.6), 30, 0)
    assert kept.ladder_pass > 0.9 and kept.ladder_fail == 0
    assert lost.ladder_fail > 0.9 and lost.ladder_pass == 0


def test_replies_that_the_reference_never_gives_count_as_lost() -> None:
    found = simulate(Cell(0.4, 0.8, 400, 0.3, missing=0.2), 40, 0)
    assert found.likelihood_pass == 0 and found.ladder_pass == 0
