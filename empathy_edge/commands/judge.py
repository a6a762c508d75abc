"""Commands that compare responses: replies of a model, judges and their certificates, sheets for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from empathy_edge.commands.options import (
    DATA_FORMS,
    EXAMPLES,
    FromSettings,
    SettingsCommand,
    api_settings,
    map_option,
    out_option,
    path_type,
    takes_settings,
    template_option,
)
from empathy_edge.judging.questions import QUESTIONS, RATED_BY_EXPERTS

if TYPE_CHECKING:
    from empathy_edge.judging.certificate import Certifications
    from empathy_edge.judging.certify import CertifySettings
    from empathy_edge.judging.pairwise_judges import Judge
    from empathy_edge.judging.sheet import SheetSettings
    from empathy_edge.llm.api_settings import ApiSettings


def _certify_settings() -> type[CertifySettings]:
    from empathy_edge.judging.certify import CertifySettings

    return CertifySettings


def _sheet_settings() -> type[SheetSettings]:
    from empathy_edge.judging.sheet import SheetSettings

    return SheetSettings


_data_option = click.option(
    "--data", type=path_type(), help=f"Dialogues with responses rated 3 and 1: {DATA_FORMS}"
)
_experts_option = click.option(
    "--experts",
    type=path_type(),
    help="Instead of --data: a folder of experts' annotations (EPITOME's mechanisms, in the layout of "
    "arXiv 2506.10150).",
)
_dialogues_option = click.option(
    "--dialogues", required=True, type=path_type(), help="What was responded to: the file of `respond`."
)


@click.command(
    epilog=EXAMPLES
    + "  empathy-edge respond smollm2-135m --dialogues rows/test.jsonl --out responses/base.jsonl\n"
    "  empathy-edge respond smollm2-135m --adapter tuned/sft/adapter --adapter tuned/dpo/adapter \\\n"
    "      --dialogues rows/test.jsonl --out responses/tuned.jsonl"
)
@click.argument("model")
@click.option(
    "--adapter", "adapters", multiple=True, type=path_type(), help="A PEFT folder to add to a checkpoint."
)
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
    "--max-new-tokens", default=160, show_default=True, type=click.IntRange(1, 2048), help="Of a response."
)
@click.option("--similarity", is_flag=True, help="Also measure how near in meaning the responses come.")
@click.option(
    "--out", required=True, type=path_type(), help="The JSONL to write; one that was cut off goes on."
)
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
) -> None:
    """Let MODEL answer the test split, greedily, and check the format of its responses."""
    from empathy_edge.bench.release.arm import run
    from empathy_edge.models.templates import checkpoint_with_template, name_with_template
    from empathy_edge.runs.given_data import data_file

    file = data_file(dialogues, columns)
    if adapters and template:
        opened = str(checkpoint_with_template(model, template, adapters).path)
    else:
        opened = name_with_template(model, template)
    run(opened, list(adapters), file, out, max_prompts, max_new_tokens, similarity)


@click.group(
    epilog=EXAMPLES
    + "  empathy-edge judge certify local:judge.gguf --data rated_responses_5way.csv --out certificate\n"
    "  empathy-edge judge compare responses/tuned.jsonl responses/base.jsonl \\\n"
    "      --dialogues rows/test.jsonl --judge local:judge.gguf --out compared"
)
def judge() -> None:
    """Judges of responses: certify one, compare two models' responses, let people judge."""


@takes_settings(
    settings=FromSettings(
        _certify_settings,
        ("questions", "max_pairs", "seed"),
        {"questions": "--question", "max_pairs": "--pairs"},
    ),
    api=api_settings(),
)
@judge.command(
    cls=SettingsCommand,
    epilog=EXAMPLES
    + "  empathy-edge judge certify local:judge.gguf --data rated_responses_5way.csv --out certificate\n"
    "  empathy-edge judge certify local:judge.gguf --experts expert_annotations --out beside-experts\n"
    "  empathy-edge judge certify ratings:ratings.jsonl --experts expert_annotations \\\n"
    "      --question interpretations --out certificate\n"
    "  empathy-edge judge certify openai:gpt-4o --data rated_responses_5way.csv --pairs 100 --max-cost 2 \\\n"
    "      --out certificate",
)
@click.argument("spec", metavar="JUDGE")
@_data_option
@map_option()
@_experts_option
@out_option()
def certify(
    spec: str,
    data: Path | None,
    columns: dict[str, str],
    experts: Path | None,
    out: Path,
    settings: CertifySettings,
    api: ApiSettings,
) -> None:
    """Test a judge on pairs that people rated 3 and 1, or that experts told apart; writes its certificate.

    JUDGE is local:MODEL, openai:MODEL, scorer:FILE, file:FILE or ratings:FILE. With --experts the experts'
    own agreement stands beside the judge's. People are tested by what they answered on a sheet that `judge
    sheet certify` wrote.
    """
    from empathy_edge.judging.certify import certify as certify_on_ratings
    from empathy_edge.judging.certify import certify_beside_experts
    from empathy_edge.judging.pairwise_judges import open_judge
    from empathy_edge.runs.given_data import data_file

    if (data is None) == (experts is None):
        raise click.UsageError("Give --data or --experts.")
    with open_judge(spec, api) as opened:
        if data is not None:
            certify_on_ratings(opened, data_file(data, columns), settings, out)
        elif experts is not None:
            if settings.questions == ("overall",):
                settings = settings.model_copy(update={"questions": RATED_BY_EXPERTS})
            certify_beside_experts(opened, experts, settings, out)


