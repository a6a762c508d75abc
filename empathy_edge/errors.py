"""Errors that a user sees: a short message without a traceback, and an exit code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MOST_NAMES = 5000
"""Of a folder, so many names are compared with the one that is not there."""


_given: dict[str, str] = {}


def call_as_given(kept: Path, name: str) -> None:
    """Let errors name a file of the cache as the user named what it was made from."""
    _given[str(kept)] = name


def as_given(text: str) -> str:
    """A message with the user's names for files of the cache."""
    for kept, name in _given.items():
        text = text.replace(kept, name)
    return text


class EmpathyEdgeError(Exception):
    """The input or the usage is wrong; the message says what, where, and what to do (exit code 2)."""

    exit_code = 2

    is_error = True
    """False where the message is of something that was to be expected: it is shown without "Error:"."""

    def __init__(self, message: str) -> None:
        super().__init__(as_given(message))


class VerdictFailed(EmpathyEdgeError):
    """A check ran to its end and failed (exit code 1).

    Args:
        message: what failed, and why.
        next_step: what to do next; the command line ends with it.
        is_error: whether something is wrong with a file; a verdict on a model is a result.
    """

    exit_code = 1

    def __init__(self, message: str, next_step: str, *, is_error: bool = True) -> None:
        super().__init__(message)
        self.next_step = next_step
        self.is_error = is_error


class PrerequisiteError(EmpathyEdgeError):
    """A prerequisite is missing: a package, a model, memory, disk space (exit code 3).

    Args:
        missing: what is missing, in one sentence.
        remedy: the command or step that provides it.
    """

    exit_code = 3

    def __init__(self, missing: str, remedy: str) -> None:
        super().__init__(f"{missing}\n  {remedy}")
        self.missing = missing
        self.remedy = remedy


def require_extra(module: str, extra: str, purpose: str) -> None:
    """Raise PrerequisiteError if `module` is not installed; the message names the extra to install."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise PrerequisiteError(
            f"{purpose} needs the package '{module}', which is not installed.",
            f"Install it with: pip install 'empathy-edge[{extra}]'",
        )


def no_such_file(path: str | Path, advice: str = "", *, what: str = "file") -> EmpathyEdgeError:
    """The error about a file or folder that is not there; names the nearest one that is.

    Args:
        path: what is missing.
        advice: what to give instead.
        what: what it should have been.
    """
    return EmpathyEdgeError(f"{path}: no such {what}.{did_you_mean_path(path)} {advice}".rstrip())


CLEARLY_FARTHER = 0.15
"""Of difflib's ratio, 0 to 1."""


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """` Did you mean X?` with the names nearest to `wanted`, at most three; empty where none is near.

    It begins with a space, to follow the sentence that says what is missing.
    """
    near = _nearest(wanted, known, 3)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def did_you_mean_path(path: str | Path) -> str:
    """` Did you mean PATH?` with the file or folder whose name is nearest; empty where there is none."""
    import os
    from itertools import islice
    from pathlib import Path

    found = Path()
    for part in Path(path).expanduser().parts:
        if (found / part).exists():
            found /= part
            continue
        try:
            with os.scandir(found) as items:
                near = _nearest(part, [item.name for item in islice(items, MOST_NAMES)], 1)
        except OSError:
            return ""
        if not near:
            return ""
        found /= near[0]
    return f" Did you mean {found}?"


def _nearest(wanted: str, known: Iterable[str], count: int) -> list[str]:
    """The nearest names, the nearest first; none that is clearly farther than that one."""
    from difflib import SequenceMatcher, get_close_matches

    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(wanted.lower(), by_lower, n=count)
    # With the arguments as get_close_matches has them: the ratio depends on their order.
    ratios = [SequenceMatcher(None, name, wanted.lower()).ratio() for name in near]
    return [
        by_lower[name]
        for name, ratio in zip(near, ratios, strict=True)
        if ratio > ratios[0] - CLEARLY_FARTHER
    ]
