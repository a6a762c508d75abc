"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

EXAMPLES = "\b\nExamples:\n"


def out_option(default: str | None = None) -> Any:
    return click.option(
        "--out",
        type=click.Path(path_type=Path),
        required=default is None,
        default=default,
        show_default=default is not None,
        help="The folder to write into; it must be new, empty, or of the same kind.",
    )


def update_option() -> Any:
    return click.option("--update", is_flag=True, help="Make again what was made with other settings or inputs.")


def threads_option() -> Any:
    return click.option(
        "--threads", type=click.IntRange(1), help="CPU threads. [default: all cores this process may use]"
    )


def path_type(**options: Any) -> Any:
    return click.Path(path_type=Path, **options)


def pairs(option: str, items: tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE, given more than once, as a dictionary."""
    for item in items:
        if "=" not in item:
            raise click.BadParameter(f"{item!r} is not KEY=VALUE.", param_hint=option)
    return dict(item.partition("=")[::2] for item in items)
