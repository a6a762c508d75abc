"""Decode for some minutes: the first minute beside the last. Of heat on a phone it says nothing."""

from __future__ import annotations

import statistics
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
    """The result of the sustained suite.

    Attributes:
        first_minute_tps: new tokens per second, mean of the windows in it.
        last_minute_tps: the same at the end.
        last_over_first: their ratio.
    """

    suite: Literal["sustained"]
    conditions: ConditionsAround
    artifacts: list[SustainedArtifact]
    first_minute_tps: float
    last_minute_tps: float
    last_over_first: float


def bench_sustained(artifact: str, *, minutes: float, threads: int | None) -> SustainedResult:
    """Decode without a pause for `minutes`; of runs below two minutes, the halves are compared."""
    settings = SustainedSettings(
        threads=threads or default_threads(), context=512, decode_tokens=128, seconds=60 * minutes
    )
    before = conditions()
    run = run_worker(artifact, settings, SustainedRun)
    compared_s = min(60, 30 * minutes)
    last_begins_s = run.windows[-1].end_s - compared_s
    first = statistics.mean(window.tps for window in run.windows if window.end_s <= compared_s + 10)
    last = statistics.mean(window.tps for window in run.windows if window.end_s > last_begins_s)
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
        last_over_first=last / first,
    )


def show_sustained(result: SustainedResult) -> None:
    """First minute, last minute, and the windows between."""
    row = result.artifacts[0]
    say(
        f"{row.artifact}, decode without a pause for {result.settings.seconds / 60:g} minutes "
        f"(measured-host): first minute {result.first_minute_tps:.1f}, "
        f"last {result.last_minute_tps:.1f} tokens/s, ratio {result.last_over_first:.3f}"
    )
    lines = [[f"{window.end_s:.0f}", f"{window.tps:.1f}"] for window in row.windows]
    stdout.print(table("Windows of 10 s", ["until s", "tokens/s"], lines))
