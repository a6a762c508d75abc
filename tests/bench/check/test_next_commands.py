"""What to do about an undecided artifact: commands that can be pasted."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from empathy_edge.bench.check.baseline.record import read_baseline
from empathy_edge.bench.check.next_commands import (
    CheckCommand,
    baseline_again,
    check_of,
    groups_of,
    what_to_do,
)
from empathy_edge.bench.check.report import CheckReport
from tests.bench.check.rated import rated_baseline
from tests.bench.report.test_words import checked, report_of
from tests.commands.tree import parse

DOUBT = "it agrees with readers on 55% of 224 unequal pairs"


def report(prompts: int, doubts: tuple[str, ...], **changes: object) -> CheckReport:
    """A check with one undecided artifact."""
    artifact = checked("gguf-q8_0", "UNDECIDED", 0.2, 1).model_copy(update=changes)
    return report_of(artifact, prompts=prompts, judge_agreement=0.55, judge_doubts=doubts)


@pytest.mark.parametrize(
    ("found", "commands"),
    [
        (
            report(640, (DOUBT,)),
            ["--samples 2 --judge sheet:ratings.csv", "--samples 2 --judge openai:MODEL"],
        ),
        (report(8, (DOUBT,)), ["--max-prompts 96 --samples 2"]),
        (report(96, (DOUBT,), prompts_needed=150), ["--max-prompts 160 --samples 2"]),
        (report(96, (DOUBT,), ratings_missing=7), []),
        (report(640, ()), []),
    ],
)
def test_what_decides_is_a_ready_command(found: CheckReport, commands: list[str]) -> None:
    again = CheckCommand(check_of(["my model/gguf-q8_0"], "merged"), ("--samples", "2"))
    todo = what_to_do(found.artifacts, found, again, None, 2)
    assert [shlex.join(command) for _, command in todo.commands] == [
        f"empathy-edge check 'my model/gguf-q8_0' --reference merged {options}" for options in commands
    ]
    assert bool(todo.text) is not bool(commands)
    for _, command in todo.commands:
        parse(list(command[1:]))


def test_people_are_told_how_many_ratings_it_takes() -> None:
    """Two replies and the controls to each prompt: another prompt's reply, and of 128 the Q2_K form's."""
    found = report(640, (DOUBT,))
    again = CheckCommand(check_of(["a"], "merged"))
    (what, _), _ = what_to_do(found.artifacts, found, again, None, 2).commands
    assert f"who give {640 * 3 + 128 + 896} ratings or more" in what


def test_more_prompts_than_there_are_must_be_given() -> None:
    found = report(96, (DOUBT,), prompts_needed=150)
    again = CheckCommand(check_of(["a"], "merged"), own_prompts=True)
    assert "give about 160 prompts" in what_to_do(found.artifacts, found, again, None, 2).text


def test_near_and_far_artifacts_are_decided_by_different_means() -> None:
    near = checked("f16", "UNDECIDED", 0.4, 1).model_copy(update={"prompts_needed": 72})
    far = checked("q8_0", "UNDECIDED", 0.2, 1)
    assert groups_of({"a/f16": near, "a/q8_0": far}) == [{"a/q8_0": far}, {"a/f16": near}]
    assert groups_of({"a/f16": near}) == [{"a/f16": near}]


def test_a_baseline_is_made_again_as_it_was(baseline_file: Path) -> None:
    known = read_baseline(baseline_file)
    again = baseline_again(known)
    assert shlex.join(again.by("openai:MODEL")) == (
        f"empathy-edge baseline {known.reference.name} --out judged.json.gz --max-prompts 80 "
        "--temperature 0.5 --max-new-tokens 12 --samples 3 --judge openai:MODEL"
    )
    other = known.model_copy(update={"prompts_sha256": "0" * 64})
    assert baseline_again(other).own_prompts


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"seed": 20240607}, "--seed 20240607"),
        ({"temperature": 0.7000001}, "--temperature 0.7000001"),
        ({"temperature": 1.0}, "--temperature 1.0"),
    ],
)
def test_its_numbers_are_whole(change: dict[str, float], option: str) -> None:
    baseline = rated_baseline(np.random.default_rng(0), 2)
    settings = baseline.settings.model_copy(update=change)
    again = baseline_again(baseline.model_copy(update={"settings": settings}))
    assert option in shlex.join(again.options)
    parse(list(again.by("openai:MODEL")[1:]))
