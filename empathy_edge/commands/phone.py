"""The command that lets any phone with a browser take part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from empathy_edge.commands import completers
from empathy_edge.commands.options import (
    EXAMPLES,
    FromSettings,
    SettingsCommand,
    path_type,
    takes_settings,
    template_option,
)

if TYPE_CHECKING:
    from empathy_edge.bench.browser.settings import PhoneSettings


def _phone_settings() -> type[PhoneSettings]:
    from empathy_edge.bench.browser.settings import PhoneSettings

    return PhoneSettings


@takes_settings(
    settings=FromSettings(
        _phone_settings,
        (
            "lan",
            "https",
            "port",
            "minutes",
            "stop_after",
            "threads",
            "context",
            "max_new_tokens",
            "prompt_tokens",
            "decode_tokens",
            "rounds",
            "seed",
            "part_mb",
            "crisis_help",
            "country",
        ),
    )
)
@click.command(
    cls=SettingsCommand,
    epilog=EXAMPLES + "  empathy-edge phone exported/gguf-q4_0                    # this machine's browser\n"
    "  empathy-edge phone exported/gguf-q4_0 --lan --https      # a phone in the same network\n"
    "  empathy-edge phone runs/quickstart/export/gguf-q4_0 --lan --https --native figures.json",
)
@click.argument("artifact", default="smollm2-135m", shell_complete=completers.models)
@template_option()
@click.option(
    "--out",
    type=path_type(),
    help="The folder for results. [default: phone/ in the artifact's run, else phone-results/]",
)
@click.option("--native", type=path_type(), help="This machine's figures (`bench --json`), for the ratio.")
@click.option("--qr", "qr_file", type=path_type(), help="Also write the QR code to this .svg or .png file.")
def phone(
    artifact: str,
    out: Path | None,
    native: Path | None,
    qr_file: Path | None,
    template: str | None,
    settings: PhoneSettings,
) -> None:
    """Run a GGUF in a phone's browser: chat there and measure it.

    ARTIFACT is served to the phone, runs there, and the phone sends its figures back. Prints an address and a
    QR code. Nothing is answered without the random token in the address. Results are labelled
    measured-browser: WebAssembly, not the phone's native speed.
    """
    from empathy_edge.bench.browser.results import PATTERN
    from empathy_edge.bench.browser.serve import results_folder, serve
    from empathy_edge.bench.result_file import read_result
    from empathy_edge.console import next_command, next_step
    from empathy_edge.models.templates import name_with_template

    folder = out or results_folder(artifact)
    serve(
        name_with_template(artifact, template),
        settings,
        out=folder,
        native=read_result(native) if native else None,
        qr_file=qr_file,
    )
    if results := sorted(folder.glob(PATTERN)):
        of = ("--artifact", artifact, "--device", "DEVICE", "--out", "my-phone.yaml")
        next_command("empathy-edge", "bench", "ingest", results[-1], *of)
    else:
        next_step("the same command again; on the phone: Download and load, then Measure")
