"""Every command: its options and help here, its work in the module it imports when it runs."""

from __future__ import annotations

import click

from empathy_edge import __version__
from empathy_edge.commands import (
    bench,
    chat,
    check,
    choose,
    completion,
    data,
    export,
    judge,
    phone,
    prepare,
    release,
    report,
    respond,
    score,
    train,
)
from empathy_edge.commands.groups import Program

WAYS_IN = """\
Small empathetic chat models: make one, export it for phones, check it, talk to it.

Talk to the shipped model:
  empathy-edge chat

Run the whole pipeline, from dialogues to the report (about 15 minutes):
  empathy-edge run quickstart

Export a model as a quantized file (name yours instead of the shipped one):
  empathy-edge export smollm2-135m --to gguf-q8_0 --out exported

Check that the quantized file kept the model's empathy:
  empathy-edge check exported/gguf-q8_0 --reference smollm2-135m --allow-quantized-reference --max-prompts 96

Find out which file to ship to which phone:
  empathy-edge choose smollm2-135m --device pixel-8 --allow-quantized-reference --out chosen

`empathy-edge --help` lists all commands.
"""
"""What `empathy-edge` alone prints."""


@click.group(
    cls=Program,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="empathy-edge")
@click.pass_context
def cli(context: click.Context) -> None:
    """From an empathetic large model to a small one on a phone: distil, fine-tune, export, check, measure.

    `empathy-edge` alone shows five ways to begin. `empathy-edge COMMAND --help` has examples. Every command
    takes --debug (tracebacks of errors) and --verify-inputs (hash every input again).
    """
    if context.invoked_subcommand is None:
        click.echo(WAYS_IN, nl=False)


cli.add_sections(
    {
        "The whole pipeline": (train.run, report.report),
        "Prepare data": (data.data, prepare.distill, prepare.select, prepare.own_pairs, prepare.convert),
        "Train": (train.finetune,),
        "Export": (export.export,),
        "Check": (
            check.check,
            check.baseline,
            release.release,
            respond.respond,
            judge.judge,
            score.score,
        ),
        "Measure": (bench.bench, choose.choose),
        "Chat": (chat.chat, phone.phone),
        "Look up": (report.doctor, report.devices, report.cache, prepare.ledger, completion.completion),
    }
)
