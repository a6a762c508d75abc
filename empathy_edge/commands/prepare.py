"""Commands that prepare training rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from empathy_edge.commands import completers
from empathy_edge.commands.json_output import give_json, json_option
from empathy_edge.commands.options import (
    DATA_FORMS,
    EXAMPLES,
    FromSettings,
    SettingsCommand,
    adapter_option,
    api_settings,
    device_option,
    map_option,
    out_option,
    path_type,
    takes_settings,
    template_option,
    update_option,
)
from empathy_edge.errors import EmpathyEdgeError

if TYPE_CHECKING:
    from empathy_edge.distill.teacher_settings import TeacherSettings
    from empathy_edge.llm.api_settings import ApiSettings
    from empathy_edge.runs.settings import DistillSettings, OwnPairSettings


def _teacher_settings() -> type[TeacherSettings]:
    from empathy_edge.distill.teacher_settings import TeacherSettings

    return TeacherSettings


def _distill_settings() -> type[DistillSettings]:
    from empathy_edge.runs.settings import DistillSettings

    return DistillSettings


def _own_pair_settings() -> type[OwnPairSettings]:
    from empathy_edge.runs.settings import OwnPairSettings

    return OwnPairSettings


TEACHER_OPTIONS = (
    "strategy", "base_url", "parallel", "timeout", "no_wait", "poll", "words", "most_words", "max_tokens",
    "temperature", "max_dialogues", "max_calls", "max_cost", "prices", "seed",
)  # fmt: skip


@takes_settings(
    teacher_settings=FromSettings(_teacher_settings, TEACHER_OPTIONS, partial=True),
    rated_settings=FromSettings(
        _distill_settings,
        ("reference", "models", "sft_on_chosen", "max_sft", "max_pairs", "pairs_per_dialogue", "seed"),
        {"models": "--model"},
    ),
)
@click.command(
    cls=SettingsCommand,
    epilog=EXAMPLES + "  empathy-edge distill --data my_dialogues.jsonl --out rows\n"
    "  empathy-edge distill --data sample --reference first-draft --model editor --out rows\n"
    "  empathy-edge distill --data rated_responses_5way.csv --out rows\n"
    "  empathy-edge distill --data dialogues.jsonl --method improve-human --strategy sequential \\\n"
    "      --teacher openai:gpt-4o --max-cost 2 --out improved\n"
    "  empathy-edge distill --data dialogues.jsonl --method direct --teacher local:model.gguf --out own\n"
    "  empathy-edge distill --data dialogues.jsonl --method improve-human \\\n"
    "      --teacher file:answers.jsonl --out replayed\n"
    "  empathy-edge distill --data posts.csv --map utterance=text --method direct \\\n"
    "      --teacher openai:gpt-4o --out answered",
)
@click.option("--data", type=path_type(), required=True, help=f"Dialogues: {DATA_FORMS}")
@map_option()
@click.option(
    "--method",
    type=click.Choice(("rated", "direct", "improve-human", "improve-llm")),
    default="rated",
    show_default=True,
    help="Take rated responses; or let a teacher answer, improve the human response, or improve its own.",
)
@click.option(
    "--teacher",
    help="openai:MODEL, batch:MODEL (the Batch API), local:MODEL (what `chat` takes) or file:ANSWERS.jsonl.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only say how many calls it would take, and about how many tokens and what cost.",
)
@out_option()
@update_option()
@json_option()
def distill(  # noqa: PLR0913 - two kinds of settings, and the options of each stage
    data: Path,
    columns: dict[str, str],
    method: str,
    teacher: str | None,
    dry_run: bool,
    out: Path,
    update: bool,
    json_file: Path | None,
    teacher_settings: Callable[..., TeacherSettings],
    rated_settings: DistillSettings,
) -> None:
    """Make SFT rows and preference pairs from dialogues.

    They come from rated responses, or from a large model as teacher (--method, --teacher). Responses of which
    none has a rating are taken as good ones, and become SFT rows. Every answer of a teacher is kept in the
    ledger and never asked for twice; see `empathy-edge ledger`.
    """
    from empathy_edge.console import next_step
    from empathy_edge.distill import run_distill
    from empathy_edge.runs.given_data import data_file
    from empathy_edge.runs.map_advice import naming_columns

    if method == "rated":
        if teacher:
            raise EmpathyEdgeError(
                "--method rated asks no teacher; choose direct, improve-human or improve-llm."
            )
        with naming_columns(("empathy-edge", "distill", "--data"), data, columns, ("--out", out)):
            file = data_file(data, columns)
            made = run_distill.distill_rated(data=file, out=out, settings=rated_settings, update=update)
        give_json(json_file, made, "distill")
        _say_finetune_next(out, made.sft_rows, made.preference_pairs)
        return
    if not teacher:
        raise EmpathyEdgeError(
            f"--method {method} needs a --teacher: "
            "openai:MODEL, batch:MODEL, local:MODEL or file:ANSWERS.jsonl."
        )
    settings = teacher_settings(method=method, teacher=teacher)
    file = data_file(data, columns)
    if dry_run:
        estimate = run_distill.estimate_with_teacher(data=file, settings=settings)
        give_json(json_file, estimate, "distill estimate")
        next_step("the same command without --dry-run, with --max-cost USD as the limit")
        return
    made = run_distill.distill_with_teacher(data=file, out=out, settings=settings, update=update)
    give_json(json_file, made, "distill")
    _say_finetune_next(out, made.sft_rows, made.preference_pairs)


def _say_finetune_next(rows: Path, sft_rows: int, preference_pairs: int, base: str = "smollm2-135m") -> None:
    """Without pairs `finetune` trains SFT alone; pairs alone train DPO."""
    from empathy_edge.console import next_command

    only = ("--only", "dpo") if preference_pairs and not sft_rows else ()
    next_command("empathy-edge", "finetune", rows, "--base", base, *only, "--out", "tuned")


@click.command(
    epilog=EXAMPLES + "  empathy-edge convert rows --to llama-factory --out llama-factory\n"
    "  empathy-edge convert rows --to parquet --out parquet"
)
@click.argument("rows", type=path_type())
@click.option(
    "--to",
    "layout",
    required=True,
    type=click.Choice(("llama-factory", "parquet")),
    help="The trainer's layout.",
)
@out_option()
def convert(rows: Path, layout: Literal["llama-factory", "parquet"], out: Path) -> None:
    """Write training rows in the layout of another trainer.

    ROWS is the folder that `distill` made.
    """
    from empathy_edge.console import next_step, say
    from empathy_edge.distill.layouts import convert as write

    for file in write(rows, layout, out):
        say(f"{file}")
    next_step("train on them there, then: empathy-edge export MODEL --adapter ADAPTER --out exported")


@click.command(epilog=EXAMPLES + "  empathy-edge ledger\n  empathy-edge ledger --export answers.jsonl")
@click.option("--export", "export_file", type=path_type(), help="Write every answer to this new JSONL file.")
@json_option()
def ledger(export_file: Path | None, json_file: Path | None) -> None:
    """Show what large models were asked and what it cost.

    The sums are by run and model.
    """
    from empathy_edge.console import next_command
    from empathy_edge.llm.show_ledger import show_ledger

    spent = show_ledger(export_file)
    give_json(json_file, {"spent": spent}, "ledger")
    distill = ("empathy-edge", "distill", "--data", "sample", "--method", "improve-human", "--teacher")
    if export_file is not None and export_file.exists():
        next_command(*distill, f"file:{export_file}", "--out", "rows")
    elif spent:
        next_command("empathy-edge", "ledger", "--export", "answers.jsonl")
    else:
        next_command(*distill, "openai:gpt-4o-mini", "--dry-run", "--out", "rows")


@click.command(
    epilog=EXAMPLES + "  empathy-edge select rows/naive rows/sequential --base smollm2-135m --out fitted\n"
    "  empathy-edge select rows/a rows/b --by random --base smollm2-135m --out mixed"
)
@click.argument("folders", nargs=-1, required=True, type=path_type())
@click.option(
    "--base", required=True, shell_complete=completers.models, help="The student: the model to be trained."
)
@template_option()
@adapter_option("What the student has learned already: a PEFT folder.")
@click.option(
    "--by",
    type=click.Choice(("likelihood", "nearness", "random")),
    default="likelihood",
    show_default=True,
    help="Take the response that the student finds likeliest, the one nearest in meaning to what was said, "
    "or any of them.",
)
@click.option("--seed", default=0, show_default=True, help="For --by random.")
@out_option()
@update_option()
@json_option()
def select(  # noqa: PLR0913 - each is an option
    folders: tuple[Path, ...],
    base: str,
    template: str | None,
    adapters: tuple[Path, ...],
    by: Literal["likelihood", "nearness", "random"],
    seed: int,
    out: Path,
    update: bool,
    json_file: Path | None,
) -> None:
    """Take the response to each dialogue that fits the student best.

    FOLDERS are two or more that `distill` made of the same dialogues, as by several teachers or strategies.
    """
    from empathy_edge.console import say
    from empathy_edge.distill.selection import run
    from empathy_edge.models.templates import checkpoint_with_template

    results = run(
        folders=list(folders),
        base=checkpoint_with_template(base, template, adapters),
        adapters=list(adapters),
        by=by,
        out=out,
        seed=seed,
        update=update,
    )
    for file, item in results.selection.items():
        say(f"{file}: " + ", ".join(f"{count} from {name}" for name, count in item.taken_from.items()))
    give_json(json_file, results, "select")
    _say_finetune_next(out, results.sft_rows, results.preference_pairs, base)


@takes_settings(
    settings=FromSettings(
        _own_pair_settings,
        (
            "prompts", "samples", "temperature", "max_new_tokens", "margin", "length_ratio", "tone_penalty",
            "judge", "ranker", "likelihood_weight", "seed",
        ),
    ),
    api=api_settings(),
)  # fmt: skip
@click.command(
    cls=SettingsCommand,
    epilog=EXAMPLES + "  empathy-edge own-pairs rows --base smollm2-135m --adapter tuned --out own\n"
    "  empathy-edge own-pairs rows --base smollm2-135m --adapter tuned \\\n"
    "      --judge openai:gpt-4o-mini --out own\n"
    "  empathy-edge own-pairs prompts.txt --base smollm2-135m --out own",
)
@click.argument("rows", type=path_type())
@map_option()
@click.option(
    "--base", required=True, shell_complete=completers.models, help="The student: the model to be trained."
)
@template_option()
@adapter_option("What it has learned already: a PEFT folder.")
@out_option()
@device_option()
@update_option()
@json_option()
def own_pairs(  # noqa: PLR0913 - each is an option
    rows: Path,
    columns: dict[str, str],
    base: str,
    template: str | None,
    adapters: tuple[Path, ...],
    out: Path,
    update: bool,
    json_file: Path | None,
    settings: OwnPairSettings,
    api: ApiSettings,
) -> None:
    """Make preference pairs from the student's own samples.

    A pair is its best answer and its worst of like length. The prompts are those of ROWS, the folder that
    `distill` made, or data in any form that `data inspect` recognises. Best is what comes nearest in meaning
    to the good responses (without any: to what the person says), by sentence embeddings; with --judge what a
    large model or people rate higher.
    """
    from empathy_edge.console import next_command
    from empathy_edge.distill.own_pairs import run
    from empathy_edge.models.templates import checkpoint_with_template
    from empathy_edge.runs.given_data import data_file

    results = run(
        rows=rows if rows.is_dir() else data_file(rows, columns),
        base=checkpoint_with_template(base, template, adapters),
        adapters=list(adapters),
        out=out,
        settings=settings,
        update=update,
        api=api,
    )
    give_json(json_file, results, "own-pairs")
    trained_on = rows if rows.is_dir() else "ROWS"
    next_command("empathy-edge", "finetune", trained_on, "--base", base, "--pairs", out, "--out", "tuned")
