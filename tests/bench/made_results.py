"""Results of `bench` as it writes them, with figures that a test needs."""

from __future__ import annotations

from empathy_edge.bench.conditions import conditions
from empathy_edge.bench.result_file import (
    FORMAT,
    MEASURED_HOST,
    ArtifactSamples,
    ConditionsAround,
    LengthSamples,
    StandardResult,
    StandardSettings,
)
from empathy_edge.bench.worker_records import GridRun, GridSample, MemoryByPhase


def memory_of(peak_mb: float) -> dict[str, float]:
    """What `memory_mb` gives."""
    return {"anonymous": peak_mb / 2, "file_backed": peak_mb / 2, "pss": peak_mb, "peak_rss": peak_mb}


def sample(memory_mb: MemoryByPhase | None = None) -> GridSample:
    """One prompt and two new tokens."""
    return GridSample(
        ttft_s=0.1,
        prefill_tps=160.0,
        decode_tps=10.0,
        token_times_s=[0.1, 0.2],
        forward_s=None,
        major_faults=0,
        minor_faults=0,
        memory_mb=memory_mb or {},
    )


def grid_run(length: int, *, loaded_mb: float, decoded_mb: float) -> GridRun:
    """One process with one prompt length, and its highest memory while it loaded and while it decoded."""
    after = {"after_prefill": memory_of(decoded_mb), "after_decode": memory_of(decoded_mb)}
    return GridRun(
        runtime="R",
        threads=1,
        load_s=0.1,
        cold=True,
        memory_mb={"baseline": memory_of(50), "loaded": memory_of(loaded_mb)},
        samples={str(length): sample(after)},
        tokenize_us_per_token=1.0,
    )


def artifact(
    name: str, decoded_mb: dict[int, float], memory_mb: MemoryByPhase | None = None
) -> ArtifactSamples:
    """An artifact whose memory after decode is told for each prompt length; 0: the file does not tell."""
    tests = []
    for length, peak_mb in decoded_mb.items():
        after = {"after_decode": memory_of(peak_mb)} if peak_mb else None
        tests.append(LengthSamples(prompt_tokens=length, samples=[sample(after)]))
    return ArtifactSamples(
        artifact=name,
        size_mb=1.0,
        runtime="R",
        threads=1,
        load_s=[0.1],
        tokenize_us_per_token=[1.0],
        tests=tests,
        memory_mb=memory_mb or {"baseline": memory_of(50), "loaded": memory_of(80)},
    )


def result(*artifacts: ArtifactSamples) -> StandardResult:
    """All of them in one result."""
    now = conditions(0.01)
    return StandardResult(
        format=FORMAT,
        label=MEASURED_HOST,
        suite="standard",
        settings=StandardSettings(threads=1, prompt_tokens=[16], decode_tokens=8, context=88, repetitions=1),
        machine={"cpu": "a CPU"},
        versions={},
        conditions=ConditionsAround(before=now, after=now),
        artifacts=list(artifacts),
    )
