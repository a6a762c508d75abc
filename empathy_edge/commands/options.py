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
    return click.option(
        "--update", is_flag=True, help="Make again what was made with other settings or inputs."
    )


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


def api_options(command: Any) -> Any:
    """What a model behind an API may cost, and where it is."""
    for option in (
        click.option(
            "--max-cost", type=click.FloatRange(0), help="Stop before more USD than this are spent."
        ),
        click.option("--max-calls", type=click.IntRange(1), help="Stop before more calls than this."),
        click.option("--parallel", default=8, show_default=True, type=click.IntRange(1, 256)),
        click.option("--base-url", help="Of openai: the endpoint; the key comes from OPENAI_API_KEY."),
    ):
        command = option(command)
    return command
