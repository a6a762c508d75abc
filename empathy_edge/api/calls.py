"""What the functions of the API have in common: their arguments, and what they do around the work."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

    Settings = TypeVar("Settings", bound=BaseModel)

AnyPath = str | PathLike[str]
"""A file or a folder; results of the API, which stand for the folder that they are in, are such, too."""

Device = Literal["auto", "cpu", "cuda", "mps"]
"""Where torch computes; `auto` takes a GPU where torch finds one."""


@contextlib.contextmanager
def called(device: Device | None = None) -> Iterator[None]:
    """Around the work of a function: results are returned, not printed, and the process stays as it was.

    Args:
        device: where torch computes meanwhile; None: as EMPATHY_EDGE_DEVICE says.
    """
    from empathy_edge.console import results_not_printed

    with warnings.catch_warnings(), results_not_printed(), _on(device):
        yield


@contextlib.contextmanager
def _on(device: Device | None) -> Iterator[None]:
    from empathy_edge.system.device import CHOSEN

    before = os.environ.get(CHOSEN)
    if device is not None:
        os.environ[CHOSEN] = device
    try:
        yield
    finally:
        if before is not None:
            os.environ[CHOSEN] = before
        elif device is not None:
            os.environ.pop(CHOSEN, None)


def path_of(given: AnyPath) -> Path:
    """The path, a `~` at its beginning replaced."""
    return Path(given).expanduser()


def model_of(given: AnyPath) -> str:
    """A model as it is named everywhere: a path, a hub id or a shipped name."""
    name = os.fspath(given)
    return os.path.expanduser(name) if name.startswith("~") else name


def listed(given: AnyPath | Iterable[AnyPath]) -> list[AnyPath]:
    """One or several, as a list."""
    return [given] if isinstance(given, str | PathLike) else list(given)


def with_fields(settings: Settings, **fields: object) -> Settings:
    """The settings with some fields replaced, checked again; a field that is None stays as it is.

    Raises:
        EmpathyEdgeError: a value is not allowed; all faults are listed.
    """
    from pydantic import ValidationError

    from empathy_edge.errors import EmpathyEdgeError
    from empathy_edge.runs.recipe import describe_faults

    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return type(settings).model_validate(settings.model_dump() | given)
    except ValidationError as error:
        raise EmpathyEdgeError(describe_faults(error, "settings")) from None
