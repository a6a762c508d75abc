"""Figures, replies and labels are kept under an artifact's name: no two may have the same one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError


def require_own_names(paths: Iterable[Path], purpose: str) -> None:
    """Refuse two files or folders whose last names are equal, or differ in capitals alone.

    Args:
        paths: of artifacts, or of models.
        purpose: what is done under that name.

    Raises:
        EmpathyEdgeError: names the two.
    """
    used: dict[str, Path] = {}
    for path in paths:
        name = path.name.lower()  # on macOS and Windows capitals do not make another file
        if name in used:
            raise EmpathyEdgeError(
                f"{used[name]} and {path} have the same last name, by which {purpose}. "
                "Rename one of them, or give it once."
            )
        used[name] = path


def own_names(paths: Iterable[Path]) -> dict[Path, str]:
    """A name for each file or folder: its last name, or as much of its path as tells it from the others.

    Raises:
        EmpathyEdgeError: one of them is given twice.
    """
    given = list(paths)
    names = {}
    for path in given:
        parts, others = path.resolve().parts, [other.resolve().parts for other in given]
        if others.count(parts) > 1:
            raise EmpathyEdgeError(f"{path}: is given twice.")
        length = 1
        while sum(other[-length:] == parts[-length:] for other in others) > 1:
            length += 1
        names[path] = "/".join(parts[-length:])
    return names
