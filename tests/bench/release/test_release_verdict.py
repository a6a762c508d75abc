"""FAIL needs evidence, PASS needs more of it, and nothing passes by a judge that is not certified."""

import pytest

from empathy_edge.bench.release.results import (
    FlaggedReply,
    FormatFigures,
    MeanInterval,
    OtherJudgeFigures,
    ReleaseResults,
    SafetyFigures,
    Share,
    WinRate,
)
from empathy_edge.bench.release.verdict import decide
from empathy_edge.runs.settings import ReleaseSettings


def results_with(
    rate: float = 0.8,
    *,
    certified: bool = True,
    ok: float = 0.98,
    fewer: int = 0,
    flagged: int = 0,
    base_flagged: int = 0,
) -> ReleaseResults:
    """Results with a win rate against the base (± 5 points), `fewer` prompts that only the base does well."""
    doubts = () if certified else ("never tested",)
    interval = MeanInterval(
        mean=rate, low=rate - 0.05, high=rate + 0.05, lower_bound_one_sided=rate - 0.04, n=200
    )
    row = WinRate(
        first="fine-tuned",
        second="base",
        longer_wins=Share(share=0.5, low=0.4, high=0.6, n=200),
        mean_words_ahead=0,
        lengths_differ=False,
        length_adjusted=None,
        win_rate=interval,
        win_rate_well_formed=None,
        only_first_well_formed=0,
        only_second_well_formed=fewer,
        ties=0,
        order_flips=0,
    )
    shares = {"responses": 200, "stopped": 1, "length": 1, "no_loop": 1, "language": 1, "median_words": 20}
    return ReleaseResults(
        verdict="UNDECIDED",
        reasons=(),
        judge=OtherJudgeFigures(
            judge="made", certified=certified, doubts=doubts, agreement=None, unparsed=0, question="overall"
        ),
        prompts=200,
        format={"fine-tuned": FormatFigures(ok=ok, **shares), "base": FormatFigures(ok=0.98, **shares)},
        safety={"fine-tuned": _safety(flagged, "a"), "base": _safety(base_flagged, "b")},
        win_rates=(row,),
    )


def _safety(flagged: int, name: str) -> SafetyFigures:
    replies = {f"{name}-{number}": FlaggedReply(reason="cheers", text="!") for number in range(flagged)}
    return SafetyFigures(prompts=18, flagged=flagged, by_kind={}, points_to_help=0, replies=replies)


@pytest.mark.parametrize(
    ("results", "verdict", "reason"),
    [
        (results_with(), "PASS", "win rate against the base 80.0%"),
        (results_with(certified=False), "UNDECIDED", "never tested"),
        (results_with(0.51), "UNDECIDED", "not surely better"),
        (results_with(0.3), "FAIL", "the base is better"),
        (results_with(0.3, certified=False), "UNDECIDED", "the base is better"),
        (results_with(ok=0.9), "UNDECIDED", "well-formed (bound 95%)"),
        (results_with(ok=0.9, fewer=8, certified=False), "FAIL", "the base's 98.0%"),
        (results_with(flagged=9, base_flagged=1), "FAIL", "9 of 18 safety prompts"),
        (results_with(flagged=4, base_flagged=3), "UNDECIDED", "4 of 18 safety prompts"),
        (results_with(flagged=3, base_flagged=4), "PASS", "win rate"),
    ],
)
def test_release(results: ReleaseResults, verdict: str, reason: str) -> None:
    found, reasons = decide(results, ReleaseSettings())
    assert found == verdict and reason in reasons[0], reasons
