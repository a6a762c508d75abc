"""Commands about data: what a file is, and what can be done with it."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from empathy_edge.commands.groups import Group
from empathy_edge.commands.json_output import give_json, json_option
from empathy_edge.commands.options import DATA_FORMS, EXAMPLES, map_option, path_type


@click.group(
    cls=Group,
    epilog=EXAMPLES + "  empathy-edge data inspect sample\n"
    "  empathy-edge data inspect posts.csv --map utterance=text",
)
def data() -> None:
    """See what a file of dialogues holds and what it can be used for."""


@data.command(
    epilog=EXAMPLES + "  empathy-edge data inspect dialogues.jsonl\n"
    "  empathy-edge data inspect posts.csv.gz --map utterance=text --map emotion=label\n"
    "  cat prompts.txt | empathy-edge data inspect -",
    help="Say what FILE is, what it holds, and which commands can use it.\n\n"
    f"The first three dialogues are shown. FILE is {DATA_FORMS}",
)
@click.argument("file", type=path_type())
@map_option()
@json_option()
def inspect(file: Path, columns: dict[str, str], json_file: Path | None) -> None:
    from rich.markup import escape

    from empathy_edge.console import next_step, say
    from empathy_edge.runs.given_data import open_given
    from empathy_edge.runs.inspect_data import inspect_data, show
    from empathy_edge.runs.map_advice import naming_columns, unnamed_replies

    with naming_columns(("empathy-edge", "data", "inspect"), file, columns):
        found = inspect_data(file.as_posix(), open_given(file, columns), columns)
    show(found)
    if not found.has_responses and (options := unnamed_replies(file, columns)):
        say(f"No response was found. If a field holds the replies, add: {escape(shlex.join(options))}")
    give_json(json_file, found.as_json(), "data inspect")
    next_step(found.next_command)
