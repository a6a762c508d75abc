"""Only one process at a time writes somewhere: a second one waits for the first, or is told of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import sha256_json


def lock_in_cache(folder: Path) -> Path:
    """The lock's file for a folder of the user's, in which no other file is to appear."""
    return cache_folder() / "locks" / f"{sha256_json(str(folder.resolve()))[:32]}.lock"


@contextlib.contextmanager
def holding(lock: Path, if_busy: Callable[[], None]) -> Iterator[None]:
    """Run the block while no other process holds the lock. It ends with this process, however that ends.

    Where no lock can be written, nothing else can be, either: the block runs without one.

    Args:
        lock: the lock's file, which stays where it is.
        if_busy: is called where another process holds it: says so, and then this one waits; or raises.
    """
    from filelock import BaseFileLock, FileLock, Timeout

    wanted: BaseFileLock = FileLock(lock)
    held: BaseFileLock | None = wanted
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        wanted.acquire(timeout=0)
    except Timeout:  # an OSError, too
        if_busy()
        wanted.acquire()
    except (OSError, NotImplementedError):
        held = None
    try:
        yield
    finally:
        if held is not None:
            held.release()
