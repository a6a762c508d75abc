"""Commands about the speed and memory of phones: predicted here, measured there, read back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from empathy_edge.commands import completers
from empathy_edge.commands.json_output import give_json, json_option, none_exists
from empathy_edge.commands.options import (
    EXAMPLES,
    FromSettings,
    SettingsCommand,
    path_type,
    refuse_given,
    takes_settings,
)

if TYPE_CHECKING:
    from empathy_edge.bench.phones.prediction_settings import PredictionSettings


def _prediction_settings() -> type[PredictionSettings]:
    from empathy_edge.bench.phones.prediction_settings import PredictionSettings

    return PredictionSettings


@takes_settings(
    settings=FromSettings(_prediction_settings, ("prompt_tokens", "depth", "context")),
)
@click.command(
    cls=SettingsCommand,
    epilog=EXAMPLES + "  empathy-edge bench predict --device galaxy-s23 --artifact exported/gguf-q4_0\n"
    "  empathy-edge bench predict --device all --artifact model.gguf --prompt-tokens 512 --depth 1024\n"
    "  empathy-edge bench predict --validate phone_cpu_cells.csv",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    shell_complete=completers.devices_or_all,
    help="An id from `devices`, a profile's .yaml, or all.",
)
@click.option(
    "--artifact",
    shell_complete=completers.models,
    help="A GGUF: a file, an artifact folder, or a shipped model.",
)
@click.option(
    "--validate",
    "cells",
    type=path_type(),
    help="Leave each model of this table of measurements out, predict it from the others, and report the "
    "errors.",
)
@click.option(
    "--unseen",
    type=path_type(),
    help="With --validate: predict the models of this table instead, all from the first.",
)
@json_option()
def predict(
    devices: tuple[str, ...],
    artifact: str | None,
    cells: Path | None,
    unseen: Path | None,
    json_file: Path | None,
    settings: PredictionSettings,
) -> None:
    """Predict the speed and memory of a GGUF on a phone's CPU.

    Given are decode, prefill, first token and memory, with intervals; every figure is `predicted`.
    Predictions are based on measurements of llama.cpp on phones. A device that nobody measured is predicted
    from its chip's specification, with wider intervals. Types that nobody measured are refused.
    """
    from empathy_edge.bench.phones import predict as predictions
    from empathy_edge.bench.phones.prediction_tables import show, show_errors
    from empathy_edge.console import next_command

    if cells is None:
        refuse_given(("--unseen",), "belongs to --validate: the table that its models are predicted from.")
    else:
        ignored = ("--device", "--artifact", "--prompt-tokens", "--depth", "--context")
        refuse_given(ignored, "has no effect with --validate, which predicts the models of its table.")
    none_exists(json_file)
    if cells is not None:
        errors = predictions.validate_table(cells, unseen)
        show_errors(errors)
        give_json(json_file, {"errors": errors}, "predict errors")
        next_command("empathy-edge", "bench", "predict", "--device", "all", "--artifact", "ARTIFACT")
        return
    if not devices or artifact is None:
        raise click.UsageError("Give --device and --artifact, or --validate.")
    results = predictions.predict_for(artifact, devices, settings)
    show(results)
    give_json(json_file, {"predictions": results}, "predict")
    next_command("empathy-edge", "bench", "device", "termux", artifact, "--out", "phone")


@click.command(
    epilog=EXAMPLES + "  empathy-edge bench device android exported/gguf-q4_0 \\\n"
    "      --llama-bench build-android/bin/llama-bench --out phone\n"
    "  empathy-edge bench device termux exported/gguf-q4_0 --out phone"
)
@click.argument("kind", type=click.Choice(["android", "termux"]))
@click.argument("artifact", shell_complete=completers.models)
@click.option("--llama-bench", "binary", type=path_type(), help="android: llama-bench built for arm64 (NDK).")
@click.option(
    "--prompt-tokens", default=256, show_default=True, type=click.IntRange(8), help="Tokens of the prompt."
)
@click.option("--decode-tokens", default=64, show_default=True, type=click.IntRange(8), help="New tokens.")
@click.option(
    "--threads", default=4, show_default=True, type=click.IntRange(1), help="CPU threads on the phone."
)
@click.option(
    "--out", type=path_type(), required=True, help="The folder to write into; it must be new or empty."
)
def device(
    kind: str,
    artifact: str,
    binary: Path | None,
    prompt_tokens: int,
    decode_tokens: int,
    threads: int,
    out: Path,
) -> None:
    """Write a folder that measures ARTIFACT on a real phone.

    `android` measures by adb from here, `termux` in Termux on the phone.
    """
    from empathy_edge.bench.phones.device_folder import write_folder
    from empathy_edge.console import next_step

    if kind == "termux":
        refuse_given(("--llama-bench",), "belongs to android: in Termux it is built on the phone.")
    write_folder(
        kind,
        artifact,
        out,
        binary=binary,
        prompt_tokens=prompt_tokens,
        decode_tokens=decode_tokens,
        threads=threads,
    )
    next_step(f"see {out / 'README.md'}")


@click.command(
    epilog=EXAMPLES
    + "  empathy-edge bench ingest phone/results.jsonl --artifact exported/gguf-q4_0 --device pixel-8 \\\n"
    "      --out pixel-8.yaml\n"
    "  empathy-edge bench predict --device pixel-8.yaml --artifact exported/gguf-q8_0"
)
@click.argument("file", type=path_type())
@click.option("--artifact", required=True, shell_complete=completers.models, help="The GGUF that was run.")
@click.option(
    "--device",
    "device_id",
    required=True,
    shell_complete=completers.devices,
    help="An id from `devices`, or a profile's .yaml.",
)
@click.option("--out", type=path_type(), required=True, help="The recalibrated profile, a new .yaml file.")
def ingest(file: Path, artifact: str, device_id: str, out: Path) -> None:
    """Read a phone's results and recalibrate its profile.

    FILE is llama-bench's JSON or JSONL, PocketPal's JSON, what `phone` wrote, or CSV (docs/phones.md).
    """
    from empathy_edge.bench.phones.ingest import ingest as read_in
    from empathy_edge.console import next_command

    none_exists(out)
    read_in(file, artifact, device_id, out)
    next_command("empathy-edge", "bench", "predict", "--device", out, "--artifact", artifact)
