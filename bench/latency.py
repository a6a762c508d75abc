"""Latency and memory of artifacts on this machine; every figure is `measured-host`.

Each repetition is a process of its own, so that no artifact's memory is another's. Each round runs all
artifacts in a new order, so that a slow minute of the machine hits all.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from empathy_edge.bench.conditions import conditions
from empathy_edge.bench.latency_summary import LatencySummary, show, summaries, wider_side
from empathy_edge.bench.own_names import own_names
from empathy_edge.bench.result_file import (
    FORMAT,
    MEASURED_HOST,
    ArtifactSamples,
    ConditionsAround,
    LengthSamples,
    StandardResult,
    StandardSettings,
    median_memory,
    write_result,
)
from empathy_edge.bench.run_worker import run_worker, say_if_warm, size_mb
from empathy_edge.bench.timing_intervals import median_interval
from empathy_edge.bench.worker_records import GridRun, GridSettings
from empathy_edge.console import progress
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import BenchSettings
from empathy_edge.runs.stage import Results, open_stage
from empathy_edge.runtimes import default_threads
from empathy_edge.system.machine import machine, versions

STABLE = 0.03
"""`until_stable` goes on until no median's interval reaches farther than this share of it to either side."""
MAX_ROUNDS = 40


class LatencyResults(Results):
    """The stage's results: a summary of each artifact."""

    artifacts: list[LatencySummary]


def run(*, artifacts: list[Path], out: Path, settings: BenchSettings, update: bool = False) -> LatencyResults:
    """The pipeline's stage: measure each artifact folder, write `latency.json`, show a table."""
    settings = settings.model_copy(update={"threads": settings.threads or default_threads()})
    stage = open_stage(
        out,
        "bench",
        settings=settings.model_dump(),
        inputs={folder.name: folder for folder in artifacts},
        files=("latency.json",),
        update=update,
    )
    if not stage.done:
        result = bench([str(folder) for folder in artifacts], settings)
        write_result(out / "latency.json", result)
        stage.finish(LatencyResults(artifacts=summaries(result)))
    results = stage.results(LatencyResults)
    show(results.artifacts, settings)
    return results


def bench(
    artifacts: list[str],
    settings: BenchSettings,
    *,
    prompts: list[int] | None = None,
    until_stable: bool = False,
    cold: bool = False,
) -> StandardResult:
    """Measure every artifact once in each round.

    Args:
        artifacts: what `open_runtime` takes.
        settings: repetitions (rounds), lengths, threads.
        prompts: prompt lengths, instead of the one in `settings`; decode is measured after each of them.
        until_stable: go on after `repetitions` until all medians are known to 3 %, at most 40 rounds.
        cold: drop the model from the page cache before each load.

    Returns:
        Raw samples and the machine and conditions they come from.

    Raises:
        EmpathyEdgeError: an artifact is not there, two have the same name, or one cannot be measured; or
            more rounds are asked for than `until_stable` allows.
    """
    if until_stable and settings.repetitions > MAX_ROUNDS:
        raise EmpathyEdgeError(
            f"--until-stable ends after {MAX_ROUNDS} rounds, and --repetitions asks for "
            f"{settings.repetitions}. Leave one of them out."
        )
    lengths = prompts or [settings.prompt_tokens]
    grid = GridSettings(
        threads=settings.threads or default_threads(),
        prompt_tokens=lengths,
        decode_tokens=settings.decode_tokens,
        context=max(lengths) + settings.decode_tokens + 64,
        cold=cold,
    )
    refs = [find_model(artifact) for artifact in artifacts]  # all, before the first is run
    names = own_names([ref.path for ref in refs])
    files = {artifact: ref.path for artifact, ref in zip(artifacts, refs, strict=True)}
    before = conditions()
    runs = _run_rounds(artifacts, grid, settings.repetitions, until_stable=until_stable)
    some_runs = next(iter(runs.values()))
    if cold:
        say_if_warm(cold=some_runs[0].cold)
    return StandardResult(
        format=FORMAT,
        label=MEASURED_HOST,
        suite="standard",
        settings=StandardSettings(**asdict(grid), repetitions=len(some_runs)),
        machine=machine(),
        versions=versions(),
        conditions=ConditionsAround(before=before, after=conditions()),
        artifacts=[
            _gather(files[artifact], names[files[artifact]], runs[artifact], lengths) for artifact in files
        ],
    )


def _run_rounds(
    artifacts: list[str], grid: GridSettings, repetitions: int, *, until_stable: bool
) -> dict[str, list[GridRun]]:
    """The runs of each artifact, one of each round."""
    runs: dict[str, list[GridRun]] = {artifact: [] for artifact in artifacts}
    order = random.Random(0)
    rounds = MAX_ROUNDS if until_stable else repetitions
    with progress() as bar:
        task = bar.add_task("bench", total=rounds * len(artifacts), note="")
        for number in range(1, rounds + 1):
            for artifact in order.sample(artifacts, len(artifacts)):
                bar.update(task, note=f"round {number}, {Path(artifact).name}")
                runs[artifact].append(run_worker(artifact, grid, GridRun))
                bar.advance(task)
            if until_stable and number >= repetitions and widest_side(runs) <= STABLE:
                break
    return runs


def widest_side(runs: Mapping[str, list[GridRun]]) -> float:
    """How far an interval of all medians so far reaches at most to a side, as a share of the median."""
    widest = 0.0
    for results in runs.values():
        for length in results[0].samples:
            samples = [result.samples[length] for result in results]
            decode = median_interval([sample.decode_tps for sample in samples])
            prefill = median_interval([sample.prefill_tps for sample in samples])
            widest = max(widest, wider_side(decode), wider_side(prefill))
    return widest


def _gather(file: Path, name: str, runs: list[GridRun], lengths: list[int]) -> ArtifactSamples:
    """One artifact's rounds: raw samples by prompt length, and the memory before them."""
    tests = [
        LengthSamples(prompt_tokens=length, samples=[run.samples[str(length)] for run in runs])
        for length in lengths
    ]
    return ArtifactSamples(
        artifact=name,
        size_mb=size_mb(file),
        runtime=runs[0].runtime,
        threads=runs[0].threads,
        load_s=[run.load_s for run in runs],
        tokenize_us_per_token=[run.tokenize_us_per_token for run in runs],
        tests=tests,
        memory_mb=median_memory([run.memory_mb for run in runs]),
    )
