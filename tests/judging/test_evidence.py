"""Evidence by betting: it rarely refutes what is true, and refutes what is not."""

import numpy as np
import pytest

from empathy_edge.judging.evidence import evidence_of_counts, evidence_path, log_evidence, lower_bound


def test_what_is_true_is_rarely_refuted_however_often_one_looks() -> None:
    generator = np.random.default_rng(0)
    refuted = 0
    for _ in range(400):
        points = generator.choice([0, 0.5, 1], size=200, p=[0.3, 0.4, 0.3])
        refuted += evidence_path(points, 0.5).max() >= np.log(20)
    assert refuted / 400 <= 0.05


def test_heavy_weights_do_not_break_the_promise() -> None:
    generator = np.random.default_rng(1)
    refuted = 0
    for _ in range(400):
        weights = np.exp(generator.normal(-2, 2, size=200))  # 1 in expectation
        refuted += log_evidence(weights, 1.0) >= np.log(20)
    assert refuted / 400 <= 0.05


def test_what_is_not_true_is_refuted() -> None:
    points = np.random.default_rng(2).normal(0.49, 0.02, size=100)
    bound = lower_bound(lambda m: log_evidence(points, m), 0.05)
    assert 0.45 < bound < 0.49


def test_no_values_say_nothing() -> None:
    assert log_evidence([], 0.5) == 0
    assert lower_bound(lambda m: log_evidence([], m), 0.05) == pytest.approx(0, abs=1e-9)


def test_negative_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        evidence_path([0.5, -0.1], 0.5)
    with pytest.raises(ValueError, match="at least 0"):
        evidence_path([0.5, float("nan")], 0.5)


def test_counted_values_are_the_same_evidence() -> None:
    values, counts = np.array([0.0, 0.3, 1.0]), np.array([[[4, 0, 2], [0, 0, 0]]])
    found = evidence_of_counts(values, counts, 0.45)
    assert found.shape == (1, 2) and found[0, 1] == pytest.approx(0)
    assert found[0, 0] == pytest.approx(log_evidence([0.0] * 4 + [1.0] * 2, 0.45))
