"""The loss that step 4 would have seen, beside artifacts that the real rule judges (ratings drawn here)."""

from collections import Counter

import numpy as np
import pytest

from empathy_edge.bench.check.baseline.record import Baseline
from empathy_edge.bench.check.check_judge import Compared
from empathy_edge.bench.check.output import conditions, markdown
from empathy_edge.bench.check.power import power_of
from empathy_edge.bench.check.report import CheckReport
from empathy_edge.bench.check.run import check
from empathy_edge.bench.check.steps.ladder import OWN_REPLIES
from empathy_edge.bench.check.steps.win_rate import Evidence, decide
from empathy_edge.judging.raters.sheet_rater import SheetRater
from empathy_edge.runs.settings import CheckSettings
from tests.bench.check.rated import PEOPLE, SHIFT, rated_baseline, rated_reply

BOUND = 0.45


def judged_artifact(baseline: Baseline, share: float, generator: np.random.Generator, *, greedy: bool) -> str:
    """The verdict on an artifact with new replies, which are to other prompts in a share of the prompts."""
    points = []
    for record in baseline.prompts:
        is_misplaced = generator.random() < share
        own = generator.normal(size=1 if greedy else OWN_REPLIES)
        if is_misplaced:
            own = np.full(len(own), generator.normal() - SHIFT)
        theirs = [rated_reply("new", generator.normal())] if greedy else record.replies
        compared = Compared(record, [f"own {number}" for number in range(len(own))], theirs)
        points.append(compared.points([*own, *(reply.rating for reply in theirs)]))
    for end in range(SheetRater.block, len(points) + 1, SheetRater.block):
        decision = decide(Evidence(baseline.judge, judged=points[:end]), BOUND)
        if decision is not None:
            return decision.verdict
    return "UNDECIDED"


@pytest.mark.parametrize("greedy", [False, True])
def test_the_loss_that_is_named_fails_in_80_percent_of_runs(greedy: bool) -> None:
    """Over several baselines: each has replies that are better or worse than others by chance."""
    found: Counter[str] = Counter()
    for seed in range(16):
        generator = np.random.default_rng(seed)
        baseline = rated_baseline(generator, SheetRater.block)
        power = power_of(baseline, BOUND, greedy=greedy)
        assert power.share is not None and power.loss is not None and 0 < power.loss < 0.4
        found.update(judged_artifact(baseline, power.share, generator, greedy=greedy) for _ in range(20))
    assert found["FAIL"] / found.total() == pytest.approx(0.8, abs=0.08) and found["PASS"] == 0


def test_what_lost_nothing_passes_as_often_as_is_said() -> None:
    found: Counter[str] = Counter()
    said = []
    for seed in range(4):
        generator = np.random.default_rng(seed)
        baseline = rated_baseline(generator, 6 * SheetRater.block)
        said.append(power_of(baseline, BOUND, greedy=False).unharmed_passes)
        found.update(judged_artifact(baseline, 0.0, generator, greedy=False) for _ in range(15))
    assert 0.1 < np.mean(said) < 0.6 and found["FAIL"] == 0
    assert found["PASS"] / found.total() == pytest.approx(float(np.mean(said)), abs=0.15)


def test_more_prompts_see_less_and_the_same_ratings_give_the_same() -> None:
    few, more = (rated_baseline(np.random.default_rng(0), prompts) for prompts in (128, 640))
    of_few, of_more = power_of(few, BOUND, greedy=False), power_of(more, BOUND, greedy=False)
    assert of_few.loss is not None and of_more.loss is not None and of_more.loss < of_few.loss
    assert of_more.loss_in_truth == pytest.approx(of_more.loss / (2 * 0.75 - 1))
    assert power_of(more, BOUND, greedy=False) == of_more


@pytest.mark.parametrize(("prompts", "shift"), [(63, SHIFT), (256, 0.2)])
def test_where_no_loss_is_seen_there_is_none_named(prompts: int, shift: float) -> None:
    power = power_of(rated_baseline(np.random.default_rng(0), prompts, shift), BOUND, greedy=False)
    assert power.loss is None and power.loss_in_truth is None and power.share is None


def test_it_is_said_beside_the_verdicts() -> None:
    baseline = rated_baseline(np.random.default_rng(0), 256)
    named = check([], baseline, CheckSettings(), PEOPLE)
    assert named.power is not None and named.power.loss is not None and named.power.loss_in_truth is not None
    sentence = (
        f"Power of step 4: a loss of {100 * named.power.loss:.1f} points (by the judge; at most "
        f"{100 * named.power.loss_in_truth:.1f} in truth) would FAIL in 80% of such runs; an artifact that "
        f"lost nothing would PASS in {named.power.unharmed_passes:.0%}."
    )
    assert sentence in conditions(named) and sentence in markdown(named)
    unnamed = check([], baseline, CheckSettings())
    assert unnamed.power is None and "Power" not in conditions(unnamed)
    greedy = check([], baseline, CheckSettings(greedy=True), PEOPLE)
    assert greedy.power is not None and greedy.power.unharmed_passes is None
    assert "would FAIL in 80% of such runs." in conditions(greedy)
    judge = baseline.judge.model_copy(update={"doubts": ("nobody agrees with it",)})
    doubted = check([], baseline.model_copy(update={"judge": judge}), CheckSettings(), PEOPLE)
    assert doubted.power is None and "without a judge that counts no loss is seen" in conditions(doubted)


def test_a_judge_that_is_right_as_often_as_not_bounds_no_true_loss() -> None:
    baseline = rated_baseline(np.random.default_rng(0), 256)
    judge = baseline.judge.model_copy(update={"agreement_low": 0.5})
    power = power_of(baseline.model_copy(update={"judge": judge}), BOUND, greedy=False)
    assert power.loss is not None and power.loss_in_truth is None


def test_where_no_loss_is_seen_that_is_said() -> None:
    report = check([], rated_baseline(np.random.default_rng(0), 63), CheckSettings(), PEOPLE)
    assert "not even replies to other prompts alone would FAIL in 80%" in conditions(report)


def test_a_report_of_before_is_read() -> None:
    report = check([], rated_baseline(np.random.default_rng(0), 256), CheckSettings(), PEOPLE)
    assert report.power is not None
    assert CheckReport.model_validate(report.model_dump(exclude={"power"})).power is None
