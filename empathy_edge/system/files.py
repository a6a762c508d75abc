"""Write files atomically, read JSON, and hash what files hold."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError

MANIFEST = "manifest.json"


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
    """Read a JSON file.

    Raises:
        EmpathyEdgeError: the file is missing or not JSON; names it.
    """
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
    """The sha256 of a file or of a folder's content.

    For a stage's folder it is the hash of the list of outputs in its manifest; for another folder, of its
    files' names and hashes.
    """
    if path.is_file():
        return sha256_file(path)
    if (path / MANIFEST).is_file():
        return sha256_json(read_json(path / MANIFEST)["outputs"])
    files = sorted(item for item in path.rglob("*") if item.is_file())
    return sha256_json({str(item.relative_to(path)): sha256_file(item) for item in files})


def sha256_json(value: Any) -> str:
    """The sha256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
