"""A run's folder: each stage writes into its own folder and leaves a manifest there.

A stage whose inputs and settings did not change is skipped; one that was cut off is taken up again;
a folder that holds something else is never touched. What a user puts into a stage's folder stays the user's:
only files that the stage declares are listed in its manifest, and only these are ever deleted.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from empathy_edge.errors import EmpathyEdgeError, no_such_file
from empathy_edge.system.files import (
    MANIFEST,
    MARKER,
    file_record,
    read_json,
    sha256_json,
    sha256_path,
    write_json,
)
from empathy_edge.system.hash_cache import sha256_file
from empathy_edge.system.locks import holding
from empathy_edge.system.machine import machine, versions

LOCK = ".lock"

SCRATCH = "scratch"
"""Of a stage's folder: what it keeps for itself while it runs."""

SCRATCH_OF_EXPORTS = (
    ".building-*/*", ".converting-*/*", ".exporting-*/*", ".packing-*/*", ".parts-*/*", ".source-*/*",
)  # fmt: skip
"""What is in the folders of programs that make a model; they stay where such a program was killed."""

TEMPORARY = (f"{SCRATCH}/*", "checkpoints/*", *SCRATCH_OF_EXPORTS)
"""What stages delete before their end. Files that are mapped into memory then stay on Windows, and on NFS
under another name, until the process ends."""

WRITTEN_IN_PART = re.compile(r"((?:.*/)?)\.([^/]+)\.\d+\.tmp")
"""Files that were being written atomically when the process was killed (`files.writing_atomically`).

The groups are the folder and the name of the file that was to be written.
"""


class Results(BaseModel):
    """What a stage found: its manifest holds it, and later stages read it from there."""

    model_config = ConfigDict(frozen=True, extra="forbid")


R = TypeVar("R", bound=Results)


def results_of(folder: Path, kind: type[R]) -> R:
    """What the stage that wrote into `folder` found.

    Raises:
        EmpathyEdgeError: there is no manifest, or one of another version or stage.
    """
    return _results_in(read_json(folder / MANIFEST), kind, folder / MANIFEST)


def _results_in(manifest: Any, kind: type[R], file: Path) -> R:
    try:
        return kind.model_validate(manifest["results"])
    except (ValidationError, KeyError, TypeError) as error:
        raise EmpathyEdgeError(
            f"{file}: was written by another version of empathy-edge; make the stage again with --update.\n"
            f"  ({str(error).splitlines()[0]})"
        ) from None


