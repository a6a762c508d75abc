"""Every command: its options and help here, its work in the module it imports when it runs."""

from __future__ import annotations

import click

from empathy_edge import __version__
from empathy_edge.commands import (
    bench,
    chat,
    check,
    choose,
    data,
    export,
    judge,
    phone,
    prepare,
    release,
    report,
    score,
    train,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="empathy-edge")
def cli() -> None:
    """From an empathetic large model to a small one on a phone: distil, fine-tune, export, measure, check.

    Start with `empathy-edge doctor`, then `empathy-edge run quickstart`. Add --debug to any command for
    tracebacks.
    """


GROUPS = (train, data, prepare, export, check, choose, release, judge, score, bench, phone, chat, report)
for group in GROUPS:
    for command in group.COMMANDS:
        cli.add_command(command)
