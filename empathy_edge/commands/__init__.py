"""Every command: its options and help here, its work in the module it imports when it runs."""

from __future__ import annotations

import click

from empathy_edge import __version__
from empathy_edge.commands import benching, judging, making, measuring, scoring


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="empathy-edge")
def cli() -> None:
    """The road from an empathetic large model to a small one on a phone: distil, fine-tune, export, measure, gate.

    Start with `empathy-edge doctor`, then `empathy-edge run quickstart`. Add --debug to any command for tracebacks.
    """


for command in (
    *making.COMMANDS,
    *benching.COMMANDS,
    *measuring.COMMANDS,
    *scoring.COMMANDS,
    *judging.COMMANDS,
):
    cli.add_command(command)
