"""Decode for some minutes: the first minute beside the last. It says nothing about heat on a phone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

from empathy_edge.bench.conditions import conditions
from empathy_edge.bench.result_file import FORMAT, MEASURED_HOST, BenchResult, ConditionsAround, Record
from empathy_edge.bench.run_worker import run_worker
from empathy_edge.bench.worker_records import MemoryByPhase, SustainedRun, SustainedSettings, Window
from empathy_edge.console import out as stdout
from empathy_edge.console import say, table
from empathy_edge.models.find import find_model
from empathy_edge.runtimes import default_threads
from empathy_edge.system.machine import machine, versions


class SustainedArtifact(Record):
    """The artifact's name, and its run."""

    artifact: str
    runtime: str
    threads: int
    load_s: float
    cold: bool
    memory_mb: MemoryByPhase
    windows: list[Window]


class SustainedResult(BenchResult[SustainedSettings]):
    """The result of the sustained suite; below two minutes, the halves take the place of the minutes.

    Attributes:
        first_minute_tps: new tokens per second, mean of the windows whose middle is in it; None where there
            are fewer than two windows.
        last_minute_tps: the same at the end.
        last_over_first: their ratio.
    """

    suite: Literal["sustained"]
    conditions: ConditionsAround
    artifacts: list[SustainedArtifact]
    first_minute_tps: float | None
    last_minute_tps: float | None
    last_over_first: float | None


def bench_sustained(artifact: str, *, minutes: float, threads: int | None) -> SustainedResult:
    """Reply after reply for `minutes`: the decode speed of the first minute beside that of the last."""
    settings = SustainedSettings(
        threads=threads or default_threads(), context=512, decode_tokens=128, seconds=60 * minutes
    )
    before = conditions()
    run = run_worker(artifact, settings, SustainedRun)
    compared = first_and_last(run.windows)
    first, last = compared or (None, None)
    return SustainedResult(
        format=FORMAT,
        label=MEASURED_HOST,
        suite="sustained",
        settings=settings,
        machine=machine(),
        versions=versions(),
        conditions=ConditionsAround(before=before, after=conditions()),
        artifacts=[SustainedArtifact(artifact=find_model(artifact).path.name, **vars(run))],
        first_minute_tps=first,
        last_minute_tps=last,
        last_over_first=last / first if first and last else None,
    )


def first_and_last(windows: Sequence[Window]) -> tuple[float, float] | None:
    """The mean speed of the windows in the first minute, and in the last; None for fewer than two windows.

    A window belongs where its middle is, so that none is in both. Of a slow model one window can be longer
    than a minute: then it is the first alone, or the last alone.
    """
    if len(windows) < 2:
        return None
    end_s = windows[-1].end_s
    compared_s = min(60.0, end_s / 2)
    first, last = [], []
    begin_s = 0.0
    for window in windows:
        middle_s = (begin_s + window.end_s) / 2
        if middle_s <= compared_s:
            first.append(window.tps)
        if middle_s > end_s - compared_s:
            last.append(window.tps)
        begin_s = window.end_s
    return statistics.mean(first or [windows[0].tps]), statistics.mean(last or [windows[-1].tps])


def show_sustained(result: SustainedResult) -> None:
    """First minute (or half), last one, and the windows between."""
    row = result.artifacts[0]
    first, last, ratio = result.first_minute_tps, result.last_minute_tps, result.last_over_first
    minutes, end_s = result.settings.seconds / 60, row.windows[-1].end_s
    what = f"{row.artifact}, decode, reply after reply for {minutes:g} minutes (measured-host)"
    if first is None or last is None or ratio is None:
        say(
            f"{what}: there is one window alone, which ended after {end_s:.0f} s, and nothing to compare it "
            "with. Measure longer: --minutes."
        )
    else:
        part = "minute" if end_s >= 120 else "half"
        say(f"{what}: first {part} {first:.1f}, last {last:.1f} tokens/s, ratio {ratio:.3f}")
    lines = [[f"{window.end_s:.0f}", f"{window.tps:.1f}"] for window in row.windows]
    title = f"Windows of {result.settings.window_s:g} s or one reply"
    stdout.print(table(title, ["until s", "tokens/s"], lines))
