"""Commands that make artifacts and bundles."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from empathy_edge.commands import completers
from empathy_edge.commands.groups import Group, refuse_misspelled
from empathy_edge.commands.json_output import give_json, json_option
from empathy_edge.commands.options import (
    EXAMPLES,
    FromSettings,
    SettingsCommand,
    adapter_option,
    device_option,
    out_option,
    path_type,
    takes_settings,
    template_option,
    update_option,
)

if TYPE_CHECKING:
    from empathy_edge.runs.settings import ExportSettings


BUNDLE_APPS = (
    *("llama-cpp", "ollama", "lm-studio", "pocketpal", "onnxruntime-genai", "onnxruntime", "executorch"),
    "litert-lm",
)
"""The keys of `export.bundle.apps.APPS`, which is not imported here: `--help` stays fast."""


class _ExportGroup(SettingsCommand, Group):
    """`export MODEL` is a command with settings that has commands of its own, as `bundle`."""

    _first = ""
    """The first word of the command line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        self._first = args[0] if args else ""
        refuse_misspelled(self._first, self, ctx)
        ctx.allow_interspersed_args = self._first not in self.commands
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """All options; MODEL where the first word is no command."""
        found = super().get_params(ctx)
        if self._first in self.commands:
            found = [item for item in found if not isinstance(item, click.Argument)]
        return found


def _export_settings() -> type[ExportSettings]:
    from empathy_edge.runs.settings import ExportSettings

    return ExportSettings


@click.group(
    cls=_ExportGroup,
    invoke_without_command=True,
    epilog=EXAMPLES + "  empathy-edge export smollm2-135m --to gguf-q4_0 --out exported\n"
    "  empathy-edge export my-org/my-model --adapter my-adapter --to gguf-q8_0 --out exported\n"
    "  empathy-edge export my-org/my-model --adapter tuned --out exported\n"
    "  empathy-edge export my-model --adapter a --adapter b --weight 0.7 --weight 0.3 --out exported\n"
    "  empathy-edge export bundle exported/gguf-q4_0 --out bundle --zip\n"
    "  empathy-edge export check bundle.zip\n"
    "  empathy-edge export compare-server exported/gguf-q4_0 --server path/of/llama-server",
)
@click.pass_context
@click.argument("model", required=False, shell_complete=completers.models_or_commands)
@adapter_option("A PEFT folder; more than one in the order of training. Without any, MODEL is exported.")
@click.option(
    "--weight",
    "weights",
    multiple=True,
    type=float,
    help="Multiplies an adapter's change; once for each --adapter. docs/export.md says which cannot be. "
    "[default: 1]",
)
@template_option()
@click.option(
    "--out",
    type=path_type(),
    help="The folder to write into; it must be new, empty, or of the same kind.  [required]",
)
@device_option()
@update_option()
@json_option()
def export(  # noqa: PLR0913 - each is an option
    context: click.Context,
    adapters: tuple[Path, ...],
    weights: tuple[float, ...],
    template: str | None,
    out: Path | None,
    update: bool,
    json_file: Path | None,
    settings: ExportSettings,
    model: str | None = None,
) -> None:
    """Write artifacts of a model for phones: GGUF, ONNX and others.

    Adapters are merged first, and each artifact is compared with the merged checkpoint. MODEL is a shipped
    name, a hub id, a checkpoint's folder or a .gguf file: the one that the first adapter was trained on.
    Without MODEL it is the one that the adapter names.
    """
    if context.invoked_subcommand is not None:
        return
    if out is None:
        raise click.UsageError("--out is needed; see: empathy-edge export --help")
    if model is None and not adapters:
        raise click.UsageError("give a MODEL or an --adapter; see: empathy-edge export --help")
    if weights and len(weights) != len(adapters):
        named = ", ".join(map(str, adapters))
        raise click.UsageError(f"adapters: {named}; but {len(weights)} --weight. Give one for each adapter.")
    if not all(math.isfinite(weight) for weight in weights):
        raise click.UsageError("a --weight must be a finite number.")
    from empathy_edge.export.artifacts import run
    from empathy_edge.export.verify import ArtifactsDiffer
    from empathy_edge.models.find import base_of_adapter
    from empathy_edge.models.templates import checkpoint_with_template
    from empathy_edge.runs.given_data import data_file

    if settings.calibration is not None:
        file = data_file(Path(settings.calibration))
        settings = settings.model_copy(update={"calibration": str(file)})
    base = checkpoint_with_template(model or base_of_adapter(adapters[0]), template, adapters)
    try:
        found = run(
            base=base, adapters=list(adapters), weights=weights, out=out, settings=settings, update=update
        )
    except ArtifactsDiffer as failed:
        give_json(json_file, {"merge": failed.results.merge, "verify": failed.results}, "export")
        raise
    give_json(json_file, found, "export")
    reference = str(out / "merged") if adapters else base.name
    _say_check_next([out / name for name in settings.artifacts], reference, template)


