"""What a killed export leaves in its folder: it is known by its name, and the next one removes it."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Collection
from pathlib import Path

FOLDER = re.compile(r"\.(?:building|converting|exporting|packing|parts|source)-[a-z0-9_]{8}")
"""Folders that the makers of artifacts have for themselves, as Python's `tempfile` names them."""

FILE = re.compile(r"\.[^/]+\.\d+\.tmp")
"""Files that were being written (`files.part_of`)."""


def remove_scratch(folder: Path, outputs: Collection[str] = ()) -> None:
    """Remove what an earlier process left in a stage's folder, which no other process is writing to.

    Args:
        folder: the stage's own.
        outputs: the files that its manifest lists; they stay, whatever they are called.
    """
    listed = {Path(name).parts[0] for name in outputs}
    for item in folder.iterdir():
        if item.name in listed or item.is_symlink():
            continue
        if FOLDER.fullmatch(item.name) and item.is_dir():
            shutil.rmtree(item, ignore_errors=True)  # links in it are removed, and not followed
        elif FILE.fullmatch(item.name) and item.is_file():
            with contextlib.suppress(OSError):
                item.unlink()
