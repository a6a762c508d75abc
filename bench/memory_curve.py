"""How fast an artifact still is in little memory: the worker in a control group whose limit gets smaller.

Under a limit the kernel first drops pages of the model's file, which then come from the disk again for
every token: that is how a phone thrashes. cgroup v2's memory.high slows a group down, as Android's limiter
does; cgroup v1 has only the hard limit. The page cache is dropped first: pages that are cached already
would not count.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from empathy_edge.bench.result_file import FORMAT, MEASURED_HOST, BenchResult, Record
from empathy_edge.bench.run_worker import run_worker
from empathy_edge.bench.worker_records import GridRun, GridSample, GridSettings
from empathy_edge.console import out as stdout
from empathy_edge.console import progress, say, table
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.models.find import find_model
from empathy_edge.runtimes import default_threads
from empathy_edge.system.machine import machine, versions

KEPT = 0.9
"""The figure that matters is the smallest limit that keeps this share of the speed without a limit."""
SHARES = (1.3, 1.1, 1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
"""The limits, as shares of the peak memory without a limit."""
TOO_SLOW = 0.05
"""Below this share of the speed without a limit no smaller limit is tried; a run that takes longer than such
a one is ended, and counts as one that did not run."""
REPETITIONS = 3

_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
_NAME = "empathy-edge-bench"


@dataclass(frozen=True)
class MemorySettings(GridSettings):
    """The worker's settings, and the version of the control group (1 or 2)."""

    cgroup: int


class Point(Record):
    """The repetitions at one limit.

    Attributes:
        limit_mb: MB (10^6 bytes); None without a limit.
        ran: whether the model could be run, in time; if not, there is nothing else.
        load_s: to open the model, median.
        prefill_tps: prompt tokens per second, median.
        decode_tps: new tokens per second, the best: a busy machine only slows down.
        decode_tps_samples: every repetition.
        major_faults: page faults that waited for the disk, median.
        anonymous_mb: memory that cannot be reclaimed, median.
        file_backed_mb: resident pages of files, median.
    """

    limit_mb: float | None
    ran: bool
    load_s: float | None = None
    prefill_tps: float | None = None
    decode_tps: float | None = None
    decode_tps_samples: list[float] | None = None
    major_faults: int | float | None = None
    anonymous_mb: float | None = None
    file_backed_mb: float | None = None

    def keeps(self, share: float, free: Point) -> bool:
        """Whether the model ran at no less than a share of the decode speed without a limit."""
        return self.decode_tps is not None and self.decode_tps >= share * (free.decode_tps or 0)


class MemoryResult(BenchResult[MemorySettings]):
    """The curve.

    Attributes:
        artifact: the name of its file or folder.
        peak_rss_mb: the highest resident memory without a limit, while it was loaded or later.
        points: without a limit, then under smaller and smaller ones.
        smallest_limit_that_keeps_90_percent_mb: of the decode speed; None if no limit does.
    """

    suite: Literal["memory"]
    artifact: str
    peak_rss_mb: float
    points: list[Point]
    smallest_limit_that_keeps_90_percent_mb: float | None


