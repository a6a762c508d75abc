"""The report's first sentences: what was found, and what to do next, for whoever decides what is shipped."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from empathy_edge.bench.check.next_commands import LARGE_MODEL, PEOPLE, CheckCommand, check_of
from empathy_edge.bench.check.report import CheckedArtifact, CheckReport, Verdict
from empathy_edge.bench.release.results import BASE, FULL, KNOWN, ReleaseResults
from empathy_edge.bench.report.finished_run import FinishedRun

MOST_NAMES = 4
"""Artifacts of one verdict that a sentence names; of more it gives the number."""

IT = "the model's empathy"

KNOWS_NOTHING = 0.98
"""An interval of the share of comparisons won that is so wide says nothing."""


class NextStep(NamedTuple):
    """What to do next: a sentence, and a command where there is one."""

    text: str
    command: str = ""


def percent(share: float) -> str:
    """A share in a table: 45.5 %, 100.0 %."""
    return f"{100 * share:.1f} %"


def short_percent(share: float) -> str:
    """A share as people write it: 45.5 %, 100 %."""
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def verdict_sentence(checked: CheckReport) -> str:
    """Which artifacts keep their model's empathy, which do not, and which are undecided: one sentence."""
    clauses = []
    if kept := _with(checked, "PASS"):
        clauses.append(f"{_names(kept)} {'keeps' if len(kept) == 1 else 'keep'} {IT}")
    if lost := _with(checked, "FAIL"):
        clauses.append(
            f"{_names(lost)} {'does' if len(lost) == 1 else 'do'} not keep {IT if not kept else 'it'}"
        )
    clauses += _about_undecided(checked, is_first=not clauses)
    sentence = "; ".join(clauses) or "no artifact was checked"
    if not _with(checked, "PASS") and not _with(checked, "FAIL"):
        sentence = sentence[0].upper() + sentence[1:]
    return sentence + "."


def _about_undecided(checked: CheckReport, *, is_first: bool) -> list[str]:
    """The clauses about the undecided: those with bounds, then those of which nothing is known."""
    undecided = _with(checked, "UNDECIDED")
    bounded = [item for item in undecided if not knows_nothing(item)]
    unknown = [item for item in undecided if knows_nothing(item)]
    judge = " without a certified judge" if checked.judge_doubts else ""
    shown, clauses = bounded or unknown, []
    if shown and is_first:
        keeps = "keeps" if len(shown) == 1 else "keep"
        clauses.append(f"it is undecided whether {_with_bounds(shown)} {keeps} {IT}")
    elif shown:
        clauses.append(f"{_with_bounds(shown)} {'is' if len(shown) == 1 else 'are'} undecided")
    if bounded and unknown:
        clauses.append(f"of {_names(unknown)} nothing is known{judge}")
    elif unknown:
        clauses[-1] += f": nothing is known{judge}"
    return clauses


def _with(checked: CheckReport, verdict: Verdict) -> list[CheckedArtifact]:
    return [item for item in checked.artifacts if item.verdict == verdict]


def _names(items: Sequence[CheckedArtifact]) -> str:
    return listed([item.artifact for item in items])


def _with_bounds(items: Sequence[CheckedArtifact]) -> str:
    """The names, each with its bounds, if they say something; the first ones say what the figures are of."""
    if len(items) > MOST_NAMES:
        return _names(items)
    named: list[str] = []
    explained = False
    for item in items:
        if knows_nothing(item):
            named.append(item.artifact)
            continue
        bounds = f"between {short_percent(item.win_rate_low)} and {short_percent(item.win_rate_high)}"
        named.append(f"{item.artifact} ({bounds}{'' if explained else ' of comparisons won'})")
        explained = True
    return listed(named)


def knows_nothing(item: CheckedArtifact) -> bool:
    """Whether the bounds are those of an artifact of which nothing was compared: 0 to 100 %, or nearly."""
    return item.win_rate_high - item.win_rate_low >= KNOWS_NOTHING


def listed(names: Sequence[str]) -> str:
    """Names in a sentence; of many the first and the number of the others."""
    if len(names) > MOST_NAMES:
        first = names[: MOST_NAMES - 1]
        return f"{', '.join(first)} and {len(names) - len(first)} more"
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def release_sentence(release: ReleaseResults) -> str:
    """Whether the fine-tuned model may be released, and the first reason."""
    reason = release.reasons[0] if release.reasons else "no reason was recorded"
    if release.verdict == "PASS":
        return f"The fine-tuned model may be released: {reason}."
    if release.verdict == "FAIL":
        return f"Do not release the fine-tuned model itself: {reason}."
    return f"Whether to release the fine-tuned model itself is undecided: {reason}."


