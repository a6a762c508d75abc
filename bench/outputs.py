"""A result in other people's layouts: llama-bench's JSONL, and Markdown."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass

from empathy_edge.bench.latency_summary import LatencySummary, summaries
from empathy_edge.bench.result_file import ArtifactSamples, StandardResult


@dataclass(frozen=True, kw_only=True)
class LlamaBenchRow:
    """A row of `llama-bench -o jsonl` (llama.cpp, tools/llama-bench). `_ns`: nanoseconds, `_ts`: tokens/s."""

    model_filename: str
    model_type: str
    model_size: int
    backends: str
    cpu_info: str
    n_threads: int
    n_prompt: int
    n_gen: int
    n_depth: int
    avg_ns: int
    stddev_ns: int
    avg_ts: float
    stddev_ts: float
    samples_ns: list[int]
    samples_ts: list[float]


def llama_bench_jsonl(result: StandardResult) -> str:
    """The rows that `llama-bench -o jsonl` would print: prefill, and decode at a depth, of each artifact."""
    cpu = str(result.machine["cpu"])
    rows = []
    for row in result.artifacts:
        for test in row.tests:
            length, new = test.prompt_tokens, result.settings.decode_tokens
            prefill_s = [sample.ttft_s for sample in test.samples]
            decode_s = [sample.token_times_s[-1] - sample.token_times_s[0] for sample in test.samples]
            rows.append(_llama_bench_row(row, cpu, (length, 0, 0), length, prefill_s))
            # The first new token belongs to the prefill.
            rows.append(_llama_bench_row(row, cpu, (0, new, length), new - 1, decode_s))
    return "".join(json.dumps(asdict(row)) + "\n" for row in rows)


def _llama_bench_row(
    row: ArtifactSamples, cpu: str, test: tuple[int, int, int], tokens: int, seconds: list[float]
) -> LlamaBenchRow:
    """One test as llama-bench tells it.

    Args:
        row: the artifact.
        cpu: its name.
        test: `n_prompt`, `n_gen` and `n_depth`.
        tokens: that were timed.
        seconds: of each repetition.
    """
    speeds = [tokens / value for value in seconds]
    several = len(seconds) > 1
    n_prompt, n_gen, n_depth = test
    return LlamaBenchRow(
        model_filename=row.artifact,
        model_type=row.runtime,
        model_size=int(row.size_mb * 1e6),
        backends="CPU",
        cpu_info=cpu,
        n_threads=row.threads,
        n_prompt=n_prompt,
        n_gen=n_gen,
        n_depth=n_depth,
        avg_ns=round(1e9 * statistics.mean(seconds)),
        stddev_ns=round(1e9 * statistics.stdev(seconds)) if several else 0,
        avg_ts=statistics.mean(speeds),
        stddev_ts=statistics.stdev(speeds) if several else 0.0,
        samples_ns=[round(1e9 * value) for value in seconds],
        samples_ts=speeds,
    )


def markdown(result: StandardResult) -> str:
    """The summaries as a Markdown table, with the machine and the settings above it."""
    settings = result.settings
    columns = ["artifact", "MB", "prompt", "load s", "first token s", "prefill tok/s", "decode tok/s"]
    columns += ["gap p50 / p95 / p99 ms", "anonymous + file-backed MB", "peak MB"]
    lines = [
        f"measured-host: {result.machine['cpu']}, {settings.threads} threads, "
        f"{settings.decode_tokens} new tokens, {settings.repetitions} rounds in shuffled order, each in a "
        "process of its own; median with its interval; "
        f"{result.conditions.before.background_busy:.0%} of the cores busy before.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
    ]
    lines += ["| " + " | ".join(_markdown_cells(row)) + " |" for row in summaries(result)]
    return "\n".join(lines) + "\n"


def _markdown_cells(row: LatencySummary) -> list[str]:
    memory = row.memory_mb.get("after_decode")
    prefill_low, prefill_high = row.prefill_tps_interval
    decode_low, decode_high = row.decode_tps_interval
    return [
        row.artifact,
        f"{row.size_mb:.0f}",
        str(row.prompt_tokens),
        f"{row.load_s:.2f}",
        f"{row.ttft_s_median:.3f}",
        f"{row.prefill_tps_median:.0f} [{prefill_low:.0f}, {prefill_high:.0f}]",
        f"{row.decode_tps_median:.1f} [{decode_low:.1f}, {decode_high:.1f}]",
        f"{row.token_gap_ms_p50:.1f} / {row.token_gap_ms_p95:.1f} / {row.token_gap_ms_p99:.1f}",
        f"{memory['anonymous']:.0f} + {memory['file_backed']:.0f}" if memory else "–",
        f"{memory['peak_rss']:.0f}" if memory else "–",
    ]