def _say_check_next(artifacts: list[Path], reference: str, template: str | None) -> None:
    from empathy_edge.bench.check.make import has_quantized_weights
    from empathy_edge.console import next_command
    from empathy_edge.models.find import find_model

    words = ["empathy-edge", "check", *map(str, artifacts), "--reference", reference]
    if has_quantized_weights(find_model(reference)):
        words.append("--allow-quantized-reference")
    next_command(*words, *(("--template", template) if template else ()))


takes_settings(
    settings=FromSettings(
        _export_settings,
        (
            "artifacts",
            "verify",
            "imatrix",
            "calibration",
            "tensor_types",
            "genai_options",
            "converter",
            "exporter",
        ),
        {"artifacts": "--to", "tensor_types": "--tensor-type", "genai_options": "--genai-option"},
        {"artifacts": completers.artifacts},
    )
)(export)


@export.command(
    epilog=EXAMPLES + "  empathy-edge export bundle runs/quickstart/export/gguf-q4_0 --out bundle --zip\n"
    "  empathy-edge export bundle exported/gguf-q8_0 --for ollama --for lm-studio --out bundle",
)
@click.argument("artifact", type=path_type())
@click.option(
    "--for",
    "apps",
    multiple=True,
    type=click.Choice(BUNDLE_APPS),
    help="An app that the bundle is for; more than one is possible. [default: the artifact's own runtime]",
)
@out_option()
@click.option(
    "--license",
    "licence",
    type=path_type(),
    help="The text of the base's licence; only that of the shipped model is known.",
)
@click.option("--zip", "as_zip", is_flag=True, help="Also write OUT.zip.")
@update_option()
def bundle(
    artifact: Path, apps: tuple[str, ...], out: Path, licence: Path | None, as_zip: bool, update: bool
) -> None:
    """Pack an artifact for an app, with all that belongs to it.

    That is its licence, model card, settings, instructions and hashes.
    """
    from empathy_edge.console import next_step
    from empathy_edge.export.bundle.make import make

    make(artifact=artifact, out=out, apps=apps, licence=licence, as_zip=as_zip, update=update)
    given = shlex.join(["empathy-edge", "export", "check", str(out)])
    next_step(f"the steps for the app are in {out / 'README.md'}; who receives it checks it by: {given}")


@export.command("check", epilog=EXAMPLES + "  empathy-edge export check bundle.zip")
@click.argument("bundle", type=path_type())
@json_option()
def check_bundle(bundle: Path, json_file: Path | None) -> None:
    """Check a bundle that you were given; nothing of it is run.

    BUNDLE is a folder or a zip. Checked are hashes, formats and template.
    """
    from empathy_edge.console import next_command, next_step, say
    from empathy_edge.export.bundle.check import look_at

    found = look_at(bundle)
    give_json(json_file, found, "export check")
    found.raise_if_faulty(bundle)
    say(
        f"{bundle}: {found.files} files as the manifest says; {found.artifact.name}, "
        f"{found.artifact.size_mb} MB. No fault found."
    )
    if bundle.is_dir():
        next_command("empathy-edge", "chat", bundle)
    else:
        next_step("unpack it, and follow its README.md")


@export.command(
    "compare-server",
    epilog=EXAMPLES + "  empathy-edge export compare-server exported/gguf-q4_0\n"
    "  empathy-edge export compare-server model.gguf --server path/of/llama-server --prompts 20",
)
@click.argument("artifact", shell_complete=completers.models)
@click.option(
    "--server",
    type=path_type(),
    help="A llama-server program. [default: the one on the PATH, or the package xllamacpp's]",
)
@click.option(
    "--prompts",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="How many prompts of the shipped test split.",
)
@click.option(
    "--new-tokens",
    type=click.IntRange(1, 512),
    default=32,
    show_default=True,
    help="How many tokens each reply has at most.",
)
@json_option()
def compare_server(
    artifact: str, server: Path | None, prompts: int, new_tokens: int, json_file: Path | None
) -> None:
    """Say whether a GGUF replies the same in another llama.cpp.

    The other one may be that which your app ships. ARTIFACT, a .gguf file or a folder that `export` made, is
    opened in our llama.cpp and by a llama-server on this machine. Compared are prompts, token ids, greedy
    replies and log-probabilities. Exit code 1 if they are not the same.
    """
    from empathy_edge.console import next_command, say
    from empathy_edge.errors import VerdictFailed
    from empathy_edge.export.second_engine import compare, show
    from empathy_edge.system.files import MANIFEST

    found = compare(artifact, server=server, prompts=prompts, new_tokens=new_tokens)
    show(found)
    give_json(json_file, {"verdict": "FAIL" if found.failed else "PASS", "engines": found}, "compare-server")
    if found.failed:
        raise VerdictFailed(
            found.verdict,
            "where only a chat differs, give the app the model's template (`empathy-edge export bundle`); "
            "else try another version of it (--server), or another type (`empathy-edge export --to`)",
        )
    say(found.verdict)
    folder = Path(artifact) if Path(artifact).is_dir() else Path(artifact).parent
    if (folder / MANIFEST).is_file():
        next_command("empathy-edge", "export", "bundle", folder, "--out", "bundle")
    else:
        next_command("empathy-edge", "check", artifact, "--reference", "MODEL")