@dataclass
class Stage:
    """One stage's folder while the stage runs, or when it is already done.

    `made` are the folders that were not there before, the innermost first. `files` are patterns of the files
    that the stage writes; any other file in the folder is the user's.
    """

    folder: Path
    name: str
    settings: dict[str, Any]
    inputs: dict[str, dict[str, str]]
    fingerprint: str
    files: tuple[str, ...]
    done: bool = False
    resumed: bool = False
    manifest: dict[str, Any] = field(default_factory=dict)
    made: list[Path] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @contextlib.contextmanager
    def nothing_left_of_a_failure(self) -> Iterator[None]:
        """Run the stage; where it fails before it has done anything, its marker and its new folders go.

        What a stage keeps for itself while it runs, as rows and tokens, does not count as done.
        """
        try:
            yield
        except Exception:
            if os.environ.get("RANK", "0") == "0":
                self._forget()
            raise

    def _forget(self) -> None:
        kept = self.folder / SCRATCH
        own = set(self._own_files(self.files).values())
        if any(kept not in path.parents or path not in own for path in _files_of_stage(self.folder)):
            return
        shutil.rmtree(kept, ignore_errors=True)
        if _files_of_stage(self.folder):
            return
        (self.folder / MARKER).unlink(missing_ok=True)
        for folder in self.made:
            with contextlib.suppress(OSError):  # something else is in it
                folder.rmdir()

    def _own_files(self, patterns: Sequence[str]) -> dict[str, Path]:
        """The files in the folder that match the patterns, by name."""
        found = {}
        for path in _files_of_stage(self.folder):
            name = path.relative_to(self.folder).as_posix()
            if _matches(name, patterns):
                found[name] = path
        return found

    def results(self, kind: type[R]) -> R:
        """What a stage that is done found."""
        return _results_in(self.manifest, kind, self.folder / MANIFEST)

    def finish(
        self,
        results: Results | None = None,
        *,
        artifact: Mapping[str, object] | None = None,
        is_complete: bool = True,
    ) -> None:
        """Hash the outputs, write the manifest, drop the marker.

        Outputs are the files that the stage declared. What else is in the folder was put there by the user.

        Args:
            results: what the stage found.
            is_complete: whether nothing is missing. Otherwise later stages can use what is there, and the
                same command goes on here.
            artifact: for a folder that a runtime can open: its format, quantization, model file and sha256.
        """
        files = self._own_files(self.files)
        for name in [name for name in files if WRITTEN_IN_PART.fullmatch(name)]:
            files.pop(name).unlink(missing_ok=True)
        left = sorted(name for name in files if _is_any_of(name, TEMPORARY))
        outputs = {name: file_record(files[name]) for name in sorted(files.keys() - set(left))}
        self.manifest = {
            "stage": self.name,
            "fingerprint": self.fingerprint,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self.started, 1),
            "settings": self.settings,
            "inputs": self.inputs,
            "results": results.model_dump(mode="json", exclude_unset=True) if results else {},
            "outputs": outputs,
            "versions": versions(),
            "machine": machine(),
            **({"artifact": artifact} if artifact else {}),
            **({} if is_complete else {"is_complete": False}),
            **({"left": left} if left else {}),
        }
        write_json(self.folder / MANIFEST, self.manifest)
        (self.folder / MARKER).unlink(missing_ok=True)
        self.done = True


def _nested(path: Path, folder: Path) -> bool:
    """Whether `path` lies in a subfolder that is a stage of its own."""
    parents = path.parents
    return any(
        (parent / MANIFEST).exists() or (parent / MARKER).exists()
        for parent in parents[: parents.index(folder)]
    )


def open_stage(
    folder: Path,
    name: str,
    *,
    settings: dict[str, Any],
    inputs: Mapping[str, Path],
    files: Sequence[str],
    update: bool = False,
) -> Stage:
    """Begin, resume or skip the stage that writes into `folder`.

    Args:
        folder: the stage's own folder.
        name: the stage's name; a folder of another stage is refused.
        settings: everything that changes the result (JSON values).
        inputs: files, or folders of earlier stages, by role; their contents count, their paths do not.
        files: patterns of the files that the stage writes: `*.json` in its folder, `adapter/*` in and below
            that one. Only these are listed in the manifest, and only these are ever removed.
        update: whether the user allowed to replace a result made with other settings or inputs.

    Returns:
        The stage; `done` says that there is nothing to do, `resumed` that a cut-off one goes on.

    Raises:
        EmpathyEdgeError: the folder holds something else, or a result of other settings.
    """
    for role, path in inputs.items():
        if not path.exists():
            raise no_such_file(path, what=f"file or folder (the {role} of {name})")
    hashed = {role: {"path": path.name, "sha256": sha256_path(path)} for role, path in inputs.items()}
    settings = dict(json.loads(json.dumps(settings)))
    fingerprint = sha256_json([name, settings, {role: item["sha256"] for role, item in hashed.items()}])
    stage = Stage(folder, name, settings, hashed, fingerprint, tuple(files))
    head = {
        "stage": name,
        "fingerprint": fingerprint,
        "settings": settings,
        "inputs": hashed,
        "files": list(files),
    }

    if folder.exists() and not folder.is_dir():
        raise EmpathyEdgeError(f"{folder}: is a file; {name} needs a folder there.")
    record_path = next((folder / n for n in (MANIFEST, MARKER) if (folder / n).is_file()), None)
    if record_path is None:
        _require_ours(folder)
        stage.made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / MARKER, head)
        return stage
    record = read_json(record_path)
    if not isinstance(record, dict) or record.get("stage") != name:
        found = record.get("stage") if isinstance(record, dict) else None
        raise EmpathyEdgeError(
            f"{folder}: belongs to {found or 'something else'}, not to {name}. Choose another --out."
        )
    _take_up(stage, record, head, is_finished=record_path.name == MANIFEST, update=update)
    return stage


