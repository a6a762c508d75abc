"""One artifact's samples at one prompt length as medians, intervals and percentiles, and tables of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Protocol

from rich.markup import escape

from empathy_edge.bench.result_file import MEASURED_HOST, ArtifactSamples, Record, StandardResult
from empathy_edge.bench.timing_intervals import Interval, median_interval, percentile
from empathy_edge.bench.worker_records import GridSample, MemoryByPhase
from empathy_edge.console import out as stdout
from empathy_edge.console import say, table

if TYPE_CHECKING:
    from rich.table import Table

UNSTABLE = 0.10
"""A median is not stable when its interval reaches farther than this share of it to either side."""


class LatencySummary(Record):
    """What one artifact's samples at one prompt length tell.

    Attributes:
        artifact: the name of its file or folder.
        label: where the figures come from.
        size_mb: of the model's files, MB (10^6 bytes).
        threads: of the CPU.
        prompt_tokens: read before each response; decode is measured at this depth.
        repetitions: how many samples there are.
        load_s: to open the model, median.
        ttft_s_median: time to first token.
        ttft_s_p95: its 95th percentile.
        prefill_tps_median: prompt tokens per second.
        prefill_tps_interval: of the median.
        decode_tps_median: new tokens per second.
        decode_tps_interval: of the median.
        interval_coverage: the chance that an interval holds the true median.
        decode_tps_min: the slowest sample.
        decode_cv: the standard deviation over the mean.
        prefill_cv: the standard deviation over the mean.
        token_gap_ms_p50: between two tokens, milliseconds, 50th percentile.
        token_gap_ms_p95: 95th percentile.
        token_gap_ms_p99: 99th percentile.
        outside_the_model: share of a reply's time that is not spent in the model; None where it is not known.
        tokenize_us_per_token: median, microseconds.
        major_faults: page faults that waited for the disk, of all samples.
        memory_mb: at each phase, with this prompt length.
        stable: both medians are known to 10 %.
        own_prefill_tps: the median by the runtime's own clock; None where it has none.
        own_decode_tps: the median by the runtime's own clock.
    """

    artifact: str
    label: Literal["measured-host"]
    size_mb: float
    threads: int
    prompt_tokens: int
    repetitions: int
    load_s: float
    ttft_s_median: float
    ttft_s_p95: float
    prefill_tps_median: float
    prefill_tps_interval: tuple[float, float]
    decode_tps_median: float
    decode_tps_interval: tuple[float, float]
    interval_coverage: float
    decode_tps_min: float
    decode_cv: float
    prefill_cv: float
    token_gap_ms_p50: float
    token_gap_ms_p95: float
    token_gap_ms_p99: float
    outside_the_model: float | None
    tokenize_us_per_token: float
    major_faults: int
    memory_mb: MemoryByPhase
    stable: bool
    own_prefill_tps: float | None = None
    own_decode_tps: float | None = None


def summary(row: ArtifactSamples, test: int = 0) -> LatencySummary:
    """Medians with intervals and percentiles of one artifact's samples at one prompt length."""
    samples = row.tests[test].samples
    decode = [sample.decode_tps for sample in samples]
    prefill = [sample.prefill_tps for sample in samples]
    first_token = [sample.ttft_s for sample in samples]
    gaps_s = _token_gaps_s(samples)
    decode_median, prefill_median = median_interval(decode), median_interval(prefill)
    return LatencySummary(
        artifact=row.artifact,
        label=MEASURED_HOST,
        size_mb=row.size_mb,
        threads=row.threads,
        prompt_tokens=row.tests[test].prompt_tokens,
        repetitions=len(samples),
        load_s=round(statistics.median(row.load_s), 3),
        ttft_s_median=round(statistics.median(first_token), 4),
        ttft_s_p95=round(percentile(first_token, 95), 4),
        prefill_tps_median=round(prefill_median.value, 1),
        prefill_tps_interval=(round(prefill_median.low, 1), round(prefill_median.high, 1)),
        decode_tps_median=round(decode_median.value, 1),
        decode_tps_interval=(round(decode_median.low, 1), round(decode_median.high, 1)),
        interval_coverage=round(decode_median.coverage, 3),
        decode_tps_min=round(min(decode), 1),
        decode_cv=round(_coefficient_of_variation(decode), 4),
        prefill_cv=round(_coefficient_of_variation(prefill), 4),
        token_gap_ms_p50=round(1000 * percentile(gaps_s, 50), 2),
        token_gap_ms_p95=round(1000 * percentile(gaps_s, 95), 2),
        token_gap_ms_p99=round(1000 * percentile(gaps_s, 99), 2),
        outside_the_model=_outside_the_model(samples),
        tokenize_us_per_token=round(statistics.median(row.tokenize_us_per_token), 2),
        major_faults=sum(sample.major_faults for sample in samples),
        memory_mb=row.memory_at(row.tests[test]),
        stable=max(wider_side(decode_median), wider_side(prefill_median)) <= UNSTABLE,
        own_prefill_tps=_median_of_known([sample.own_prefill_tps for sample in samples]),
        own_decode_tps=_median_of_known([sample.own_decode_tps for sample in samples]),
    )


