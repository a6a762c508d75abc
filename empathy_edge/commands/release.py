"""The command that decides whether a fine-tuned model may be released."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from empathy_edge.commands import completers
from empathy_edge.commands.json_output import give_json, json_option
from empathy_edge.commands.options import (
    EXAMPLES,
    FromSettings,
    SettingsCommand,
    api_settings,
    device_option,
    out_option,
    path_type,
    takes_settings,
    template_option,
    update_option,
)
from empathy_edge.judging.questions import QUESTIONS

if TYPE_CHECKING:
    from empathy_edge.bench.release.results import ReleaseResults
    from empathy_edge.llm.api_settings import ApiSettings
    from empathy_edge.runs.settings import ReleaseSettings


def _release_settings() -> type[ReleaseSettings]:
    from empathy_edge.runs.settings import ReleaseSettings

    return ReleaseSettings


@takes_settings(
    settings=FromSettings(_release_settings, ("max_prompts", "max_new_tokens", "min_format_ok")),
    api=api_settings(),
)
@click.command(
    cls=SettingsCommand,
    epilog=EXAMPLES
    + "  empathy-edge release exported/merged --base smollm2-135m --rows rows --out released\n"
    "  empathy-edge release exported/merged --base my-model --out released\n"
    "  empathy-edge release exported/merged --base smollm2-135m --rows rows --judge openai:gpt-4o \\\n"
    "      --certificate certified/certificate.json --max-cost 5 --out released",
)
@click.argument("model", type=path_type())
@click.option("--base", required=True, shell_complete=completers.models, help="The model before fine-tuning.")
@template_option("The base's chat template, and MODEL's where it has none")
@click.option(
    "--rows",
    type=path_type(),
    help="The folder that `distill` made: test split and judge's pairs. "
    "[default: shipped prompts, and no pairs]",
)
@click.option(
    "--known",
    default="human",
    show_default=True,
    help="Whose responses in the test split are compared, too, where every dialogue has one.",
)
@click.option(
    "--judge",
    help="local:MODEL, openai:MODEL, scorer:FILE, file:VERDICTS.jsonl or ratings:FILE.jsonl. "
    "[default: a judge that learns from the pairs of --rows]",
)
@click.option(
    "--question",
    type=click.Choice(QUESTIONS),
    default="overall",
    show_default=True,
    help="What the judge is asked about two replies (prompts/judge.yaml).",
)
@click.option("--certificate", type=path_type(), help="What `judge certify` wrote for this judge.")
@out_option()
@device_option()
@update_option()
@json_option()
def release(  # noqa: PLR0913 - each is an option
    model: Path,
    base: str,
    template: str | None,
    rows: Path | None,
    known: str,
    judge: str | None,
    question: str,
    certificate: Path | None,
    out: Path,
    update: bool,
    json_file: Path | None,
    settings: ReleaseSettings,
    api: ApiSettings,
) -> int:
    """Say whether a fine-tuned model is better than its base.

    And whether it is well-formed and no less safe. MODEL is the fine-tuned one. Both answer the test split of
    --rows; where there is none, 32 shipped prompts of `check`, or --max-prompts of them. Exit code 0 for
    PASS, 1 for FAIL, 4 when it is undecided: too few prompts, or no judge that is certified. Whether
    artifacts keep what the model has is another question: `check`. docs/release.md.
    """
    from empathy_edge.bench.release.comparisons import ChosenJudge
    from empathy_edge.bench.release.stage import SHIPPED, ReleaseInputs, run
    from empathy_edge.judging.certificate import certifications
    from empathy_edge.judging.pairwise_judges import open_judge
    from empathy_edge.models.templates import tuned_with_template

    if judge is None and question != "overall":
        raise click.UsageError(
            "--question is asked of a --judge; the judge that learns from the run's pairs is asked nothing."
        )
    tuned, checkpoint = tuned_with_template(str(model), base, template)
    inputs = ReleaseInputs.of_rows(rows, base=checkpoint.path, tuned=Path(tuned), known=known)
    with open_judge(judge, api) if judge else nullcontext() as opened:
        chosen = None
        if opened is not None:
            certification = certifications(certificate, opened, [question])[question]
            chosen = ChosenJudge(opened, certification, question)
        results = run(
            inputs=inputs,
            out=out,
            settings=settings,
            chosen=chosen,
            update=update,
        )
    give_json(json_file, {"verdict": results.verdict, "results": results}, "release")
    _say_next(results, model, out, inputs.test or out / SHIPPED)
    return {"PASS": 0, "FAIL": 1, "UNDECIDED": 4}[results.verdict]


def _say_next(results: ReleaseResults, model: Path, out: Path, dialogues: Path) -> None:
    from empathy_edge.bench.release.results import BASE, FULL
    from empathy_edge.console import next_command, next_step

    responses = out / "responses"
    if results.verdict == "PASS":
        next_command("empathy-edge", "choose", model, "--device", "pixel-8", "--out", "chosen")
    elif results.verdict == "FAIL":
        next_step(f"read the responses in {responses}, and train on other rows (docs/distil.md)")
    elif not results.win_rates:
        files = (responses / f"{FULL}.jsonl", responses / f"{BASE}.jsonl")
        sheet = ("judge", "sheet", "make", *files, "--dialogues", dialogues, "--out", "sheet")
        next_command("empathy-edge", *sheet)
    else:
        next_step(
            "more prompts (--max-prompts), or a judge that `judge certify` certified (--judge, --certificate)"
        )
