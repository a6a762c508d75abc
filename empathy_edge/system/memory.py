"""A process's memory as phones count it: what the system cannot reclaim, and what it can.

Linux reports it exactly (smaps_rollup and status in https://docs.kernel.org/filesystems/proc.html); elsewhere
psutil's nearest figures are taken.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import threading
from pathlib import Path
from typing import Self

import psutil

PROC = Path("/proc/self")


def memory_mb() -> dict[str, float]:
    """This process's memory in MB (10^6 bytes).

    Returns:
        `anonymous`: what cannot be reclaimed: private dirty pages, swapped ones included; on macOS and
        Windows the unique set size.
        `file_backed`: resident pages of files, such as mapped weights; on macOS and Windows the rest of the
        resident set.
        `pss`: proportional set size; Linux only.
        `peak_rss`: the highest resident set size so far, file pages included; on Linux since `reset_peak`.
    """
    try:
        rollup = _kilobytes(PROC / "smaps_rollup")
        status = _kilobytes(PROC / "status")
    except OSError:
        return _from_psutil()
    return {
        "anonymous": _mb(1024 * (rollup["Anonymous"] + rollup.get("SwapPss", 0))),
        "file_backed": _mb(1024 * status["RssFile"]),
        "pss": _mb(1024 * rollup["Pss"]),
        "peak_rss": _mb(1024 * status["VmHWM"]),
    }


class PeakMemory:
    """Samples the resident memory of this process and its children while the block runs.

    Pages that several processes share are counted for each of them.

    Attributes:
        peak_mb: the highest sum seen, in MB (10^6 bytes); complete once the block has ended.
    """

    def __init__(self, interval_s: float = 1.0) -> None:
        self._interval, self._ended = interval_s, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak_mb = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        process = psutil.Process()
        while True:
            total = 0
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += one.memory_info().rss
            self.peak_mb = max(self.peak_mb, _mb(total))
            if self._ended.wait(self._interval):
                return


def _from_psutil() -> dict[str, float]:
    found = psutil.Process().memory_full_info()
    unique = getattr(found, "uss", found.rss)
    return {
        "anonymous": _mb(unique),
        "file_backed": _mb(max(0, found.rss - unique)),
        "peak_rss": _mb(getattr(found, "peak_wset", 0) or _highest_rss() or found.rss),
    }


def _highest_rss() -> int:
    """The highest resident set size so far, in bytes; 0 on Windows, which has no `resource`."""
    try:
        import resource
    except ImportError:
        return 0
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else 1024 * highest


def release_freed_memory() -> None:
    """Return freed memory to the system; `keep_freed_memory` makes glibc keep it."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def minor_major_faults() -> tuple[int, int]:
    """Page faults of this process so far: minor ones, and major ones, which waited for the disk.

    Windows counts both together; they are returned as minor ones.
    """
    try:
        import resource
    except ImportError:
        return getattr(psutil.Process().memory_info(), "num_page_faults", 0), 0
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt, usage.ru_majflt


def reset_peak() -> None:
    """Reset `peak_rss` (proc(5), clear_refs); does nothing where the system cannot."""
    with contextlib.suppress(OSError):
        (PROC / "clear_refs").write_text("5", encoding="ascii")


def _kilobytes(file: Path) -> dict[str, int]:
    """The lines `NAME: NUMBER kB` of a file of /proc."""
    values = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[2] == "kB":
            values[parts[0].rstrip(":")] = int(parts[1])
    return values


def _mb(size: float) -> float:
    return round(size / 1e6, 1)


def keep_freed_memory() -> None:
    """Make glibc keep what torch frees: to allocate it again costs a third of a training step on a CPU."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
        libc.mallopt(m_mmap_threshold, 32 * 2**20)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_top_pad, 64 * 2**20)


def return_freed_memory() -> None:
    """Make glibc return large blocks to the system as they are freed.

    It keeps blocks of up to 32 MB for itself once such a one was freed. Small blocks that are put into them
    and stay leave no room for the next large one, and memory grows though nothing is held.
    """
    with contextlib.suppress(OSError, AttributeError):
        m_mmap_threshold = -3
        ctypes.CDLL("libc.so.6").mallopt(m_mmap_threshold, 2**20)