def about_arms(release: ReleaseResults) -> str:
    """What the arms of the release's tables are."""
    text = f"{BASE} and {FULL} are the model before and after fine-tuning"
    if KNOWN in release.format:
        text += f"; {KNOWN} are the responses that the data have, people's as a rule"
    return text[0].upper() + text[1:] + "."


def figures_in_words(results: Mapping[str, Any]) -> dict[str, str]:
    """A stage's results as text, without those that are empty.

    Of what the filters rejected the counts are given, without the examples.
    """
    found = {}
    for name, value in results.items():
        if name == "examples":  # whole replies, which stand beside each other elsewhere
            continue
        if name == "caught":
            value = {by: rejected["count"] for by, rejected in value.items()}
        if text := _in_words(value):
            found[name.replace("_", " ")] = text
    return found


def _in_words(value: Any) -> str:
    """A value of JSON as text; empty where it is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        parts = {name.replace("_", " "): _in_words(part) for name, part in value.items()}
        return ", ".join(f"{name} {text}" for name, text in parts.items() if text)
    if isinstance(value, list):
        texts = [_in_words(item) for item in value]
        return listed(texts) if all(isinstance(item, str) for item in value) else ", ".join(texts)
    return str(value)


def next_steps(run: FinishedRun) -> list[NextStep]:
    """What to do next, the most pressing first."""
    return [*_about_the_release(run), *_about_artifacts(run), *_about_the_smallest(run)]


def _about_the_release(run: FinishedRun) -> list[NextStep]:
    release = run.release
    if release.verdict == "FAIL":
        return [
            NextStep(
                "Read the replies that speak against the fine-tuned model (below, “The fine-tuned model "
                "beside its base”), then change the data or the recipe, and run it again.",
                f"{run.command} --update",
            )
        ]
    if release.verdict == "UNDECIDED":
        return [
            NextStep(
                "To decide about the fine-tuned model: compare it with its base on more prompts, by a "
                "certified judge or by people (docs/release.md)."
            )
        ]
    return []


def _about_artifacts(run: FinishedRun) -> list[NextStep]:
    """What decides the undecided, and what not to ship."""
    steps = []
    waiting = [item for item in run.check.artifacts if item.ratings_missing]
    interrupted = [item for item in run.check.artifacts if item.interrupted]
    undecided = [item for item in _with(run.check, "UNDECIDED") if item not in (*waiting, *interrupted)]
    if waiting:
        steps.append(
            NextStep(
                f"To decide {_names(waiting)}: fill in the ratings that are missing, and run it again.",
                run.command,
            )
        )
    if interrupted:
        steps.append(
            NextStep(
                f"To decide {_names(interrupted)}: remove the cause in its notes, and run it again.",
                run.command,
            )
        )
    if undecided and run.check.judge_doubts:
        folder = run.shown_folder
        artifacts = [f"{folder}/export/{item.artifact}" for item in undecided]
        by_people = CheckCommand(check_of(artifacts, f"{folder}/export/merged")).by(PEOPLE)
        steps.append(
            NextStep(
                f"To decide {_names(undecided)}: let people or a certified judge compare replies. With this "
                f"command people rate replies in a spreadsheet; --judge {LARGE_MODEL} asks a large model.",
                shlex.join(by_people),
            )
        )
    elif undecided:
        needed = dict.fromkeys(item.to_decide for item in undecided if item.to_decide)
        steps.append(
            NextStep(f"To decide {_names(undecided)}, it takes {'; '.join(needed) or 'more prompts'}.")
        )
    if lost := _with(run.check, "FAIL"):
        steps.append(NextStep(f"Do not ship {_names(lost)}: too much is lost."))
    return steps


def _about_the_smallest(run: FinishedRun) -> list[NextStep]:
    """Of those that pass, the smallest one: what to do with it depends on the release verdict."""
    passed = [row for row in run.artifacts if row.checked.verdict == "PASS" and row.size_mb]
    if not passed:
        return []
    smallest = passed[-1]
    folder = shlex.quote(f"{run.shown_folder}/export/{smallest.name}")
    found = f"{smallest.name} ({smallest.size_mb:.0f} MB)"
    if len(passed) > 1:
        found += ", the smallest that keeps the model's empathy"
    if run.release.verdict == "PASS":
        return [NextStep(f"Ship {found}.", f"empathy-edge export bundle {folder} --out bundle --zip")]
    return [NextStep(f"Talk to {found}.", f"empathy-edge chat {folder}")]
