"""A process's memory as it matters on phones: what the system cannot take back, and what it can.

Fields are the kernel's (https://docs.kernel.org/filesystems/proc.html, smaps_rollup and status).
"""

from __future__ import annotations

import contextlib
from pathlib import Path


def memory_mb() -> dict[str, float]:
    """This process's memory in MB (10^6 bytes).

    `anonymous`: private and dirty or swapped, the footprint that cannot be reclaimed; `file_backed`: resident pages
    of files, the mapped weights among them; `pss`: proportional set size; `peak_rss`: highest resident size so
    far or since `reset_peak`, file pages included. Empty where there is no /proc.
    """
    try:
        rollup = _kilobytes("/proc/self/smaps_rollup")
        status = _kilobytes("/proc/self/status")
    except OSError:
        return {}
    return {
        "anonymous": _mb(rollup["Anonymous"] + rollup.get("SwapPss", 0)),
        "file_backed": _mb(status["RssFile"]),
        "pss": _mb(rollup["Pss"]),
        "peak_rss": _mb(status["VmHWM"]),
    }


def minor_major_faults() -> tuple[int, int]:
    """Page faults of this process so far: minor ones, and major ones, which waited for the disk."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt, usage.ru_majflt


def reset_peak() -> None:
    """Let `peak_rss` begin anew from now (proc(5), clear_refs); nothing where that cannot be done."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _kilobytes(file: str) -> dict[str, int]:
    values = {}
    for line in Path(file).read_text().splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[2] == "kB":
            values[parts[0].rstrip(":")] = int(parts[1])
    return values


def _mb(kilobytes: int) -> float:
    return round(kilobytes * 1024 / 1e6, 1)
