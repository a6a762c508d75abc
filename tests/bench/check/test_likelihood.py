"""Win rates from weights, where they can be computed exactly: a small set of replies with known chances."""

from collections.abc import Iterator, Sequence

import numpy as np

from empathy_edge.bench.check.baseline.record import JudgeRecord, PromptRecord, ReferenceReply
from empathy_edge.bench.check.steps.likelihood import prompt_evidence, weight_figures
from empathy_edge.bench.check.steps.win_rate import (
    Decision,
    Evidence,
    as_judge_sees,
    as_judge_sees_at_most,
    bounds_of,
    decide,
)
from empathy_edge.runtimes.base import Runtime, Sampling

REFERENCE = np.array([0.4, 0.3, 0.2, 0.1])
ARTIFACT = np.array([0.3, 0.3, 0.2, 0.2])
RATINGS = np.array([4.0, 3.0, 2.0, 1.0])
WIN_RATE = float(
    sum(
        ARTIFACT[a] * REFERENCE[b] * (0.5 + 0.5 * np.sign(RATINGS[a] - RATINGS[b]))
        for a in range(4)
        for b in range(4)
    )
)


class FourReplies(Runtime):
    """A model that can say four things, each of one token, which ends it."""

    stop_ids = frozenset(range(4))

    def tokenize(self, text: str) -> list[int]:
        return [0]

    def token_bytes(self, token: int) -> bytes:
        return b"."

    def tokens(self, ids: Sequence[int], sampling: Sampling) -> Iterator[int]:
        yield 0

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        return np.tile(np.log(ARTIFACT), (len(ids), 1))


def record(drawn: Sequence[int]) -> PromptRecord:
    replies = tuple(
        ReferenceReply(
            token_ids=(int(token),),
            log_probs=(float(np.log(REFERENCE[token])),),
            text=str(token),
            stopped=True,
            rating=float(RATINGS[token]),
        )
        for token in drawn
    )
    return PromptRecord(
        id="p",
        messages=({"role": "user", "content": "Hello."},),
        token_ids=(0,),
        replies=replies,
        greedy=replies[0],
        misplaced_text="",
        misplaced_rating=0.0,
    )


def judge(low: float, high: float) -> JudgeRecord:
    return JudgeRecord(
        name="j", identity="i", agreement=low, agreement_low=low, agreement_high=high, pairs=200, doubts=()
    )


def test_weighted_comparisons_give_the_win_rate_without_bias() -> None:
    generator = np.random.default_rng(0)
    found = [
        prompt_evidence(record(generator.choice(4, size=4, p=REFERENCE)), FourReplies(), 1.0)
        for _ in range(4_000)
    ]
    leads = np.array([(item.wins - item.losses) / 2 for item in found])
    assert abs(0.5 + leads.mean() - WIN_RATE) < 4 * leads.std() / len(leads) ** 0.5
    variation = abs(REFERENCE - ARTIFACT).sum() / 2
    figures = weight_figures(found)
    assert abs(figures.mean - 1) < 0.03 and abs(figures.total_variation - variation) < 0.02
    any_judge = np.mean([item.any_judge for item in found])
    assert (
        abs(any_judge - (1 - variation) / 2) < 0.1 and any_judge < WIN_RATE + 0.005
    )  # these ratings are the worst


def test_the_bounds_hold_the_win_rate() -> None:
    generator = np.random.default_rng(1)
    missed = 0
    for _ in range(30):
        found = [
            prompt_evidence(record(generator.choice(4, size=4, p=REFERENCE)), FourReplies(), 1.0)
            for _ in range(300)
        ]
        evidence = Evidence(
            judge(1.0, 1.0),
            [item.any_judge for item in found],
            [item.wins for item in found],
            [item.losses for item in found],
        )
        bounds = bounds_of(evidence, decide(evidence, 0.3))
        missed += not bounds.low <= WIN_RATE <= bounds.high
    assert missed <= 3


def test_a_judge_who_errs_sees_less_of_a_loss() -> None:
    assert as_judge_sees(0.45, 0.7) == 0.48
    assert 0.45 < as_judge_sees_at_most(0.45, 0.7) < as_judge_sees(0.45, 0.7)
    assert as_judge_sees(0.45, 1.0) == as_judge_sees_at_most(0.45, 1.0) == 0.45


def test_evidence_that_was_refused_does_not_help() -> None:
    passes = Evidence(judge(0.9, 0.9), [], [0.5] * 640, [0.5] * 640, [0.5] * 640)
    assert decide(passes, 0.45) == Decision("PASS", "likelihood")
    refused = Evidence(
        judge(0.9, 0.9), [], [0.5] * 640, [0.5] * 640, [0.5] * 640, weights_hold=False, judge_counts=False
    )
    assert decide(refused, 0.45) is None


def test_a_reply_that_the_artifact_would_end_earlier_has_no_weight() -> None:
    class EndsEarlier(FourReplies):
        stop_ids = frozenset({0, 3})

    long = ReferenceReply(token_ids=(0, 3), log_probs=(-1.0, -1.0), text="a", stopped=True, rating=1.0)
    other = ReferenceReply(token_ids=(1, 2), log_probs=(-1.0, -1.0), text="b", stopped=True, rating=0.0)
    right = ReferenceReply(token_ids=(1, 3), log_probs=(-1.0, -1.0), text="c", stopped=True, rating=0.0)
    drawn = record([0, 1]).model_copy(update={"replies": (long, other, right)})
    weights = prompt_evidence(drawn, EndsEarlier(), 1.0).weights
    assert weights[:2] == (0.0, 0.0) and weights[2] > 0
