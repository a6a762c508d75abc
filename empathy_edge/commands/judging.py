"""Commands that say how empathetic responses are: scores, comparisons, sheets for people, win rates, the gate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from empathy_edge.commands.options import EXAMPLES, api_options, out_option, path_type, update_option

QUESTIONS = (
    "overall", "cognitive", "affective", "compassionate", "emotional-reactions", "interpretations", "explorations",
)  # fmt: skip
"""What can be asked about two replies, or of one alone: the keys of prompts/judge.yaml and prompts/alone.yaml."""


def _question_option(**more: Any) -> Any:
    return click.option(
        "--question",
        type=click.Choice(QUESTIONS),
        help="What is asked about the two replies (prompts/judge.yaml), or of one alone (prompts/alone.yaml).",
        **more,
    )


@click.command(
    epilog=EXAMPLES
    + "  empathy-edge certify local:judge.gguf --data rated_responses_5way.csv --out certificate\n"
    "  empathy-edge certify local:judge.gguf --experts expert_annotations --out beside-experts\n"
    "  empathy-edge certify ratings:ratings.jsonl --experts expert_annotations --question interpretations --out certificate\n"
    "  empathy-edge certify openai:gpt-4o --data rated_responses_5way.csv --pairs 100 --max-cost 2 --out certificate"
)
@click.argument("judge")
@click.option("--data", type=path_type(), help="Dialogues with rated responses, CSV or JSONL.")
@click.option(
    "--experts",
    type=path_type(),
    help="Instead of --data: a folder of experts' annotations (EPITOME's mechanisms, arXiv 2506.10150's layout).",
)
@_question_option(multiple=True, default=("overall",), show_default=True)
@click.option(
    "--pairs", default=200, show_default=True, type=click.IntRange(40), help="At most so many pairs."
)
@click.option("--seed", default=0, show_default=True)
@api_options
@out_option()
def certify(
    judge: str,
    data: Path | None,
    experts: Path | None,
    question: tuple[str, ...],
    pairs: int,
    seed: int,
    base_url: str | None,
    parallel: int,
    max_calls: int | None,
    max_cost: float | None,
    out: Path,
) -> None:
    """Test JUDGE (local:MODEL, openai:MODEL, scorer:FILE, file:FILE, ratings:FILE) on pairs that people rated 3 and 1, or that experts told apart.

    Writes its certificate; with --experts the experts' own agreement stands beside the judge's. People are
    tested by what they answered on a sheet that `sheet certify` wrote.
    """
    from empathy_edge.judging.certify import CertifySettings, certify_beside_experts
    from empathy_edge.judging.certify import certify as run_certify
    from empathy_edge.judging.pairwise_judges import open_judge
    from empathy_edge.llm.api_settings import ApiSettings

    if (data is None) == (experts is None):
        raise click.UsageError("Give --data or --experts.")
    api = ApiSettings(base_url=base_url, parallel=parallel, max_calls=max_calls, max_cost=max_cost)
    with open_judge(judge, api) as opened:
        if experts is not None:
            asked = (
                list(question)
                if question != ("overall",)
                else ["emotional-reactions", "interpretations", "explorations"]
            )
            certify_beside_experts(opened, experts, CertifySettings(asked, pairs, seed), out)
        elif data is not None:
            run_certify(opened, data, CertifySettings(question, pairs, seed), out)


@click.command(
    epilog=EXAMPLES
    + "  empathy-edge compare responses/tuned.jsonl responses/base.jsonl --dialogues rows/test.jsonl \\\n"
    "      --judge local:judge.gguf --question affective --question cognitive --out compared\n"
    "  empathy-edge compare a.jsonl b.jsonl --dialogues rows/test.jsonl --judge local:judge.gguf --judge scorer:scorer.json --out compared\n"
    "  empathy-edge compare a.jsonl b.jsonl --dialogues rows/test.jsonl --judge file:verdicts.jsonl --out compared"
)
@click.argument("first", type=path_type())
@click.argument("second", type=path_type())
@click.option("--dialogues", required=True, type=path_type(), help="What was responded to.")
@click.option(
    "--judge",
    required=True,
    multiple=True,
    help="local:MODEL, openai:MODEL, scorer:FILE, file:VERDICTS.jsonl or ratings:FILE.jsonl; several, to see how far they agree.",
)
@_question_option(multiple=True, default=("overall",), show_default=True)
@api_options
@click.option("--certificate", type=path_type(), multiple=True, help="What `certify` wrote for a judge.")
@out_option()
def compare(
    first: Path,
    second: Path,
    dialogues: Path,
    judge: tuple[str, ...],
    question: tuple[str, ...],
    certificate: tuple[Path, ...],
    out: Path,
    **limits: Any,
) -> None:
    """Compare the responses of two files that `respond` wrote: both orders, ties, intervals, and what could have faked it.

    Several judges are asked one after the other, and their agreement is shown (weighted kappa,
    Krippendorff's alpha). Verdicts are kept in --out; run again, or with another question, it asks only
    what it does not know yet.
    """
    from empathy_edge.console import say
    from empathy_edge.judging.certificate import Certifications, certificate_of, certifications
    from empathy_edge.judging.compare import run as run_compare
    from empathy_edge.judging.pairwise_judges import Judge, open_judge
    from empathy_edge.llm.api_settings import ApiSettings

    if len(certificate) > len(judge):
        raise click.UsageError("More certificates than judges; give each judge its own.")

    def opened() -> Iterator[tuple[Judge, Certifications]]:
        unused = list(certificate)
        for spec in judge:  # one after the other: two large models need not be in memory together
            with open_judge(spec, ApiSettings(**limits)) as one:
                given = certificate_of(one, unused) if len(judge) > 1 else next(iter(unused), None)
                yield one, certifications(given, one, question)
                unused = [file for file in unused if file != given]
        for file in unused:
            say(
                f"  [yellow]Warning:[/] {file}: is of none of these judges, as they are now; it was not used."
            )

    run_compare(
        first=first, second=second, dialogues=dialogues, judges=opened(), questions=list(question), out=out
    )


@click.group(
    epilog=EXAMPLES + "  empathy-edge sheet make a.jsonl b.jsonl --dialogues rows/test.jsonl --out sheet\n"
    "  empathy-edge sheet read anna.csv ben.csv --sheet sheet --out verdicts.jsonl"
)
def sheet() -> None:
    """Let people judge: blinded, shuffled pairs or single replies as CSV and as a page for the keyboard, and their answers read back."""


_alone_option = click.option(
    "--alone",
    is_flag=True,
    help="Show each reply alone, to be rated from 1 to 9, instead of pairs; for `ratings:FILE`.",
)
_both_orders_option = click.option(
    "--both-orders",
    is_flag=True,
    help="Show each pair again, the other way round; without it nobody knows of flips.",
)
_sheet_option = click.option("--out", required=True, type=path_type(), help="A new folder.")


@sheet.command(
    "make",
    epilog=EXAMPLES + "  empathy-edge sheet make a.jsonl b.jsonl --dialogues rows/test.jsonl --out sheet\n"
    "  empathy-edge sheet make compared/responses/*.jsonl --alone --dialogues rows/test.jsonl --max-prompts 80 --out sheet",
)
@click.argument("responses", nargs=-1, required=True, type=path_type())
@click.option("--dialogues", required=True, type=path_type(), help="What was responded to.")
@_question_option(default="overall", show_default=True)
@_alone_option
@_both_orders_option
@click.option("--max-prompts", type=click.IntRange(1), help="Draw so many prompts.")
@click.option("--seed", default=0, show_default=True, help="For the draw and the order.")
@_sheet_option
def make_sheet(
    responses: tuple[Path, ...],
    dialogues: Path,
    question: str,
    alone: bool,
    both_orders: bool,
    max_prompts: int | None,
    seed: int,
    out: Path,
) -> None:
    """Write sheet.csv and sheet.html of two files of RESPONSES, or with --alone of any number.

    A rater opens the page in a browser, and sends back answers.csv. Keep keys.json: `sheet read` needs it.
    """
    from empathy_edge.console import say
    from empathy_edge.formats.dialogue import read_dialogues
    from empathy_edge.judging import sheet as sheets
    from empathy_edge.judging.responses import ResponsePairs, read_responses

    if not alone and len(responses) != 2:
        raise click.UsageError(
            f"{len(responses)} files of responses: pairs need two. With --alone any number is shown."
        )
    arms = [read_responses(file) for file in responses]
    spoken = read_dialogues(dialogues)
    settings = sheets.SheetSettings(question, max_prompts, seed)
    if alone:
        rows = sheets.make_alone(arms, spoken, settings, out)
    else:
        rows = sheets.make_pairs(ResponsePairs(spoken, *arms), settings, out, both_orders=both_orders)
    say(f"{rows} to judge in {out / 'sheet.html'} and {out / 'sheet.csv'}")


@sheet.command(
    "certify",
    epilog=EXAMPLES
    + "  empathy-edge sheet certify --data rated_responses_5way.csv --both-orders --out sheet\n"
    "  empathy-edge sheet certify --experts expert_annotations --question interpretations --alone --out sheet",
)
@click.option("--data", type=path_type(), help="Dialogues with rated responses, CSV or JSONL.")
@click.option("--experts", type=path_type(), help="Instead of --data: a folder of experts' annotations.")
@_question_option(default="overall", show_default=True)
@click.option(
    "--pairs", default=200, show_default=True, type=click.IntRange(40), help="At most so many pairs."
)
@_alone_option
@_both_orders_option
@click.option("--seed", default=0, show_default=True)
@_sheet_option
def certify_sheet(
    data: Path | None,
    experts: Path | None,
    question: str,
    pairs: int,
    alone: bool,
    both_orders: bool,
    seed: int,
    out: Path,
) -> None:
    """Write the sheet by which people, or whoever fills it in, can be certified: what `certify` asks, with the same options."""
    from empathy_edge.console import say
    from empathy_edge.judging import sheet as sheets
    from empathy_edge.judging.certify import CertifySettings, pairs_for_sheet

    if (data is None) == (experts is None):
        raise click.UsageError("Give --data or --experts.")
    rated = pairs_for_sheet(data, experts, CertifySettings([question], pairs, seed))
    settings = sheets.SheetSettings(question, seed=seed)
    if alone:
        rows = sheets.make_alone([rated.first, rated.second], rated.dialogues, settings, out)
    else:
        rows = sheets.make_pairs(rated, settings, out, both_orders=both_orders)
    say(f"{rows} to judge in {out / 'sheet.html'} and {out / 'sheet.csv'}")


@sheet.command(
    "read", epilog=EXAMPLES + "  empathy-edge sheet read anna.csv ben.csv --sheet sheet --out verdicts.jsonl"
)
@click.argument("answers", nargs=-1, required=True, type=path_type())
@click.option(
    "--sheet", "folder", required=True, type=path_type(), help="The folder that `sheet make` wrote."
)
@click.option(
    "--out", required=True, type=path_type(), help="The new file, for `--judge file:…` or `ratings:…`."
)
def read_sheet(answers: tuple[Path, ...], folder: Path, out: Path) -> None:
    """Read raters' ANSWERS (sheet.csv filled in, or what the page saved) and show how far they agree.

    Name each file after its rater: who judged is what `certify` certifies, and a certificate holds for the
    same raters' other sheets.
    """
    from empathy_edge.judging.sheet import read

    read(answers=list(answers), sheet=folder, out=out)


@click.command(epilog=EXAMPLES + "  empathy-edge power --margin 0.05 --ties 0.3")
@click.option("--margin", default=0.05, show_default=True, type=click.FloatRange(0.005, 0.5))
@click.option(
    "--ties", default=0.0, show_default=True, type=click.FloatRange(0, 0.99), help="Share of ties expected."
)
@click.option("--power", "chance", default=0.8, show_default=True, type=click.FloatRange(0.5, 0.999))
def power(margin: float, ties: float, chance: float) -> None:
    """How many prompts show that an artifact loses no more than MARGIN of the win rate against its original."""
    from empathy_edge.judging.statistics import prompts_needed

    click.echo(
        f"{prompts_needed(margin, ties, chance)} prompts show, with a chance of {chance:.0%}, that an artifact as good as its "
        f"original wins at least {0.5 - margin:.1%} against it (one-sided 95 %, {ties:.0%} ties)."
    )


@click.command(
    epilog=EXAMPLES + "  empathy-edge winrate --rows rows --base smollm2-135m --checkpoint exported/merged "
    "exported/gguf-q4_0 --out compared\n"
    "  empathy-edge winrate --rows rows --base smollm2-135m --checkpoint exported/merged exported/gguf-q4_0 \\\n"
    "      --judge openai:gpt-4o --certificate certified/certificate.json --max-cost 5 --out compared"
)
@click.argument("artifacts", nargs=-1, type=path_type())
@click.option(
    "--rows",
    required=True,
    type=path_type(),
    help="The folder that `distill` made: test split and judge's pairs.",
)
@click.option("--base", required=True, help="The model before fine-tuning.")
@click.option("--checkpoint", required=True, type=path_type(), help="The merged checkpoint.")
@click.option("--max-prompts", type=click.IntRange(1), help="Use only the first prompts of the test split.")
@click.option(
    "--judge",
    help="local:MODEL, openai:MODEL, scorer:FILE, file:VERDICTS.jsonl or ratings:FILE.jsonl. [default: a scorer that learns the run's pairs]",
)
@_question_option(default="overall", show_default=True)
@api_options
@click.option("--certificate", type=path_type(), help="What `certify` wrote for this judge.")
@click.option(
    "--scorer",
    type=path_type(),
    help="A scorer (`score train`, `score tune`), to count severe flips, 3 to 1.",
)
@out_option()
@update_option()
def winrate(
    artifacts: tuple[Path, ...],
    rows: Path,
    base: str,
    checkpoint: Path,
    max_prompts: int | None,
    judge: str | None,
    question: str,
    certificate: Path | None,
    scorer: Path | None,
    out: Path,
    update: bool,
    **limits: Any,
) -> None:
    """Let base, fine-tuned model and ARTIFACTS answer the test split, and compare the responses pairwise."""
    from contextlib import nullcontext

    from empathy_edge.bench.gate.judged_pairs import ChosenJudge
    from empathy_edge.bench.gate.winrate import WinrateInputs
    from empathy_edge.bench.gate.winrate import run as run_stage
    from empathy_edge.judging.certificate import certifications
    from empathy_edge.judging.pairwise_judges import open_judge
    from empathy_edge.llm.api_settings import ApiSettings
    from empathy_edge.models.find import checkpoint_of
    from empathy_edge.runs.recipe import GateSettings, WinrateSettings

    if judge is None and question != "overall":
        raise click.UsageError(
            "--question is asked of a --judge; the scorer that learns the run's pairs is asked nothing."
        )
    arms = {
        "base": checkpoint_of(base).path,
        "fine-tuned": checkpoint,
        **{item.name: item for item in artifacts},
    }
    inputs = WinrateInputs(
        arms=arms,
        test=rows / "test.jsonl",
        pairs=rows / "preference.jsonl",
        control=rows / "control.jsonl",
        scorer=scorer,
    )
    with open_judge(judge, ApiSettings(**limits)) if judge else nullcontext() as opened:
        chosen = None
        if opened:
            certification = certifications(certificate, opened, [question])[question]
            chosen = ChosenJudge(opened, certification, question)
        run_stage(
            inputs=inputs,
            out=out,
            settings=WinrateSettings(max_prompts=max_prompts),
            minimum_accuracy=GateSettings().min_judge_accuracy,
            chosen=chosen,
            update=update,
        )


@click.command(
    epilog=EXAMPLES + "  empathy-edge gate compared --out judged\n"
    "  empathy-edge gate compared --verify exported/verify --min-win-rate 0.47 --out judged"
)
@click.argument("compared", type=path_type())
@click.option(
    "--verify", type=path_type(), help="What `verify` or `export` measured, to tell where a loss comes from."
)
@click.option(
    "--min-win-rate", type=click.FloatRange(0, 1), help="Against the fine-tuned model; lower bound."
)
@click.option(
    "--min-gain-retained", type=click.FloatRange(0, 1), help="Of the gain over the base; lower bound."
)
@click.option(
    "--min-format-ok", type=click.FloatRange(0, 1), help="The share of responses that must be well-formed."
)
@out_option()
@update_option()
def gate(compared: Path, verify: Path | None, out: Path, update: bool, **bounds: float | None) -> int:
    """PASS, FAIL or INCONCLUSIVE for each artifact in the folder COMPARED that `winrate` made.

    Exit code 0 when all pass, 1 for a FAIL, 4 when something is inconclusive: too few prompts, a judge that
    is not certified, or controls that did not behave. Writes gate.json, gate.md, junit.xml and worse.md
    (the dialogues that got worse). The bounds and their reasons: docs/gate.md.
    """
    from empathy_edge.bench.gate.verdict import run as run_stage
    from empathy_edge.errors import VerdictFailed
    from empathy_edge.runs.recipe import GateSettings

    settings = GateSettings(**{name: value for name, value in bounds.items() if value is not None})
    results = run_stage(winrate=compared, verify=verify, out=out, settings=settings, update=update)
    verdict = results.worst()
    if verdict == "FAIL":
        raise VerdictFailed("The gate says FAIL.")
    return 0 if verdict == "PASS" else 4


COMMANDS = (certify, compare, sheet, power, winrate, gate)
"""In the order of the road."""
