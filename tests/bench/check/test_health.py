"""Health: paired checks of form."""

import pytest

pytest.importorskip("py3langid")

from empathy_edge.bench.check.steps.health import (
    ALPHA,
    ALPHA_TEST,
    SINGLE_CHECKS,
    Answer,
    compare_health,
)
from empathy_edge.judging.statistics import sign_test

SAID = "My cat died this morning and I cannot stop crying."
GOOD = Answer(SAID, "I am so sorry. She was with you for a long time.", True)
LOOPS = Answer(SAID, "I am so sorry to hear that. " * 6, True)
TOO_LONG = Answer(SAID, "Oh dear. " + " ".join(f"word{n}" for n in range(120)), True)


def test_equal_replies_are_healthy() -> None:
    assert not compare_health([GOOD] * 32, [GOOD] * 32).fails


def test_loops_and_silence_fail() -> None:
    assert compare_health([LOOPS] * 20 + [GOOD] * 12, [GOOD] * 32).fails
    silent = compare_health([Answer(SAID, "", True)] * 32, [GOOD] * 32)
    assert silent.fails and silent.words() == "all 32 replies are empty"


def test_a_few_faults_do_not_fail() -> None:
    assert not compare_health([LOOPS] * 3 + [GOOD] * 29, [GOOD] * 32).fails


def test_a_new_fault_is_seen_where_the_reference_is_never_well_formed() -> None:
    found = compare_health([LOOPS] * 32, [TOO_LONG] * 32)
    assert found.reference == found.artifact == 0
    assert found.fails and "no_loop" in found.words()


def test_what_the_reference_does_too_is_no_fault_of_the_artifact() -> None:
    assert not compare_health([TOO_LONG] * 32, [TOO_LONG] * 32).fails


def test_all_tests_of_a_look_share_its_half_percent() -> None:
    """All checks together and each alone: 10 prompts that only the reference answers well do not fail."""
    assert (1 + len(SINGLE_CHECKS)) * ALPHA_TEST == pytest.approx(ALPHA) == pytest.approx(0.005)
    for worse, fails in ((10, False), (11, True)):
        assert (sign_test(worse, 0) <= ALPHA_TEST) is fails
        for bad in (LOOPS, Answer(SAID, "", True)):
            assert compare_health([bad] * worse + [GOOD] * 21, [GOOD] * (worse + 21)).fails is fails


def test_few_empty_replies_are_no_proof() -> None:
    empty = Answer(SAID, "", True)
    for prompts, fails in ((1, False), (8, False), (32, True)):
        found = compare_health([empty] * prompts, [TOO_LONG] * prompts)
        assert found.all_empty and found.fails is fails
    assert not compare_health([empty] * 32, [empty] * 32).fails
