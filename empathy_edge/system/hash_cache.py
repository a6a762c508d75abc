"""Hashes of large files, kept so that an unchanged file is read once.

A hash is kept under the file's device, inode, size and time of change. A file that is replaced by another of
the same size has another inode or time. `--verify-inputs` reads every file again.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from empathy_edge.system.cache import cache_folder

MIN_BYTES = 1_000_000
"""Smaller files are always read."""

SETTLED_NS = 2_000_000_000
"""A file that changed less than this ago may change again within the same tick of its clock."""

_reads_again = False


def read_every_file_again() -> None:
    """Take no hash from the cache in this process."""
    global _reads_again
    _reads_again = True


def sha256_file(path: Path) -> str:
    """The file's sha256 as hex."""
    with open(path, "rb") as handle:
        status = os.fstat(handle.fileno())
        is_settled = time.time_ns() - status.st_mtime_ns > SETTLED_NS
        if status.st_size < MIN_BYTES or not is_settled:
            return hashlib.file_digest(handle, "sha256").hexdigest()
        key = f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        known = None if _reads_again else _find(key)
        if known is not None:
            return known
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    _keep(key, found)
    return found


def _find(key: str) -> str | None:
    if not _file().is_file():
        return None
    try:
        with closing(sqlite3.connect(_file(), timeout=10)) as database:
            row = database.execute("SELECT sha256 FROM hashes WHERE file = ?", (key,)).fetchone()
    except sqlite3.Error:  # not ours, or damaged: the file is read again
        return None
    return None if row is None else str(row[0])


def _keep(key: str, sha256: str) -> None:
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(_file(), timeout=10, isolation_level=None)) as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS hashes (file TEXT PRIMARY KEY, sha256 TEXT NOT NULL)"
            )
            database.execute("INSERT OR REPLACE INTO hashes VALUES (?, ?)", (key, sha256))
    except (OSError, sqlite3.Error):  # a cache that cannot be written costs time only
        return


def _file() -> Path:
    return cache_folder() / "hashes.sqlite"
