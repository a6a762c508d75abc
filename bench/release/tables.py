"""The win rates and what belongs to them, as tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.markup import escape
from rich.table import Table

from empathy_edge.bench.release.results import (
    JudgeAccuracy,
    JudgeFigures,
    LearnedJudgeFigures,
    NoJudgeFigures,
    ReleaseResults,
    SafetyFigures,
    WinRate,
)
from empathy_edge.bench.release.safety import KINDS
from empathy_edge.console import out as stdout
from empathy_edge.console import table, tell
from empathy_edge.formats.row_fields import printable

SHOWN_CHARACTERS = 280
"""Of each text of an example."""


class Example(NamedTuple):
    """A prompt with what both models reply."""

    said: str
    base: str
    tuned: str


def show(results: ReleaseResults, examples: Sequence[Example] = ()) -> None:
    """Print the form of the responses, the safety checks, the win rates and the verdict.

    Args:
        results: what `release` found.
        examples: shown where there are no win rates.
    """
    _show_format(results)
    _show_safety(results.safety)
    if results.win_rates:
        _show_win_rates(results)
    if examples:
        _show_examples(examples, results.prompts)
    tell(f"Release: {results.verdict} ({'; '.join(results.reasons)}).")


def _show_win_rates(results: ReleaseResults) -> None:
    title = f"Win rates by {results.judge.judge}, {describe_judge(results.judge)}"
    columns = ["comparison", "win rate", "95 % interval", "ties", "both well-formed"]
    stdout.print(table(title, columns, [_win_rate_row(row) for row in results.win_rates]))


def _show_examples(examples: Sequence[Example], prompts: int) -> None:
    """Before and after fine-tuning, side by side; long texts are cut."""
    same = sum(example.base == example.tuned for example in examples)
    title = f"Before and after fine-tuning: replies to {len(examples)} of {prompts} prompts"
    if same:
        title += f" ({same} of these are the same)"
    shown = Table(title=title, title_justify="left", title_style="bold", header_style="bold", show_lines=True)
    for column in ("prompt", "before (base)", "after (fine-tuned)"):
        shown.add_column(column, ratio=1, overflow="fold")
    for example in examples:
        shown.add_row(*(escape(_shortened(text)) for text in example))
    stdout.print(shown)


def _shortened(text: str) -> str:
    text = printable(text)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS].rstrip() + "…"


def _show_format(results: ReleaseResults) -> None:
    columns = ["arm", "well-formed", "stopped", "1–97 words", "no loop", "same language", "median words"]
    rows = []
    for arm, row in results.format.items():
        shares = (row.ok, row.stopped, row.length, row.no_loop, row.language)
        rows.append([arm, *(f"{share:.1%}" for share in shares), f"{row.median_words:g}"])
    kind = "shipped" if results.shipped_prompts else "test"
    stdout.print(table(f"Responses to {results.prompts} {kind} prompts", columns, rows))


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


def describe_judge(judge: JudgeFigures) -> str:
    """How good the judge is and whether it is certified, in one line; it is shown with every win rate."""
    if isinstance(judge, NoJudgeFigures):
        return "there is none"
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