@takes_settings(api=api_settings())
@judge.command(
    cls=SettingsCommand,
    epilog=EXAMPLES + "  empathy-edge judge compare responses/tuned.jsonl responses/base.jsonl \\\n"
    "      --dialogues rows/test.jsonl --judge local:judge.gguf \\\n"
    "      --question affective --question cognitive --out compared\n"
    "  empathy-edge judge compare a.jsonl b.jsonl --dialogues rows/test.jsonl --judge local:judge.gguf \\\n"
    "      --judge scorer:scorer.json --out compared\n"
    "  empathy-edge judge compare a.jsonl b.jsonl --dialogues rows/test.jsonl \\\n"
    "      --judge file:verdicts.jsonl --out compared",
)
@click.argument("first", type=path_type())
@click.argument("second", type=path_type())
@_dialogues_option
@map_option()
@click.option(
    "--judge",
    "judges",
    required=True,
    multiple=True,
    help="local:MODEL, openai:MODEL, scorer:FILE, file:VERDICTS.jsonl or ratings:FILE.jsonl; several, to "
    "see how far they agree.",
)
@click.option(
    "--question",
    multiple=True,
    type=click.Choice(QUESTIONS),
    default=("overall",),
    show_default=True,
    help="What is asked of the two replies (prompts/judge.yaml).",
)
@click.option(
    "--certificate",
    "certificates",
    type=path_type(),
    multiple=True,
    help="What `judge certify` wrote for a judge.",
)
@out_option()
def compare(  # noqa: PLR0913 - each is an option
    first: Path,
    second: Path,
    dialogues: Path,
    columns: dict[str, str],
    judges: tuple[str, ...],
    question: tuple[str, ...],
    certificates: tuple[Path, ...],
    out: Path,
    api: ApiSettings,
) -> None:
    """Compare the responses of two files that `respond` wrote: both orders, ties, intervals, biases.

    Several judges are asked one after the other, and their agreement is shown (weighted kappa, Krippendorff's
    alpha). Verdicts are kept in --out; run again, or with another question, it asks only what it does not
    know yet.
    """
    from empathy_edge.judging.compare import run
    from empathy_edge.runs.given_data import data_file

    if len(certificates) > len(judges):
        raise click.UsageError("More certificates than judges; give each judge its own.")
    run(
        first=first,
        second=second,
        dialogues=data_file(dialogues, columns),
        judges=_open_each(judges, certificates, question, api),
        questions=list(question),
        out=out,
    )


def _open_each(
    judges: Sequence[str], certificates: Sequence[Path], questions: Sequence[str], api: ApiSettings
) -> Iterator[tuple[Judge, Certifications]]:
    """Each judge with what certifies it; one after the other, as two large models may not fit into memory."""
    from empathy_edge.console import say
    from empathy_edge.judging.certificate import certificate_of, certifications
    from empathy_edge.judging.pairwise_judges import open_judge

    unused = list(certificates)
    for spec in judges:
        with open_judge(spec, api) as judge:
            given = certificate_of(judge, unused) if len(judges) > 1 else next(iter(unused), None)
            yield judge, certifications(given, judge, questions)
            unused = [file for file in unused if file != given]
    for file in unused:
        say(f"  [yellow]Warning:[/] {file}: is of none of these judges, as they are now; it was not used.")


@judge.group(
    epilog=EXAMPLES
    + "  empathy-edge judge sheet make a.jsonl b.jsonl --dialogues rows/test.jsonl --out sheet\n"
    "  empathy-edge judge sheet read anna.csv ben.csv --sheet sheet --out verdicts.jsonl"
)
def sheet() -> None:
    """Let people judge: blinded, shuffled pairs or single replies, as CSV and as a page for the browser."""


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
@_dialogues_option
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
    """Write sheet.csv and sheet.html of two files of RESPONSES, or with --alone of any number.

    A rater opens the page in a browser, and sends back answers.csv. Keep keys.json: `judge sheet read` needs
    it.
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
        _certify_settings, ("max_pairs", "seed"), {"max_pairs": "--pairs"}, partial=True
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
@_data_option
@map_option()
@_experts_option
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
    """Write the sheet by which people are certified: what `judge certify` asks, with the same options."""
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
    from empathy_edge.console import say

    say(f"{rows} to judge in {out / 'sheet.html'} and {out / 'sheet.csv'}")


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
def read_sheet(answers: tuple[Path, ...], folder: Path, out: Path) -> None:
    """Read raters' ANSWERS (sheet.csv filled in, or what the page saved) and show how far they agree.

    Name each file after its rater: `judge certify` certifies raters by name, and a certificate holds for the
    same raters' other sheets.
    """
    from empathy_edge.judging.sheet import read

    read(answers=list(answers), sheet=folder, out=out)


COMMANDS = (respond, judge)
