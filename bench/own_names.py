"""Figures, replies and labels are kept under an artifact's last name: no two may have the same one."""

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