def summaries(result: StandardResult) -> list[LatencySummary]:
    """Every artifact at every prompt length."""
    found = []
    for row in result.artifacts:
        found += [summary(row, test) for test in range(len(row.tests))]
    return found


def _token_gaps_s(samples: list[GridSample]) -> list[float]:
    """The seconds between one token and the next, of all samples."""
    gaps = []
    for sample in samples:
        gaps += [later - earlier for earlier, later in pairwise(sample.token_times_s)]
    return gaps


def wider_side(interval: Interval) -> float:
    """How far an interval reaches to the side where it is wider, as a share of the figure."""
    return max(interval.high - interval.value, interval.value - interval.low) / interval.value


def _outside_the_model(samples: list[GridSample]) -> float | None:
    """The share of a reply's time in sampling and our own loop; None where it is not known."""
    shares = [
        1 - sample.forward_s / sample.token_times_s[-1] for sample in samples if sample.forward_s is not None
    ]
    return round(max(0.0, statistics.median(shares)), 4) if shares else None


def _median_of_known(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 1) if known else None


def _coefficient_of_variation(values: list[float]) -> float:
    return statistics.stdev(values) / statistics.mean(values) if len(values) > 1 else 0.0


class _ShownSettings(Protocol):
    """The settings that a table's title tells."""

    @property
    def threads(self) -> int | None: ...
    @property
    def decode_tokens(self) -> int: ...
    @property
    def repetitions(self) -> int: ...


def show(rows: Sequence[LatencySummary], settings: _ShownSettings) -> None:
    """Print the summaries as a table, and say what is not to be trusted."""
    stdout.print(_as_table(rows, settings))
    for row in rows:
        if row.own_prefill_tps is not None and row.own_decode_tps is not None:
            say(
                f"  {row.artifact}: by its runtime's own clock prefill {row.own_prefill_tps:.0f} and decode "
                f"{row.own_decode_tps:.1f} tok/s."
            )
    unstable = unstable_figures(rows)
    if unstable:
        say(
            f"[yellow]Not stable, the interval is wider than {UNSTABLE:.0%} on either side: "
            f"{escape('; '.join(unstable))}. Close what else runs, or measure with --until-stable.[/]"
        )


def unstable_figures(rows: Sequence[LatencySummary]) -> list[str]:
    """The figures that are not known to 10 %, with their intervals (tokens per second).

    Such as: gguf-q8_0, prefill 812 [640, 900].
    """
    has_lengths = len({row.prompt_tokens for row in rows}) > 1
    found = []
    for row in rows:
        if row.stable:
            continue
        speeds = {
            "prefill": Interval(row.prefill_tps_median, *row.prefill_tps_interval, row.interval_coverage),
            "decode": Interval(row.decode_tps_median, *row.decode_tps_interval, row.interval_coverage),
        }
        widest = max(speeds, key=lambda name: wider_side(speeds[name]))
        name = row.artifact + (f" @{row.prompt_tokens}" if has_lengths else "")
        for what, speed in speeds.items():
            if what == widest or wider_side(speed) > UNSTABLE:  # the widest, where rounding made it 10 %
                found.append(f"{name}, {what} {speed.value:.0f} [{speed.low:.0f}, {speed.high:.0f}] tok/s")
    return found


def _as_table(rows: Sequence[LatencySummary], settings: _ShownSettings) -> Table:
    lengths = sorted({row.prompt_tokens for row in rows})
    prompts = ", ".join(str(length) for length in lengths)
    title = (
        f"Latency and memory (measured-host, {settings.threads} threads, prompt {prompts}, "
        f"{settings.decode_tokens} new tokens, {settings.repetitions} rounds)"
    )
    columns = ["artifact", "MB", "load s", "TTFT s (p95)", "prefill tok/s", "decode tok/s", "gap p95 ms"]
    columns += ["anon+file MB", "peak MB"]
    return table(title, columns, [_table_row(row, with_length=len(lengths) > 1) for row in rows])


def _table_row(row: LatencySummary, *, with_length: bool) -> list[str]:
    name, size, load, first_token, prefill, decode = speed_cells(row)
    if with_length:
        name += f" @{row.prompt_tokens}"
    low, high = row.decode_tps_interval
    decode += f" [{low:.0f}, {high:.0f}]"
    cells = [name, size, load, first_token, prefill, decode, f"{row.token_gap_ms_p95:.1f}"]
    memory = row.memory_mb.get("after_decode")
    if not memory:
        return [*cells, "–", "–"]
    return [*cells, f"{memory['anonymous']:.0f}+{memory['file_backed']:.0f}", f"{memory['peak_rss']:.0f}"]


def speed_cells(row: LatencySummary) -> list[str]:
    """Artifact, MB, load time, time to first token, prefill and decode speed, as text for a table."""
    return [
        row.artifact,
        f"{row.size_mb:.0f}",
        f"{row.load_s:.2f}",
        f"{row.ttft_s_median:.3f} ({row.ttft_s_p95:.3f})",
        f"{row.prefill_tps_median:.0f}",
        f"{row.decode_tps_median:.1f}",
    ]
