"""`--json` of every command that reports figures: a file or stdout, and the layout with its version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from empathy_edge.commands.options import Decorator

STDOUT = Path("-")
"""The file that is the standard output."""


def json_option() -> Decorator:
    """--json: the figures for a program; with `-` nothing else is written to stdout."""
    return click.option(
        "--json",
        "json_file",
        type=click.Path(path_type=Path, allow_dash=True),
        callback=_leave_stdout_alone,
        help="Write the figures as JSON to this file; `-` is stdout, and all else goes to stderr.",
    )


def _leave_stdout_alone(ctx: click.Context, _option: click.Parameter, file: Path | None) -> Path | None:
    if file == STDOUT and not ctx.resilient_parsing:
        from empathy_edge.console import results_on_stderr

        ctx.with_resource(results_on_stderr())
    return file


def give_json(file: Path | None, result: object, kind: str = "") -> None:
    """Write what `--json` asks for, into a file or to stdout; nothing where it was not given.

    Args:
        file: as given; `-` is stdout.
        result: a record or a mapping. What is not a number (NaN) becomes null.
        kind: names the layout, `empathy-edge KIND 1`, of a result whose `format` does not do so.
    """
    if file is None:
        return
    import json

    from pydantic import TypeAdapter

    anything: TypeAdapter[Any] = TypeAdapter(Any)
    content = json.loads(anything.dump_json(result))
    if kind:
        assert "format" not in content, f"{kind} has a field of this name; put it below another one"
        content = {"format": f"empathy-edge {kind} 1"} | content
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    if file == STDOUT:
        click.echo(text, nl=False)
        return
    from empathy_edge.system.files import write_atomically

    write_atomically(file, text)


def none_exists(*files: Path | None) -> None:
    """Refuse files that are there already, before anything is measured."""
    from empathy_edge.errors import EmpathyEdgeError

    for file in files:
        if file is not None and file != STDOUT and file.exists():
            raise EmpathyEdgeError(f"{file}: exists already; choose another name. Nothing was measured.")
