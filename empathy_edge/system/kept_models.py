"""The large parts of the cache: models that can be made again from what they were made of."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import MANIFEST, read_json

WHAT = {
    "checkpoints": "a model in fp32, from a GGUF or a quantized checkpoint",
    "references": "a model's F16 GGUF, on which `check` draws replies",
    "verify": "torch's answers, with which `export` compares artifacts",
    "litertlm": "the parts of a .litertlm file",
}
"""Folder of the cache → what each entry in it is. Replies, ratings and hashes are not among them."""

IN_USE_S = 3600.0
"""What was used within so many seconds stays: another command may be using it."""


@dataclass(frozen=True)
class KeptModel:
    """An entry of the cache.

    Attributes:
        model: its name, as it was given when the entry was made; the entry's own where that is not kept.
        kind: the folder that it is in.
        path: its own folder or file.
        mb: its size in MB (10^6 bytes).
        unused_days: since it was last used.
    """

    model: str
    kind: str
    path: Path
    mb: float
    unused_days: float

    @property
    def is_named(self) -> bool:
        """Whether the model's name is kept; else the entry is named by a hash."""
        return self.model != self.path.name

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self) | {
            "path": str(self.path),
            "mb": round(self.mb, 1),
            "unused_days": round(self.unused_days, 2),
        }


def mark_used(path: Path) -> None:
    """Note that an entry was used now; a cache that cannot be written is used all the same."""
    with contextlib.suppress(OSError):
        os.utime(path)


def kept_models() -> list[KeptModel]:
    """Every entry, the largest first."""
    found = []
    for kind in WHAT:
        folder = cache_folder() / kind
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name.endswith(".lock"):
                continue
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                unused_s = max(0.0, time.time() - path.stat().st_mtime)
                found.append(KeptModel(_model(path), kind, path, _mb(path), unused_s / 86400))
    return sorted(found, key=lambda item: -item.mb)


def table_rows(found: Sequence[KeptModel]) -> list[list[str]]:
    """The entries for people: model, what it is, MB, days unused; those without a name summed up by kind."""
    rows = [_row(item.model, [item]) for item in found if item.is_named]
    for kind in WHAT:
        if unnamed := [item for item in found if item.kind == kind and not item.is_named]:
            rows.append(_row("1 model" if len(unnamed) == 1 else f"{len(unnamed)} models", unnamed))
    return rows


def _row(model: str, items: Sequence[KeptModel]) -> list[str]:
    mb, unused_days = sum(item.mb for item in items), min(item.unused_days for item in items)
    return [model, WHAT[items[0].kind], f"{mb:.0f}", f"{unused_days:.1f}"]


def remove_unused(days: float) -> list[KeptModel]:
    """Remove the entries that nothing has used for so many days; returns them.

    Raises:
        PrerequisiteError: one cannot be removed.
    """
    unused = [
        item for item in kept_models() if item.unused_days >= days and item.unused_days * 86400 >= IN_USE_S
    ]
    for item in unused:
        try:
            shutil.rmtree(item.path) if item.path.is_dir() else item.path.unlink(missing_ok=True)
        except OSError as error:
            raise PrerequisiteError(
                f"{item.path}: cannot be removed ({error.strerror}).", "Remove it yourself."
            ) from None
    return unused


def _model(path: Path) -> str:
    """The name of an entry's model."""
    try:
        if (path / "source.json").is_file():
            return str(read_json(path / "source.json")["file"])
        for file in path.glob(f"*/{MANIFEST}"):
            manifest = read_json(file)
            given = manifest.get("inputs", {}).get("checkpoint", {}).get("path")
            return str(given or manifest["name"])
    except (EmpathyEdgeError, OSError, LookupError, AttributeError):
        pass
    return path.name


def _mb(path: Path) -> float:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files if not file.is_symlink()) / 1e6
