"""Commands that show: a run's report, the known devices, what is installed."""

from __future__ import annotations

from pathlib import Path

import click

from empathy_edge.commands import completers
from empathy_edge.commands.json_output import give_json, json_option
from empathy_edge.commands.options import EXAMPLES, out_option, path_type, update_option


@click.command(epilog=EXAMPLES + "  empathy-edge report runs/quickstart --out report")
@click.argument("run_folder", type=path_type())
@out_option()
@update_option()
def report(run_folder: Path, out: Path, update: bool) -> None:
    """Write one self-contained HTML page about a finished run."""
    from empathy_edge.bench.report.page import run as run_stage
    from empathy_edge.console import next_step

    run_stage(run_folder=run_folder, out=out, update=update)
    next_step(f"open {out / 'report.html'} in a browser")


@click.command(epilog=EXAMPLES + "  empathy-edge devices\n  empathy-edge devices raspberry-pi-5")
@click.argument("device", required=False, shell_complete=completers.devices)
@json_option()
def devices(device: str | None, json_file: Path | None) -> None:
    """List the known phones and boards, or every number of one.

    Every number has a kind and a source.
    """
    from empathy_edge.bench.phones import device_table
    from empathy_edge.console import next_command
    from empathy_edge.devices import device_ids, load_device

    known = [load_device(name) for name in ([device] if device else device_ids())]
    give_json(json_file, {"devices": known}, "devices")
    if device is None:
        device_table.show_all()
        next_command("empathy-edge", "devices", "pixel-8")
    else:
        device_table.show_one(device)
        next_command("empathy-edge", "bench", "predict", "--device", device, "--artifact", "smollm2-135m")


@click.command(epilog=EXAMPLES + "  empathy-edge cache\n  empathy-edge cache --remove-unused 30")
@click.option(
    "--remove-unused",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Remove the models that no command has used for so many days. What was used within the last hour "
    "stays.",
)
@json_option()
def cache(remove_unused: float | None, json_file: Path | None) -> None:
    """Show which models the cache keeps, or remove unused ones.

    They are converted models, which commands make again when they need them. Replies and ratings in the
    cache are never removed.
    """
    from empathy_edge.console import next_command, out, table, tell
    from empathy_edge.system import kept_models
    from empathy_edge.system.cache import cache_folder

    removed = [] if remove_unused is None else kept_models.remove_unused(remove_unused)
    found = kept_models.kept_models()
    if found:
        rows = kept_models.table_rows(found)
        out.print(table(str(cache_folder()), ["model", "what", "MB", "days unused"], rows))
    if remove_unused is not None:
        out.print(f"Removed: {len(removed)} models, {sum(item.mb for item in removed):.0f} MB.")
    if found:
        out.print(f"Kept: {len(found)} models, {sum(item.mb for item in found):.0f} MB.")
    else:
        tell(f"No models are kept in {cache_folder()}.")
    content = {
        name: [item.as_json() for item in items] for name, items in (("kept", found), ("removed", removed))
    }
    give_json(json_file, content, "cache")
    if found and remove_unused is None:
        next_command("empathy-edge", "cache", "--remove-unused", "30")


@click.command(epilog=EXAMPLES + "  empathy-edge doctor")
@json_option()
def doctor(json_file: Path | None) -> int:
    """Say what is installed, what is missing, and how to get it.

    Exit code 3 if something is missing.
    """
    from empathy_edge.console import next_command
    from empathy_edge.doctor import examine, show

    found = examine()
    show(found)
    give_json(json_file, found, "doctor")
    if found.missing:
        next_command("pip", "install", f"empathy-edge[{','.join(found.missing_extras)}]")
        return 3
    next_command("empathy-edge", "run", "quickstart")
    return 0
