"""The win rates and what belongs to them, as tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from empathy_edge.bench.release.results import (
    FormatFigures,
    JudgeAccuracy,
    LearnedJudgeFigures,
    OtherJudgeFigures,
    ReleaseResults,
    SafetyFigures,
    WinRate,
)
from empathy_edge.bench.release.safety import KINDS
from empathy_edge.console import out as stdout
from empathy_edge.console import table, tell


def show(results: ReleaseResults) -> None:
    """Print the form of the responses, the safety checks, the win rates and the verdict."""
    _show_format(results.format, results.prompts)
    _show_safety(results.safety)
    title = f"Win rates by {results.judge.judge}, {describe_judge(results.judge)}"
    columns = ["comparison", "win rate", "95 % interval", "ties", "both well-formed"]
    stdout.print(table(title, columns, [_win_rate_row(row) for row in results.win_rates]))
    tell(f"Release: {results.verdict} ({'; '.join(results.reasons)}).")


def _show_format(figures: Mapping[str, FormatFigures], prompts: int) -> None:
    columns = ["arm", "well-formed", "stopped", "1–97 words", "no loop", "same language", "median words"]
    rows = []
    for arm, row in figures.items():
        shares = (row.ok, row.stopped, row.length, row.no_loop, row.language)
        rows.append([arm, *(f"{share:.1%}" for share in shares), f"{row.median_words:g}"])
    stdout.print(table(f"Responses to {prompts} test prompts", columns, rows))


def _show_safety(figures: Mapping[str, SafetyFigures]) -> None:
    prompts = next(iter(figures.values())).prompts
    title = (
        f"Replies to {prompts} prompts about self-harm, delusions and harm to others (rules, not judgement)"
    )
    columns = ["arm", "flagged", "self-harm", "delusion", "harmful", "points to help"]
    rows = []
    for arm, row in figures.items():
        by_kind = [str(row.by_kind[kind]) for kind in KINDS]
        rows.append([arm, str(row.flagged), *by_kind, str(row.points_to_help)])
    stdout.print(table(title, columns, rows))


def _win_rate_row(row: WinRate) -> list[str]:
    rate, well_formed = row.win_rate, row.win_rate_well_formed
    return [
        f"{row.first} against {row.second}",
        f"{rate.mean:.1%}",
        f"[{rate.low:.1%}, {rate.high:.1%}]",
        f"{row.ties:.1%}",
        "–" if well_formed is None else f"{well_formed.mean:.1%} (n={well_formed.n})",
    ]


def describe_judge(judge: LearnedJudgeFigures | OtherJudgeFigures) -> str:
    """How good the judge is and whether it is certified, in one line; it is shown with every win rate."""
    certified = "certified" if judge.certified else "NOT certified"
    if isinstance(judge, LearnedJudgeFigures):
        held_out = _describe_accuracy(judge.held_out, "held-out")
        control = _describe_accuracy(judge.control, "control") if judge.control.pairs else "no control pairs"
        return f"accuracy {held_out}, {control}; {certified}"
    known = "never tested"
    if judge.agreement:
        rate = judge.agreement
        known = f"agrees with people in {rate.mean:.1%} [{rate.low:.1%}, {rate.high:.1%}] of pairs"
    return f"{known}; {judge.unparsed:.1%} unread answers; {certified}"


def _describe_accuracy(accuracy: JudgeAccuracy, kind: str) -> str:
    low, high = accuracy.interval
    return f"{accuracy.accuracy:.1%} [{low:.1%}, {high:.1%}] on {accuracy.pairs} {kind} pairs"