def _take_up(
    stage: Stage, record: dict[str, Any], head: dict[str, Any], *, is_finished: bool, update: bool
) -> None:
    """Skip what is done, resume what was cut off, clear what is to be made again, or refuse.

    Args:
        stage: the stage, as it would begin.
        record: what its folder says of an earlier time.
        head: what the folder would say now.
        is_finished: whether the stage came to its end then.
        update: whether a result of other settings or inputs may be replaced.
    """
    folder = stage.folder
    is_same = record.get("fingerprint") == stage.fingerprint
    if is_same and is_finished and not record.get("is_complete", True):
        stage.resumed = True
        return
    if is_same and is_finished and _outputs_intact(folder, record):
        (folder / MARKER).unlink(missing_ok=True)
        stage.manifest, stage.done = record, True
        return
    if is_same and not is_finished:
        stage.resumed = True
        return
    if not is_finished and not _files_of_stage(folder):  # it failed before it wrote anything
        write_json(folder / MARKER, head)
        return
    if is_same and not update:
        raise EmpathyEdgeError(
            f"{folder}: a file that {stage.name} made is missing or has changed.\n"
            "  Put it back, or use --update to make the stage again."
        )
    if not update:
        raise EmpathyEdgeError(
            f"{folder}: was made with other {_difference(record, head)}.\n"
            "  Use --update to make it again with the new ones, or --out for another folder; "
            "nothing was changed."
        )
    _clear(folder, record, is_finished)
    write_json(folder / MARKER, head)


def _require_ours(folder: Path) -> None:
    """Refuse a folder with anything in it but folders of stages."""
    others = []
    for item in folder.iterdir() if folder.exists() else ():
        if not (item / MARKER).exists() and not (item / MANIFEST).exists():
            others.append(item.name)
    if others:
        raise EmpathyEdgeError(
            f"{folder}: holds something that empathy-edge did not make ({', '.join(sorted(others)[:3])}).\n"
            "  Choose another --out, or move it away; it was not touched."
        )


def _outputs_intact(folder: Path, manifest: dict[str, Any]) -> bool:
    for name, item in manifest["outputs"].items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != item["bytes"] or sha256_file(file) != item["sha256"]:
            return False
    return True


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
    files = _files_of_stage(folder)
    made = {*record["outputs"], *record.get("left", ())} if finished else set()
    for path in files:
        name = path.relative_to(folder).as_posix()
        is_ours = name in made if finished else _matches(name, record.get("files", ()))
        if not is_ours:
            raise EmpathyEdgeError(
                f"{path}: lies in a folder that is to be made again, "
                "but was not made by empathy-edge.\n"
                "  Move it away and run again."
            )
    for path in (*files, folder / MANIFEST, folder / MARKER):
        path.unlink(missing_ok=True)
    for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


def _files_of_stage(folder: Path) -> list[Path]:
    """The files in the folder but its manifest, its marker, and those of stages in subfolders."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in (MANIFEST, MARKER) and not _nested(path, folder):
            found.append(path)
    return found


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file is one that the stage declared, or a part of one that was being written atomically."""
    part = WRITTEN_IN_PART.fullmatch(name)
    if part is None:
        return _is_any_of(name, patterns)
    return part[2] in (MANIFEST, MARKER) or _is_any_of(part[1] + part[2], patterns)


def _is_any_of(name: str, patterns: Sequence[str]) -> bool:
    return any(
        fnmatchcase(name, pattern) and (pattern.endswith("/*") or name.count("/") == pattern.count("/"))
        for pattern in patterns
    )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder for this process alone; a second process gets a clear error."""

    def refuse() -> None:
        raise EmpathyEdgeError(f"{folder}: another empathy-edge process is working here.") from None

    with holding(folder / LOCK, refuse):
        yield
