"""What would decide an artifact that is undecided."""

from pathlib import Path

import pytest

from empathy_edge.bench.check.baseline.record import JudgeRecord, read_baseline
from empathy_edge.bench.check.steps.what_decides import (
    INSTRUCTION_TOKENS,
    cost_of_a_judge,
    prompts_without_a_judge,
)
from empathy_edge.bench.check.steps.win_rate import Evidence, decide


@pytest.fixture
def judge(baseline_file: Path) -> JudgeRecord:
    return read_baseline(baseline_file).judge


def evidence(judge: JudgeRecord, any_judge: list[float]) -> Evidence:
    return Evidence(judge, any_judge, judge_counts=False)


def test_an_artifact_that_is_nearly_the_same_needs_prompts_and_no_judge(judge: JudgeRecord) -> None:
    values = [0.49] * 64
    assert decide(evidence(judge, values), 0.45) is None
    enough = prompts_without_a_judge(evidence(judge, values), 0.45)
    assert enough is not None and 64 < enough < 640
    decision = decide(evidence(judge, [0.49] * enough), 0.45)
    assert decision is not None and decision.verdict == "PASS" and decision.step == "any-judge"


def test_the_cost_of_a_judge_counts_the_replies_of_the_controls(baseline_file: Path) -> None:
    baseline = read_baseline(baseline_file)  # 80 prompts, 3 replies each
    few = baseline.model_copy(update={"prompts": baseline.prompts[:1]})
    twice = few.model_copy(update={"prompts": few.prompts * 2})
    (record,) = few.prompts
    reply = sum(len(item.token_ids) for item in record.replies) / 3
    rated = len(record.token_ids) + 5 * reply + INSTRUCTION_TOKENS  # the misplaced one and that of Q2_K
    calls, tokens = (a - b for a, b in zip(cost_of_a_judge(twice), cost_of_a_judge(few), strict=True))
    assert calls == 2 and tokens == pytest.approx(2 * rated, abs=2)


def test_no_number_of_prompts_helps_where_replies_differ_much(judge: JudgeRecord) -> None:
    assert prompts_without_a_judge(evidence(judge, [0.3] * 64), 0.45) is None
