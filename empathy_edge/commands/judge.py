"""Commands about judges of responses: test one, compare two models' responses by some."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from empathy_edge.commands.groups import Group
from empathy_edge.commands.json_output import give_json, json_option
from empathy_edge.commands.options import (
    EXAMPLES,
    FromSettings,
    SettingsCommand,
    api_settings,
    dialogues_option,
    experts_option,
    map_option,
    out_option,
    path_type,
    rated_option,
    takes_settings,
)
from empathy_edge.commands.sheet import certify_settings, sheet
from empathy_edge.judging.questions import QUESTIONS, RATED_BY_EXPERTS

if TYPE_CHECKING:
    from empathy_edge.judging.certificate import Certifications
    from empathy_edge.judging.judge_settings import CertifySettings
    from empathy_edge.judging.pairwise_judges import Judge
    from empathy_edge.llm.api_settings import ApiSettings


@click.group(
    cls=Group,
    epilog=EXAMPLES
    + "  empathy-edge judge certify local:judge.gguf --data rated_responses_5way.csv --out certificate\n"
    "  empathy-edge judge compare responses/tuned.jsonl responses/base.jsonl \\\n"
    "      --dialogues rows/test.jsonl --judge local:judge.gguf --out compared",
)
def judge() -> None:
    """Test judges, compare responses by them, let people judge."""


@takes_settings(
    settings=FromSettings(
        certify_settings,
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
@rated_option()
@map_option()
@experts_option()
@out_option()
@json_option()
def certify(  # noqa: PLR0913 - each is an option
    spec: str,
    data: Path | None,
    columns: dict[str, str],
    experts: Path | None,
    out: Path,
    json_file: Path | None,
    settings: CertifySettings,
    api: ApiSettings,
) -> None:
    """Test a judge on rated pairs and write its certificate.

    The pairs are those that people rated 3 and 1, or that experts told apart. JUDGE is local:MODEL,
    openai:MODEL, scorer:FILE, file:FILE or ratings:FILE. With --experts the experts' own agreement stands
    beside the judge's. People are tested by what they answered on a sheet that `judge sheet certify` wrote.
    """
    from empathy_edge.console import next_command
    from empathy_edge.judging.certificate import FILE
    from empathy_edge.judging.certify import certify as certify_on_ratings
    from empathy_edge.judging.certify import certify_beside_experts
    from empathy_edge.judging.pairwise_judges import open_judge
    from empathy_edge.runs.given_data import data_file

    if (data is None) == (experts is None):
        raise click.UsageError("Give --data or --experts.")
    with open_judge(spec, api) as opened:
        if data is not None:
            found = certify_on_ratings(opened, data_file(data, columns), settings, out)
        else:
            assert experts is not None
            if settings.questions == ("overall",):
                settings = settings.model_copy(update={"questions": RATED_BY_EXPERTS})
            found = certify_beside_experts(opened, experts, settings, out)
    give_json(json_file, found, "judge certify")
    responses = ("FIRST.jsonl", "SECOND.jsonl", "--dialogues", "DIALOGUES.jsonl")
    judged = ("--judge", spec, "--certificate", out / FILE, "--out", "compared")
    next_command("empathy-edge", "judge", "compare", *responses, *judged)


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
@dialogues_option()
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
@json_option()
def compare(  # noqa: PLR0913 - each is an option
    first: Path,
    second: Path,
    dialogues: Path,
    columns: dict[str, str],
    judges: tuple[str, ...],
    question: tuple[str, ...],
    certificates: tuple[Path, ...],
    out: Path,
    json_file: Path | None,
    api: ApiSettings,
) -> None:
    """Compare the responses of two models by judges.

    FIRST and SECOND are files that `respond` wrote. Pairs are shown in both orders; ties, intervals and
    biases are given. Several judges are asked one after the other, and their agreement is shown (weighted
    kappa, Krippendorff's alpha). Verdicts are kept in --out; run again, or with another question, it asks
    only what it does not know yet.
    """
    from empathy_edge.console import next_command
    from empathy_edge.judging.compare import run
    from empathy_edge.runs.given_data import data_file

    if len(certificates) > len(judges):
        raise click.UsageError("More certificates than judges; give each judge its own.")
    # Closed here also after an error: left to the end of the program, a judge's loop never ends.
    with closing(_open_each(judges, certificates, question, api)) as opened:
        found = run(
            first=first,
            second=second,
            dialogues=data_file(dialogues, columns),
            judges=opened,
            questions=list(question),
            out=out,
        )
    give_json(json_file, found, "judge compare")
    if certificates:
        said = ("--dialogues", dialogues, "--out", "sheet")
        next_command("empathy-edge", "judge", "sheet", "make", first, second, *said)
    else:
        rated = ("--data", "RATED.csv", "--out", "certificate")
        next_command("empathy-edge", "judge", "certify", judges[0], *rated)


def _open_each(
    judges: Sequence[str], certificates: Sequence[Path], questions: Sequence[str], api: ApiSettings
) -> Generator[tuple[Judge, Certifications]]:
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


judge.add_command(sheet)
