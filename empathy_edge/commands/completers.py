"""What a shell completes where a name is wanted: shipped models, devices, recipes, artifacts; else files.

Each is given to an option or argument as `shell_complete`. They load nothing heavy, and what they need only
when the shell asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Completions = list["CompletionItem"]


def models(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Completions:
    """Shipped models, and files and folders."""
    from empathy_edge.models.shipped import SHIPPED

    return _names_or_files(SHIPPED, incomplete)


def models_or_commands(ctx: click.Context, _param: object, incomplete: str) -> Completions:
    """Shipped models, files, and the commands of a group whose first word may be a model."""
    from empathy_edge.models.shipped import SHIPPED

    commands = ctx.command.commands if isinstance(ctx.command, click.Group) else ()
    return _names_or_files([*SHIPPED, *commands], incomplete)


def devices(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Completions:
    """Known devices, and profiles in files."""
    from empathy_edge.devices import device_ids

    return _names_or_files(device_ids(), incomplete)


def devices_or_all(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Completions:
    """Known devices, `all`, and profiles in files."""
    from empathy_edge.devices import device_ids

    return _names_or_files(["all", *device_ids()], incomplete)


def recipes(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Completions:
    """Shipped recipes, and files."""
    from empathy_edge.runs.recipe import recipe_names

    return _names_or_files(recipe_names(), incomplete)


def templates(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Completions:
    """Built-in chat templates, and files."""
    from empathy_edge.formats.built_in_templates import BUILT_IN

    return _names_or_files(BUILT_IN, incomplete)


def artifacts(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Completions:
    """The artifacts that `export --to` makes."""
    from empathy_edge.formats.artifact_names import artifact_names

    return _plain(name for name in artifact_names() if name.startswith(incomplete))


def _names_or_files(names: Iterable[str], incomplete: str) -> Completions:
    """The names that begin so, and the files that do; where no name does, the shell looks for files itself.

    A shell's own files cannot stand beside names: bash shows either.
    """
    from click.shell_completion import CompletionItem

    found = [name for name in names if name.startswith(incomplete)]
    if not found:
        return [CompletionItem(incomplete, type="file")]
    here = sorted(f"{path}/" if path.is_dir() else str(path) for path in Path().iterdir())
    if not incomplete.startswith("."):
        here = [name for name in here if not name.startswith(".")]
    return _plain([*found, *(name for name in here if name.startswith(incomplete))])


def _plain(names: Iterable[str]) -> Completions:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in names]
