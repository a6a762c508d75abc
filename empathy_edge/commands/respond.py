"""The command that lets a model answer prompts."""

from __future__ import annotations

from pathlib import Path

import click

from empathy_edge.commands import completers
from empathy_edge.commands.json_output import give_json, json_option
from empathy_edge.commands.options import (
    DATA_FORMS,
    EXAMPLES,
    adapter_option,
    map_option,
    path_type,
    template_option,
)


@click.command(
    epilog=EXAMPLES
    + "  empathy-edge respond smollm2-135m --dialogues rows/test.jsonl --out responses/base.jsonl\n"
    "  empathy-edge respond smollm2-135m --adapter tuned --dialogues rows/test.jsonl \\\n"
    "      --out responses/tuned.jsonl"
)
@click.argument("model", shell_complete=completers.models)
@adapter_option("A PEFT folder to add to a checkpoint.")
@template_option()
@click.option(
    "--dialogues",
    required=True,
    type=path_type(),
    help=f"Those of the test split are answered; where there is none, all: {DATA_FORMS}",
)
@map_option()
@click.option("--max-prompts", type=click.IntRange(1), help="Answer only the first ones.")
@click.option(
    "--max-new-tokens",
    default=160,
    show_default=True,
    type=click.IntRange(1, 2048),
    help="The most tokens of a response.",
)
@click.option("--similarity", is_flag=True, help="Also measure how near in meaning the responses come.")
@click.option(
    "--out", required=True, type=path_type(), help="The JSONL to write; one that was cut off goes on."
)
@json_option()
def respond(  # noqa: PLR0913 - each is an option
    model: str,
    adapters: tuple[Path, ...],
    template: str | None,
    dialogues: Path,
    columns: dict[str, str],
    max_prompts: int | None,
    max_new_tokens: int,
    similarity: bool,
    out: Path,
    json_file: Path | None,
) -> None:
    """Write a model's responses to the test split.

    MODEL answers greedily, and the format of its responses is checked.
    """
    from empathy_edge.bench.release.arm import run
    from empathy_edge.console import next_command
    from empathy_edge.models.templates import checkpoint_with_template, name_with_template
    from empathy_edge.runs.given_data import data_file

    file = data_file(dialogues, columns)
    if adapters and template:
        opened = str(checkpoint_with_template(model, template, adapters).path)
    else:
        opened = name_with_template(model, template)
    figures = run(opened, list(adapters), file, out, max_prompts, max_new_tokens, similarity)
    give_json(json_file, {"arm": out.stem, "figures": figures}, "respond")
    judged = ("--dialogues", dialogues, "--judge", "local:JUDGE", "--out", "compared")
    next_command("empathy-edge", "judge", "compare", out, "OTHER.jsonl", *judged)
