"""How fast an artifact still is in little memory: the worker in a control group whose limit gets smaller.

Under a limit the kernel first gives up pages of the model's file, which then come from the disk again for every token:
that is how a phone thrashes. cgroup v2's memory.high slows a group down as Android's limiter does; cgroup v1 has only
the hard limit. The page cache is dropped first, or pages that are cached already would not count.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from statistics import median
from typing import Any

from empathy_edge.bench.latency import FORMAT, measure
from empathy_edge.console import out as stdout
from empathy_edge.console import progress, say, table
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.models.find import find_model
from empathy_edge.runtimes import default_threads
from empathy_edge.system.machine import machine, versions

KEPT = 0.9
"""The smallest limit that keeps this share of the free speed is the figure that matters."""
SHARES = (1.3, 1.1, 1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
TOO_SLOW = 0.05
REPETITIONS = 3

_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
_NAME = "empathy-edge-bench"


class Group:
    """A control group of our own, made for this run and removed after it."""

    def __init__(self) -> None:
        if (_V1 / "memory.limit_in_bytes").is_file():
            self.version, self.folder, self._limit = (
                1,
                _V1 / f"{_NAME}-{os.getpid()}",
                "memory.limit_in_bytes",
            )
        elif (_V2 / "cgroup.controllers").is_file() and "memory" in (_V2 / "cgroup.controllers").read_text(
            encoding="ascii"
        ).split():
            self.version, self.folder, self._limit = 2, _V2 / f"{_NAME}-{os.getpid()}", "memory.high"
        else:
            raise EmpathyEdgeError(
                "No memory control groups on this system; the curve cannot be measured here."
            )
        try:
            self.folder.mkdir()
        except OSError as error:
            raise EmpathyEdgeError(
                f"{self.folder}: cannot be made ({error.strerror}): the curve needs the right to make control groups "
                "(root, or a delegated group). Skipped; nothing was measured."
            ) from None

    def limit(self, megabytes: float | None) -> None:
        """Set the limit, MB; None takes it away."""
        word = "-1" if self.version == 1 else "max"
        (self.folder / self._limit).write_text(
            word if megabytes is None else str(int(megabytes * 1e6)), encoding="ascii"
        )

    def prefix(self) -> tuple[str, ...]:
        """Starts a program inside of the group."""
        shell = shutil.which("sh") or "/bin/sh"
        return (shell, "-c", f'echo $$ > "{self.folder}/cgroup.procs" && exec "$@"', "sh")

    def close(self) -> None:
        """Remove the group."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def memory_curve(
    artifact: str, *, threads: int | None, prompt_tokens: int, decode_tokens: int
) -> dict[str, Any]:
    """Speed without a limit, and under ever smaller ones, until it thrashes or does not run."""
    ref = find_model(artifact)
    options = {
        "suite": "grid",
        "threads": threads or default_threads(),
        "prompt_tokens": [prompt_tokens],
        "decode_tokens": decode_tokens,
        "context": prompt_tokens + decode_tokens + 64,
        "cold": True,
    }
    group = Group()
    points: list[dict[str, Any]] = []
    try:
        with progress() as bar:
            task = bar.add_task("memory", total=len(SHARES) + 1, note="without a limit")
            free = [measure(artifact, options, group.prefix()) for _ in range(REPETITIONS)]
            need = free[0]["memory_mb"]["after_decode"]["peak_rss"]
            points.append(_point(None, free))
            bar.advance(task)
            for share in SHARES:
                limit = round(share * need, 1)
                bar.update(task, note=f"{limit:.0f} MB")
                group.limit(limit)
                try:
                    runs = [measure(artifact, options, group.prefix()) for _ in range(REPETITIONS)]
                    points.append(_point(limit, runs))
                except EmpathyEdgeError:
                    points.append({"limit_mb": limit, "ran": False})
                bar.advance(task)
                group.limit(None)
                if not points[-1]["ran"] or points[-1]["decode_tps"] < TOO_SLOW * points[0]["decode_tps"]:
                    break
    finally:
        group.close()
    smallest = None
    for point in points[1:]:  # a smaller limit that happens to be fast again is nothing to build on
        if not point["ran"] or point["decode_tps"] < KEPT * points[0]["decode_tps"]:
            break
        smallest = point["limit_mb"]
    return {
        "format": FORMAT,
        "label": "measured-host",
        "suite": "memory",
        "settings": {**options, "cgroup": group.version},
        "machine": machine(),
        "versions": versions(),
        "artifact": ref.path.name,
        "peak_rss_mb": need,
        "points": points,
        "smallest_limit_that_keeps_90_percent_mb": smallest,
    }


def _point(limit: float | None, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The repetitions at one limit: the best decode speed, since a busy host only slows down, and every one; medians else."""
    samples = [next(iter(run["samples"].values())) for run in runs]
    memory = [run["memory_mb"]["after_decode"] for run in runs]
    return {
        "limit_mb": limit,
        "ran": True,
        "load_s": median(run["load_s"] for run in runs),
        "prefill_tps": median(sample["prefill_tps"] for sample in samples),
        "decode_tps": max(sample["decode_tps"] for sample in samples),
        "decode_tps_samples": [sample["decode_tps"] for sample in samples],
        "major_faults": median(sample["major_faults"] for sample in samples),
        "anonymous_mb": median(item["anonymous"] for item in memory),
        "file_backed_mb": median(item["file_backed"] for item in memory),
    }


def show(result: dict[str, Any]) -> None:
    """The curve as a table."""
    free = result["points"][0]["decode_tps"]
    rows = []
    for point in result["points"]:
        limit = "none" if point["limit_mb"] is None else f"{point['limit_mb']:.0f}"
        if not point["ran"]:
            rows.append([limit, "did not run", "", "", "", ""])
            continue
        rows.append(
            [
                limit,
                f"{point['decode_tps']:.1f}",
                f"{point['decode_tps'] / free:.2f}",
                f"{point['prefill_tps']:.0f}",
                f"{point['major_faults']}",
                f"{point['anonymous_mb']:.0f}+{point['file_backed_mb']:.0f}",
            ]
        )
    title = f"{result['artifact']} in little memory (measured-host, cgroup v{result['settings']['cgroup']}, best decode of {REPETITIONS})"
    stdout.print(
        table(
            title,
            ["limit MB", "decode tok/s", "of free", "prefill tok/s", "major faults", "anon+file MB"],
            rows,
        )
    )
    smallest = result["smallest_limit_that_keeps_90_percent_mb"]
    say(
        f"Smallest limit that keeps {KEPT:.0%} of the decode speed: "
        + (f"{smallest:.0f} MB." if smallest else "none of those tried.")
    )
