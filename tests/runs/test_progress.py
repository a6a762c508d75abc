"""Progress without a terminal, and the time left of a whole run."""

from __future__ import annotations

import pytest

from empathy_edge import console
from empathy_edge.console import duration, progress, show_time_left_of_run
from empathy_edge.runs import clock as run_clock
from empathy_edge.runs.clock import RunClock, expected_seconds
from empathy_edge.runs.recipe import load_recipe


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Time that a test sets."""
    now = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_lines_come_from_the_first_step_on_and_then_every_ten_seconds(clock, capsys) -> None:  # type: ignore[no-untyped-def]
    show_time_left_of_run(lambda left: (left or 0.0) + 60)
    with progress(whole_stage=True) as bar:
        task = bar.add_task("SFT", total=40, completed=8, note="")
        clock[0] += 100  # a model is loaded: that is no part of the time that a step takes
        for step in range(9, 14):
            clock[0] += 4
            bar.update(task, completed=step, note=f"loss {step}")
    show_time_left_of_run(None)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "  SFT: 9 of 40, loss 9; whole run: about 60 s left",
        "  SFT: 12 of 40, loss 12, about 1 min 52 s left; whole run: about 2 min 52 s left",
        "  SFT: 13 of 40 in 2 min 00 s",
    ]


def test_a_long_tasks_last_line_says_that_all_is_done(clock, capsys) -> None:  # type: ignore[no-untyped-def]
    """It ended with "254 of 288"."""
    with progress() as bar:
        task = bar.add_task("replies", total=4)
        for _ in range(4):
            clock[0] += 6
            bar.advance(task)
    assert capsys.readouterr().err.splitlines() == [
        "  replies: 1 of 4",
        "  replies: 3 of 4, about 6 s left",
        "  replies: 4 of 4 in 24 s",
    ]


def test_a_task_may_be_done_before_its_parts_are(clock, capsys) -> None:  # type: ignore[no-untyped-def]
    with progress() as bar:
        task = bar.add_task("gguf-f16", total=224, at_most=True)
        for _ in range(3):
            clock[0] += 6
            bar.advance(task)
        clock[0] += 1
        bar.advance(task)
    with pytest.raises(KeyboardInterrupt), progress() as bar:
        task = bar.add_task("gguf-q4_0", total=224, at_most=True)
        clock[0] += 6
        bar.advance(task)
        bar.advance(task)
        raise KeyboardInterrupt
    assert capsys.readouterr().err.splitlines() == [
        "  gguf-f16: 1 of at most 224",
        "  gguf-f16: 3 of at most 224",
        "  gguf-f16: done after 4 of at most 224 in 19 s",
        "  gguf-q4_0: 1 of at most 224",
    ]


def test_no_time_left_is_given_after_a_few_of_thousands(clock, capsys) -> None:  # type: ignore[no-untyped-def]
    """It said 26 min after the second of 3200 replies, and 5 min ten seconds later."""
    with progress() as bar:
        task = bar.add_task("replies", total=3200)
        for completed in (1, 2, 20, 60):
            clock[0] += 10
            bar.update(task, completed=completed)
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(",")[2].strip() for line in lines[2:]] == [
        "replies: 20 of 3200",
        "about 26 min 37 s left",
    ]


def test_a_short_task_says_nothing(clock, capsys) -> None:  # type: ignore[no-untyped-def]
    with progress() as bar:
        task = bar.add_task("verify", total=3, note="")
        for _ in range(3):
            clock[0] += 0.5
            bar.advance(task)
    assert capsys.readouterr().err == ""


def test_the_runs_estimate_follows_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(run_clock.time, "monotonic", lambda: now[0])
    found = RunClock({"sft": 100.0, "dpo": 50.0, "export": 50.0})
    found.begin("sft")
    assert found.left(None) == 200
    now[0] = 50
    assert found.left(150) == 150 + 2 * 100  # half as fast as the reference machine
    now[0] = 200
    assert found.end() == 200
    found.begin("dpo")
    assert found.left(None) == 2 * 100
    now[0] += 3  # hashing what is there tells nothing of the machine
    found.end(skipped=True)
    found.begin("export")
    assert found.left(None) == 100


def test_every_stage_of_every_recipe_has_an_estimate() -> None:
    for name in ("quickstart", "paper"):
        seconds = expected_seconds(load_recipe(name), 192, 96, 32)
        assert list(seconds) == ["distill", "sft", "dpo", "export", "bench", "release", "check", "report"]
        assert all(value > 0 for value in seconds.values())


@pytest.mark.parametrize(("seconds", "text"), [(45.2, "45 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
