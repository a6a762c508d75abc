"""Commands that show: a run's report, the known devices, what is installed."""

from __future__ import annotations

from pathlib import Path

import click

from empathy_edge.commands import completers
from empathy_edge.commands.options import EXAMPLES, out_option, path_type, update_option


@click.command(epilog=EXAMPLES + "  empathy-edge report runs/quickstart --out report")
@click.argument("run_folder", type=path_type())
@out_option()
@update_option()
def report(run_folder: Path, out: Path, update: bool) -> None:
    """Write one self-contained HTML page about a finished run."""
    from empathy_edge.bench.report import run as run_stage

    run_stage(run_folder=run_folder, out=out, update=update)


@click.command(epilog=EXAMPLES + "  empathy-edge devices\n  empathy-edge devices raspberry-pi-5")
@click.argument("device", required=False, shell_complete=completers.devices)
def devices(device: str | None) -> None:
    """List the known phones and boards, or every number of one.

    Every number has a kind and a source.
    """
    from empathy_edge.bench.phones import device_table

    if device is None:
        device_table.show_all()
    else:
        device_table.show_one(device)


@click.command(epilog=EXAMPLES + "  empathy-edge doctor")
def doctor() -> int:
    """Say what is installed, what is missing, and how to get it.

    Exit code 3 if something is missing.
    """
    from empathy_edge.doctor import doctor as examine

    return 3 if examine() else 0
