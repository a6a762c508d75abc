"""Write files atomically, read JSON, and hash what files hold."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from empathy_edge.errors import EmpathyEdgeError, no_such_file
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.hash_cache import sha256_file

MANIFEST = "manifest.json"
MARKER = ".unfinished.json"
"""In the folder of a stage until it is done; its manifest takes its place."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write text (as UTF-8) or bytes to a temporary file beside `path`, then rename it into place."""
    with writing_atomically(path) as handle:
        handle.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def writing_atomically(path: Path) -> Iterator[IO[bytes]]:
    """A temporary file beside `path`, which takes its place when the block ends; an error removes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = part_of(path)
    try:
        with open(temporary, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def part_of(path: Path) -> Path:
    """The file beside `path` that this process writes first, and then renames.

    No file of a user has such a name: `model.tmp` may be theirs.
    """
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def own_file(path: Path) -> Path:
    """The file behind a path in a folder from elsewhere; a link may lead to the hub's cache, and not further.

    Raises:
        EmpathyEdgeError: it is a link to a file outside the folder.
    """
    found, folder = path.resolve(), path.parent.resolve()
    hub_blobs = folder.parent.parent / "blobs"  # models--owner--name/snapshots/REVISION/file
    ours = cache_folder().resolve() / "templates"  # folders of links that we made
    if not any(map(found.is_relative_to, (folder, hub_blobs))) and not folder.is_relative_to(ours):
        raise EmpathyEdgeError(f"{path}: is a link to a file outside its folder; it is not followed.")
    return found


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        EmpathyEdgeError: the file is missing or not JSON; names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise no_such_file(path) from None
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise EmpathyEdgeError(f"{path}: not readable as JSON ({error}).") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        EmpathyEdgeError: it is missing, not JSON, or something else; names it.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise EmpathyEdgeError(f"{path}: holds no JSON object.")
    return content


def sha256_path(path: Path) -> str:
    """The sha256 of a file or of a folder's content.

    For a stage's folder it is the hash of the files that its manifest lists, as they are now; for another
    folder, of all its files.

    Raises:
        EmpathyEdgeError: a listed file is missing, or there is no list.
    """
    if path.is_file():
        return sha256_file(path)
    if (path / MANIFEST).is_file():
        outputs = read_json_object(path / MANIFEST).get("outputs")
        if not isinstance(outputs, dict | list) or not all(isinstance(name, str) for name in outputs):
            raise EmpathyEdgeError(f"{path / MANIFEST}: has no 'outputs' with file names. Make it again.")
        return sha256_json({name: file_record(path / name) for name in outputs})
    files = sorted(item for item in path.rglob("*") if item.is_file())
    return sha256_json({str(item.relative_to(path)): sha256_file(item) for item in files})


def file_record(path: Path) -> dict[str, str | int]:
    """A file as a manifest lists it: sha256 and bytes.

    Raises:
        EmpathyEdgeError: it is missing.
    """
    if not path.is_file():
        raise EmpathyEdgeError(
            f"{path}: is missing; its folder's {MANIFEST} lists it. Make the folder again."
        )
    return {"sha256": sha256_file(path), "bytes": path.stat().st_size}


def sha256_json(value: Any) -> str:
    """The sha256 of a value's canonical JSON; half a character (a lone surrogate) counts, too."""
    content = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
