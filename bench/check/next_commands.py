"""The commands that decide what a check left undecided; the report of a run names them, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from empathy_edge.bench.check.baseline.q2_k import Q2_K_PROMPTS
from empathy_edge.bench.check.baseline.record import Baseline
from empathy_edge.bench.check.beforehand import FEWER_PROMPTS
from empathy_edge.bench.check.certificate import CERTIFICATE_PAIRS
from empathy_edge.bench.check.prompts import FEWEST, read_prompts, sha256_of
from empathy_edge.bench.check.report import CheckedArtifact, CheckReport
from empathy_edge.runs.settings import ReplySettings

PEOPLE = "sheet:ratings.csv"
"""A judge: people, who fill in a sheet of this name."""

LARGE_MODEL = "openai:MODEL"

JUDGED_BASELINE = "judged.json.gz"

Command = tuple[str, ...]


@dataclass(frozen=True)
class CheckCommand:
    """A check, so that it can be given once more with other options.

    Attributes:
        head: the command up to its options, as `empathy-edge check ARTIFACTS --reference MODEL`.
        options: its other options; no judge, and no number of prompts.
        max_prompts: as it was given; None: all of them.
        own_prompts: whether they are from a file of the user.
    """

    head: Command
    options: Command = ()
    max_prompts: int | None = None
    own_prompts: bool = False

    def by(self, judge: str) -> Command:
        """The same with another judge."""
        return (*self._with_prompts(self.max_prompts), "--judge", judge)

    def with_prompts(self, count: int, judge: str | None = None) -> Command:
        """The same with so many prompts, and its judge where it named one."""
        return (*self._with_prompts(count), *(("--judge", judge) if judge else ()))

    def _with_prompts(self, count: int | None) -> Command:
        prompts = () if count is None else ("--max-prompts", str(count))
        return (*self.head, *prompts, *self.options)


def check_of(artifacts: Sequence[str], reference: str) -> Command:
    """A check of artifacts against their model, up to its options."""
    return ("empathy-edge", "check", *artifacts, "--reference", reference)


def baseline_again(baseline: Baseline) -> CheckCommand:
    """The command that makes a baseline again, for a check that was given it as a file."""
    settings, default = baseline.settings, ReplySettings()
    options = []
    for name in ("temperature", "max_new_tokens", "samples", "seed"):
        value = getattr(settings, name)
        if value != getattr(default, name):
            options += ["--" + name.replace("_", "-"), str(value)]
    shipped = read_prompts(None, settings.max_prompts, settings.seed)
    own_prompts = sha256_of(shipped) != baseline.prompts_sha256
    if own_prompts:
        options += ["--prompts", "PROMPTS"]
    head = ("empathy-edge", "baseline", baseline.reference.name, "--out", JUDGED_BASELINE)
    return CheckCommand(head, tuple(options), settings.max_prompts, own_prompts)


@dataclass(frozen=True)
class WhatDecides:
    """What to do about undecided artifacts.

    Attributes:
        text: before the commands; where there are none, all of it.
        commands: any of them decides, each with a word for what it does; the first is the one to take.
    """

    text: str
    commands: tuple[tuple[str, Command], ...] = ()


def groups_of(undecided: Mapping[str, CheckedArtifact]) -> list[dict[str, CheckedArtifact]]:
    """Those that a judge decides, and last those that more prompts decide; a group has at least one."""
    by_prompts = {name: item for name, item in undecided.items() if item.prompts_needed is not None}
    others = {name: item for name, item in undecided.items() if name not in by_prompts}
    return [group for group in (others, by_prompts) if group]


def what_to_do(
    undecided: Sequence[CheckedArtifact],
    checked: CheckReport,
    again: CheckCommand,
    judge: str | None,
    samples: int,
) -> WhatDecides:
    """What decides them: ratings that are missing, more prompts, or a judge.

    Args:
        undecided: some of the artifacts of `checked`, of one group of `groups_of`.
        checked: all of the check.
        again: the check, of those artifacts alone.
        judge: as the user named it; None: by default.
        samples: of the reference's replies to a prompt.
    """
    needed = [item.prompts_needed for item in undecided]
    if any(item.ratings_missing for item in undecided):
        return WhatDecides("fill in the ratings that are missing (above), and run the same command again")
    if any(item.interrupted for item in undecided):
        return WhatDecides("remove the cause (above), and run the same command again")
    if checked.prompts < FEWEST:
        the_file_has_no_more = again.max_prompts is None or again.max_prompts > checked.prompts
        if again.own_prompts and the_file_has_no_more:
            return WhatDecides(f"give at least {FEWEST} prompts (--prompts FILE), or leave --prompts out")
        return WhatDecides("", (("with more prompts", again.with_prompts(FEWER_PROMPTS, judge)),))
    counts = [count for count in needed if count is not None]
    if len(counts) == len(needed):
        most = -(-max(counts) // 16) * 16
        if again.own_prompts or most > len(read_prompts(None, None, 0)):
            return WhatDecides(f"give about {most} prompts (--prompts FILE); no judge is needed")
        return WhatDecides("", (("with more prompts", again.with_prompts(most, judge)),))
    if checked.judge_doubts:
        ratings = checked.prompts * (samples + 1) + min(checked.prompts, Q2_K_PROMPTS) + 2 * CERTIFICATE_PAIRS
        by_people = (f"by people, who give {ratings} ratings or more in a spreadsheet", again.by(PEOPLE))
        return WhatDecides("", (by_people, ("by a large model", again.by(LARGE_MODEL))))
    return WhatDecides("what would decide is above")
