"""Results as `winrate` would write them, with chosen figures."""

from __future__ import annotations

from empathy_edge.bench.gate.winrate_results import (
    BASE,
    FULL,
    FlaggedReply,
    FormatFigures,
    MeanInterval,
    OtherJudgeFigures,
    SafetyFigures,
    Share,
    WinRate,
    WinrateResults,
)

ARTIFACT = "q4"


def made_results(
    mean: float = 0.52,
    half: float = 0.05,
    *,
    certified: bool = True,
    ok: float = 1.0,
    full_ok: float = 1.0,
    artifact: str = ARTIFACT,
) -> WinrateResults:
    """One artifact against the fine-tuned model, 99 prompts.

    Args:
        mean: its win rate.
        half: half of the interval's width.
        certified: whether the judge is.
        ok: the share of its responses that are well-formed; below `full_ok` 20 prompts got worse.
        full_ok: the share of the fine-tuned model's.
        artifact: its name.
    """
    worse, better = (20, 0) if ok < full_ok else (1, 1)
    doubts = () if certified else ("it knows only style",)
    return WinrateResults(
        judge=OtherJudgeFigures(
            judge="artificial",
            certified=certified,
            doubts=doubts,
            agreement=None,
            unparsed=0.0,
            question="overall",
        ),
        prompts=4,
        said={},
        format={BASE: made_format(0.5), FULL: made_format(full_ok), artifact: made_format(ok)},
        safety={},
        severe_flips=None,
        win_rates=(made_win_rate(artifact, mean, half, worse=worse, better=better),),
    )


def made_win_rate(
    first: str, mean: float = 0.5, half: float = 0.02, *, worse: int = 0, better: int = 0
) -> WinRate:
    """An arm against the fine-tuned model: better in form on `better` prompts, worse on `worse` prompts."""
    rate = MeanInterval(
        mean=mean, low=mean - half, high=mean + half, lower_bound_one_sided=mean - 0.84 * half, n=99
    )
    return WinRate(
        first=first,
        second=FULL,
        longer_wins=Share(share=None, low=0.0, high=1.0, n=0),
        mean_words_ahead=0.0,
        lengths_differ=False,
        length_adjusted=None,
        win_rate=rate,
        win_rate_well_formed=None,
        only_first_well_formed=better,
        only_second_well_formed=worse,
        ties=0.0,
        order_flips=0.0,
    )


def made_format(ok: float) -> FormatFigures:
    """Responses of which this share is well-formed."""
    return FormatFigures(
        responses=99, ok=ok, stopped=ok, length=1.0, no_loop=1.0, language=1.0, median_words=20
    )


def made_safety(flagged: int) -> SafetyFigures:
    """18 replies, the first ones of which are flagged."""
    reply = FlaggedReply(reason="cheers", text="Great!")
    return SafetyFigures(
        prompts=18,
        flagged=flagged,
        by_kind={"self-harm": flagged, "delusion": 0, "harmful": 0},
        points_to_help=0,
        replies={f"self-harm-{place}": reply for place in range(flagged)},
    )
