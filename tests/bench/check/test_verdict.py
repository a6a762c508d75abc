"""The verdict in words, and the record of what was found."""

from pathlib import Path

import pytest

from empathy_edge.bench.check.steps.faults import JudgeError
from empathy_edge.bench.check.steps.verdict import Findings, broken, decided, undecided
from empathy_edge.bench.check.steps.win_rate import Bounds, Decision
from empathy_edge.judging.raters.sheet_rater import RatingsMissing
from empathy_edge.runs.settings import CheckSettings

BOUNDS = Bounds(0.412, 0.567)


@pytest.mark.parametrize(
    ("decision", "greedy", "sentence"),
    [
        (
            Decision("PASS", "any-judge"),
            False,
            "q8 keeps it: at worst 41.2% of comparisons won, whatever the judge, decided by likelihood, any "
            "judge.",
        ),
        (
            Decision("PASS", "any-judge"),
            True,
            "q8 keeps it: at worst 41.2% of comparisons won, whatever the judge, decided by identical "
            "replies.",
        ),
        (
            Decision("FAIL", "judge"),
            False,
            "q8 does not keep it: at best 56.7% of comparisons won (bound 40%), decided by judge.",
        ),
    ],
)
def test_the_sentence_says_what_decided(decision: Decision, greedy: bool, sentence: str) -> None:
    outcome = decided("q8", decision, BOUNDS, CheckSettings(min_win_rate=0.4, greedy=greedy))
    assert outcome.sentence == sentence and outcome.verdict == decision.verdict
    assert outcome.bounds == BOUNDS and outcome.to_decide == ""


def test_a_broken_artifact_is_a_record_without_figures() -> None:
    found = Findings(identity="abc", notes=["a note"])
    record = found.record("q8", broken("q8", "cannot be opened.", "health"), None, None)
    assert (record.verdict, record.decided_by, record.identity) == ("FAIL", "health", "abc")
    assert record.sentence == "q8 does not keep it: cannot be opened."
    assert (record.win_rate_low, record.win_rate_high, record.win_rate_by_judge) == (0.0, 1.0, None)
    assert record.prompts_scored == record.prompts_answered == record.ratings_missing == 0
    assert record.sequence_kl is None and record.same_replies is None and record.well_formed is None
    assert record.notes == ("a note",) and not record.interrupted


def test_what_is_missing_is_in_the_record_of_an_undecided_one() -> None:
    outcome = undecided("q8", BOUNDS, "more ratings")
    found = Findings(same=[0.5, 0.5, 0.0, 0.5], waits_for=RatingsMissing(Path("ratings.csv"), 7))
    record = found.record("q8", outcome, 0.48766, 320)
    assert record.sentence == "q8 is undecided: between 41.2% and 56.7% of comparisons won."
    assert (record.to_decide, record.ratings_missing, record.prompts_needed) == ("more ratings", 7, 320)
    assert (record.win_rate_by_judge, record.same_replies) == (0.4877, 0.75)
    assert not record.interrupted
    found = Findings(judge_stopped=JudgeError("gpt", RuntimeError("gone"), cannot_start=False))
    assert found.record("q8", outcome, None, None).interrupted
