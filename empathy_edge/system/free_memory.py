"""How much memory this process may still take: the machine's, or less where a container limits it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def free_memory_mb() -> float:
    """Memory in MB (10^6 bytes) that is free or can be freed, within the limits of Linux's control groups.

    Docker, Kubernetes and Slurm limit memory by control groups, which the machine's own figures do not show
    (https://docs.kernel.org/admin-guide/cgroup-v2.html and cgroup-v1/memory.html).
    """
    free: float = psutil.virtual_memory().available
    for folder in _own_groups():
        left = _left_in(folder)
        if left is not None:
            free = min(free, max(0, left))
    return free / 1e6


def _own_groups() -> Iterator[Path]:
    """The folders of this process's control groups for memory, and of those around them."""
    try:
        lines = OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = CGROUPS / controllers
            inside = PurePosixPath(path.lstrip("/"))
            yield from (root / part for part in (inside, *inside.parents))


def _left_in(folder: Path) -> int | None:
    """Bytes that a group may still take, pages of files that can be dropped included; None: no limit."""
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # no such file, or the word `max`
            allowed = int((folder / limit).read_text(encoding="ascii"))
            used = int((folder / usage).read_text(encoding="ascii"))
            return allowed - used + _droppable(folder / "memory.stat")
    return None


def _droppable(stat: Path) -> int:
    """Bytes of pages of files."""
    try:
        fields = dict(line.split(" ", 1) for line in stat.read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return 0
    prefix = "total_" if "total_inactive_file" in fields else ""
    return sum(int(fields.get(f"{prefix}{kind}_file", 0)) for kind in ("inactive", "active"))
