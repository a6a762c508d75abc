"""Commands that decide whether artifacts kept what fine-tuning gave."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from empathy_edge.commands.options import (
    EXAMPLES,
    FromSettings,
    SettingsCommand,
    api_settings,
    out_option,
    path_type,
    takes_settings,
    update_option,
)
from empathy_edge.judging.questions import QUESTIONS

if TYPE_CHECKING:
    from empathy_edge.llm.api_settings import ApiSettings
    from empathy_edge.runs.settings import GateSettings, WinrateSettings


def _winrate_settings() -> type[WinrateSettings]:
    from empathy_edge.runs.settings import WinrateSettings

    return WinrateSettings


def _gate_settings() -> type[GateSettings]:
    from empathy_edge.runs.settings import GateSettings

    return GateSettings


@takes_settings(settings=FromSettings(_winrate_settings, ("max_prompts",)), api=api_settings())
@click.command(
    cls=SettingsCommand,
    epilog=EXAMPLES + "  empathy-edge winrate --rows rows --base smollm2-135m --checkpoint exported/merged "
    "exported/gguf-q4_0 --out compared\n"
    "  empathy-edge winrate --rows rows --base smollm2-135m --checkpoint exported/merged \\\n"
    "      exported/gguf-q4_0 --judge openai:gpt-4o --certificate certified/certificate.json \\\n"
    "      --max-cost 5 --out compared",
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
@click.option(
    "--judge",
    help="local:MODEL, openai:MODEL, scorer:FILE, file:VERDICTS.jsonl or ratings:FILE.jsonl. "
    "[default: a judge that learns from the run's own pairs]",
)
@click.option(
    "--question",
    type=click.Choice(QUESTIONS),
    default="overall",
    show_default=True,
    help="What the judge is asked about two replies (prompts/judge.yaml).",
)
@click.option("--certificate", type=path_type(), help="What `certify` wrote for this judge.")
@click.option(
    "--scorer",
    type=path_type(),
    help="A scorer (`score train`, `score tune`), to count severe flips, 3 to 1.",
)
@out_option()
@update_option()
def winrate(  # noqa: PLR0913 - each is an option
    artifacts: tuple[Path, ...],
    rows: Path,
    base: str,
    checkpoint: Path,
    judge: str | None,
    question: str,
    certificate: Path | None,
    scorer: Path | None,
    out: Path,
    update: bool,
    settings: WinrateSettings,
    api: ApiSettings,
) -> None:
    """Let base, fine-tuned model and ARTIFACTS answer the test split, and compare the responses pairwise."""
    from empathy_edge.bench.gate.judged_pairs import ChosenJudge
    from empathy_edge.bench.gate.winrate import WinrateInputs, run
    from empathy_edge.judging.certificate import certifications
    from empathy_edge.judging.pairwise_judges import open_judge
    from empathy_edge.models.find import checkpoint_of
    from empathy_edge.runs.settings import GateSettings

    if judge is None and question != "overall":
        raise click.UsageError(
            "--question is asked of a --judge; the judge that learns from the run's pairs is asked nothing."
        )
    arms = {"base": checkpoint_of(base).path, "fine-tuned": checkpoint}
    arms |= {item.name: item for item in artifacts}
    with open_judge(judge, api) if judge else nullcontext() as opened:
        chosen = None
        if opened is not None:
            certification = certifications(certificate, opened, [question])[question]
            chosen = ChosenJudge(opened, certification, question)
        run(
            inputs=WinrateInputs(
                arms=arms,
                test=rows / "test.jsonl",
                pairs=rows / "preference.jsonl",
                control=rows / "control.jsonl",
                scorer=scorer,
            ),
            out=out,
            settings=settings,
            minimum_accuracy=GateSettings().min_judge_accuracy,
            chosen=chosen,
            update=update,
        )


@takes_settings(settings=FromSettings(_gate_settings, ("min_win_rate", "min_gain_retained", "min_format_ok")))
@click.command(
    cls=SettingsCommand,
    epilog=EXAMPLES + "  empathy-edge gate compared --out judged\n"
    "  empathy-edge gate compared --verify exported/verify --min-win-rate 0.47 --out judged",
)
@click.argument("compared", type=path_type())
@click.option(
    "--verify", type=path_type(), help="What `verify` or `export` measured, to tell where a loss comes from."
)
@out_option()
@update_option()
def gate(compared: Path, verify: Path | None, out: Path, update: bool, settings: GateSettings) -> int:
    """PASS, FAIL or INCONCLUSIVE for each artifact in the folder COMPARED that `winrate` made.

    Exit code 0 when all pass, 1 for a FAIL, 4 when something is inconclusive: too few prompts, a judge that
    is not certified, or controls that did not behave. Writes gate.json, gate.md, junit.xml and worse.md
    (the dialogues that got worse). The bounds and their reasons: docs/gate.md.
    """
    from empathy_edge.bench.gate.verdict import run
    from empathy_edge.errors import VerdictFailed

    results = run(winrate=compared, verify=verify, out=out, settings=settings, update=update)
    verdict = results.worst()
    if verdict == "FAIL":
        raise VerdictFailed("The gate says FAIL.")
    return 0 if verdict == "PASS" else 4


COMMANDS = (winrate, gate)
