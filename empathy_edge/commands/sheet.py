"""Commands that let people judge: sheets of responses, and what raters answered."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from empathy_edge.commands.groups import Group
from empathy_edge.commands.json_output import give_json, json_option
from empathy_edge.commands.options import (
    EXAMPLES,
    FromSettings,
    SettingsCommand,
    dialogues_option,
    experts_option,
    map_option,
    path_type,
    rated_option,
    takes_settings,
)

if TYPE_CHECKING:
    from empathy_edge.judging.judge_settings import CertifySettings, SheetSettings


def certify_settings() -> type[CertifySettings]:
    """The settings of certificates, which `judge certify` has, too."""
    from empathy_edge.judging.judge_settings import CertifySettings

    return CertifySettings


def _sheet_settings() -> type[SheetSettings]:
    from empathy_edge.judging.judge_settings import SheetSettings

    return SheetSettings


@click.group(
    cls=Group,
    epilog=EXAMPLES
    + "  empathy-edge judge sheet make a.jsonl b.jsonl --dialogues rows/test.jsonl --out sheet\n"
    "  empathy-edge judge sheet read anna.csv ben.csv --sheet sheet --out verdicts.jsonl",
)
def sheet() -> None:
    """Let people judge, by a CSV file or a page for the browser.

    What they see is blinded and shuffled: pairs, or single replies.
    """


_alone_option = click.option(
    "--alone",
    is_flag=True,
    help="Show each reply alone, to be rated from 1 to 9, instead of pairs; for `ratings:FILE`.",
)
_both_orders_option = click.option(
    "--both-orders",
    is_flag=True,
    help="Show each pair again, the other way round; without it flips cannot be counted.",
)
_sheet_option = click.option("--out", required=True, type=path_type(), help="A new folder.")


@takes_settings(
    settings=FromSettings(_sheet_settings, ("question", "max_prompts", "seed")),
)
@sheet.command(
    "make",
    cls=SettingsCommand,
    epilog=EXAMPLES
    + "  empathy-edge judge sheet make a.jsonl b.jsonl --dialogues rows/test.jsonl --out sheet\n"
    "  empathy-edge judge sheet make compared/responses/*.jsonl --alone --dialogues rows/test.jsonl \\\n"
    "      --max-prompts 80 --out sheet",
)
@click.argument("responses", nargs=-1, required=True, type=path_type())
@dialogues_option()
@map_option()
@_alone_option
@_both_orders_option
@_sheet_option
def make_sheet(
    responses: tuple[Path, ...],
    dialogues: Path,
    columns: dict[str, str],
    alone: bool,
    both_orders: bool,
    out: Path,
    settings: SheetSettings,
) -> None:
    """Write the sheet on which people judge RESPONSES.

    It is sheet.csv and sheet.html, of two files of RESPONSES, or with --alone of any number. A rater opens
    the page in a browser, and sends back answers.csv. Keep keys.json: `judge sheet read` needs it.
    """
    from empathy_edge.formats.dialogue import read_dialogues
    from empathy_edge.judging.response_pairs import ResponsePairs, read_responses
    from empathy_edge.judging.sheet import make_alone, make_pairs
    from empathy_edge.runs.given_data import data_file

    if not alone and len(responses) != 2:
        raise click.UsageError(
            f"{len(responses)} files of responses: pairs need two. With --alone any number is shown."
        )
    arms = [read_responses(file) for file in responses]
    spoken = read_dialogues(data_file(dialogues, columns))
    if alone:
        rows = make_alone(arms, spoken, settings, out)
    else:
        rows = make_pairs(ResponsePairs(spoken, arms[0], arms[1]), settings, out, both_orders=both_orders)
    _say_where(rows, out)


@takes_settings(
    sheet_settings=FromSettings(_sheet_settings, ("question", "seed")),
    certify_settings=FromSettings(
        certify_settings, ("max_pairs", "seed"), {"max_pairs": "--pairs"}, partial=True
    ),
)
@sheet.command(
    "certify",
    cls=SettingsCommand,
    epilog=EXAMPLES
    + "  empathy-edge judge sheet certify --data rated_responses_5way.csv --both-orders --out sheet\n"
    "  empathy-edge judge sheet certify --experts expert_annotations --question interpretations --alone \\\n"
    "      --out sheet",
)
@rated_option()
@map_option()
@experts_option()
@_alone_option
@_both_orders_option
@_sheet_option
def certify_sheet(  # noqa: PLR0913 - each is an option
    data: Path | None,
    columns: dict[str, str],
    experts: Path | None,
    alone: bool,
    both_orders: bool,
    out: Path,
    sheet_settings: SheetSettings,
    certify_settings: Callable[..., CertifySettings],
) -> None:
    """Write the sheet by which people are certified as judges.

    It asks what `judge certify` asks, with the same options.
    """
    from empathy_edge.judging.certify import pairs_for_sheet
    from empathy_edge.judging.sheet import make_alone, make_pairs
    from empathy_edge.runs.given_data import data_file

    if (data is None) == (experts is None):
        raise click.UsageError("Give --data or --experts.")
    file = None if data is None else data_file(data, columns)
    rated = pairs_for_sheet(file, experts, certify_settings(questions=(sheet_settings.question,)))
    if alone:
        rows = make_alone([rated.first, rated.second], rated.dialogues, sheet_settings, out)
    else:
        rows = make_pairs(rated, sheet_settings, out, both_orders=both_orders)
    _say_where(rows, out)


def _say_where(rows: int, out: Path) -> None:
    from empathy_edge.console import next_step, say

    say(f"{rows} to judge in {out / 'sheet.html'} and {out / 'sheet.csv'}")
    read = shlex.join(["empathy-edge", "judge", "sheet", "read", "ANSWERS.csv", "--sheet", str(out)])
    next_step(f"send {out / 'sheet.html'} to the raters, then: {read} --out verdicts.jsonl")


@sheet.command(
    "read",
    epilog=EXAMPLES + "  empathy-edge judge sheet read anna.csv ben.csv --sheet sheet --out verdicts.jsonl",
)
@click.argument("answers", nargs=-1, required=True, type=path_type())
@click.option(
    "--sheet", "folder", required=True, type=path_type(), help="The folder that `judge sheet make` wrote."
)
@click.option(
    "--out", required=True, type=path_type(), help="The new file, for `--judge file:…` or `ratings:…`."
)
@json_option()
def read_sheet(answers: tuple[Path, ...], folder: Path, out: Path, json_file: Path | None) -> None:
    """Read raters' answers and show how far they agree.

    ANSWERS are sheet.csv filled in, or what the page saved. Name each file after its rater: `judge certify`
    certifies raters by name, and a certificate holds for the same raters' other sheets.
    """
    from empathy_edge.console import next_command
    from empathy_edge.judging.sheet import read

    found = read(answers=list(answers), sheet=folder, out=out)
    give_json(json_file, found, "judge sheet read")
    judge = f"file:{out}" if "shown_first_won" in found else f"ratings:{out}"
    responses = ("FIRST.jsonl", "SECOND.jsonl", "--dialogues", "DIALOGUES.jsonl")
    next_command("empathy-edge", "judge", "compare", *responses, "--judge", judge, "--out", "compared")