class ControlGroup:
    """A control group of our own, made for this run and removed after it.

    Attributes:
        version: of Linux's control groups, 1 or 2.
        folder: the group's folder below /sys/fs/cgroup.

    Raises:
        EmpathyEdgeError: there are none on this system, or we may not make one.
    """

    def __init__(self) -> None:
        if (_V1 / "memory.limit_in_bytes").is_file():
            self.version, parent, self._limit_file = 1, _V1, "memory.limit_in_bytes"
        elif "memory" in _words(_V2 / "cgroup.controllers"):
            self.version, parent, self._limit_file = 2, _V2, "memory.high"
            if "memory" not in _words(_V2 / "cgroup.subtree_control"):
                raise EmpathyEdgeError(
                    f"{_V2}: its groups have no memory limit. Allow one, as root: "
                    f"echo +memory > {_V2}/cgroup.subtree_control"
                )
        else:
            raise EmpathyEdgeError(
                "No memory control groups on this system; the curve cannot be measured here."
            )
        self.folder = parent / f"{_NAME}-{os.getpid()}"
        try:
            self.folder.mkdir()
        except OSError as error:
            raise EmpathyEdgeError(
                f"{self.folder}: cannot be made ({error.strerror}). Only root may make control groups there "
                "(sudo), and in a container only where they can be written. Nothing was measured."
            ) from None

    def limit(self, megabytes: float | None) -> None:
        """Set the limit, MB (10^6 bytes); None removes it."""
        unlimited = "-1" if self.version == 1 else "max"
        text = unlimited if megabytes is None else str(int(megabytes * 1e6))
        (self.folder / self._limit_file).write_text(text, encoding="ascii")

    def prefix(self) -> tuple[str, ...]:
        """A program that starts another one inside of the group."""
        shell = shutil.which("sh") or "/bin/sh"
        return (shell, "-c", f'echo $$ > "{self.folder}/cgroup.procs" && exec "$@"', "sh")

    def close(self) -> None:
        """Remove the group."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def _words(file: Path) -> list[str]:
    """The words of a file of /sys; none where there is no such file."""
    return file.read_text(encoding="ascii").split() if file.is_file() else []


def memory_curve(
    artifact: str, *, threads: int | None, prompt_tokens: int, decode_tokens: int
) -> MemoryResult:
    """Speed without a limit, and under smaller and smaller ones, until it thrashes or does not run."""
    file = find_model(artifact).path
    grid = GridSettings(
        threads=threads or default_threads(),
        prompt_tokens=[prompt_tokens],
        decode_tokens=decode_tokens,
        context=prompt_tokens + decode_tokens + 64,
        cold=True,
    )
    group = ControlGroup()
    try:
        peak_rss_mb, points = _measure_points(artifact, grid, group)
    finally:
        group.close()
    return MemoryResult(
        format=FORMAT,
        label=MEASURED_HOST,
        suite="memory",
        settings=MemorySettings(**asdict(grid), cgroup=group.version),
        machine=machine(),
        versions=versions(),
        artifact=file.name,
        peak_rss_mb=peak_rss_mb,
        points=points,
        smallest_limit_that_keeps_90_percent_mb=_smallest_limit(points),
    )


def _measure_points(artifact: str, grid: GridSettings, group: ControlGroup) -> tuple[float, list[Point]]:
    """The peak memory without a limit in MB, and all points."""
    with progress() as bar:
        task = bar.add_task("memory", total=len(SHARES) + 1, note="without a limit")
        start = time.monotonic()
        runs = _repeat(artifact, grid, group)
        timeout_s = (time.monotonic() - start) / REPETITIONS / TOO_SLOW
        peak_rss_mb = _peak_mb(runs)
        free = _point(None, runs)
        points = [free]
        bar.advance(task)
        for share in SHARES:
            limit_mb = round(share * peak_rss_mb, 1)
            bar.update(task, note=f"{limit_mb:.0f} MB")
            group.limit(limit_mb)
            try:
                points.append(_point(limit_mb, _repeat(artifact, grid, group, timeout_s)))
            except EmpathyEdgeError:
                points.append(Point(limit_mb=limit_mb, ran=False))
            bar.advance(task)
            group.limit(None)
            if not points[-1].keeps(TOO_SLOW, free):
                break
    return peak_rss_mb, points


def _repeat(
    artifact: str, grid: GridSettings, group: ControlGroup, timeout_s: float | None = None
) -> list[GridRun]:
    return [run_worker(artifact, grid, GridRun, group.prefix(), timeout_s) for _ in range(REPETITIONS)]


def _peak_mb(runs: list[GridRun]) -> float:
    """The highest resident memory of all runs at any time: some formats need the most while they load."""
    peaks = []
    for run in runs:
        phases = [*run.memory_mb.values(), *_only_sample(run).memory_mb.values()]
        peaks += [figures["peak_rss"] for figures in phases]
    return max(peaks)


def _only_sample(run: GridRun) -> GridSample:
    """There is one prompt length."""
    return next(iter(run.samples.values()))


def _point(limit_mb: float | None, runs: list[GridRun]) -> Point:
    samples = [_only_sample(run) for run in runs]
    memory = [sample.memory_mb["after_decode"] for sample in samples]
    return Point(
        limit_mb=limit_mb,
        ran=True,
        load_s=median(run.load_s for run in runs),
        prefill_tps=median(sample.prefill_tps for sample in samples),
        decode_tps=max(sample.decode_tps for sample in samples),
        decode_tps_samples=[sample.decode_tps for sample in samples],
        major_faults=median(sample.major_faults for sample in samples),
        anonymous_mb=median(item["anonymous"] for item in memory),
        file_backed_mb=median(item["file_backed"] for item in memory),
    )


def _smallest_limit(points: list[Point]) -> float | None:
    """The smallest limit before the first that is too slow; a smaller one that is fast again was luck."""
    smallest = None
    for point in points[1:]:
        if not point.keeps(KEPT, points[0]):
            break
        smallest = point.limit_mb
    return smallest


def show(result: MemoryResult) -> None:
    """The curve as a table."""
    title = (
        f"{result.artifact} in little memory (measured-host, cgroup v{result.settings.cgroup}, "
        f"best decode of {REPETITIONS})"
    )
    columns = ["limit MB", "decode tok/s", "of free", "prefill tok/s", "major faults", "anon+file MB"]
    free = result.points[0]
    stdout.print(table(title, columns, [_point_cells(point, free) for point in result.points]))
    smallest = result.smallest_limit_that_keeps_90_percent_mb
    found = f"{smallest:.0f} MB." if smallest else "none of those tried."
    say(f"Smallest limit that keeps {KEPT:.0%} of the decode speed: {found}")


def _point_cells(point: Point, free: Point) -> list[str]:
    limit = "none" if point.limit_mb is None else f"{point.limit_mb:.0f}"
    if not point.ran or point.decode_tps is None or free.decode_tps is None:
        return [limit, "did not run", "", "", "", ""]
    return [
        limit,
        f"{point.decode_tps:.1f}",
        f"{point.decode_tps / free.decode_tps:.2f}",
        f"{point.prefill_tps:.0f}",
        f"{point.major_faults}",
        f"{point.anonymous_mb:.0f}+{point.file_backed_mb:.0f}",
    ]
