"""Commands for absolute empathy scores: the study, the scorer, large models asked, MITI codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from empathy_edge.commands import completers
from empathy_edge.commands.groups import Group
from empathy_edge.commands.json_output import give_json, json_option
from empathy_edge.commands.options import (
    EXAMPLES,
    Decorator,
    FromSettings,
    SettingsCommand,
    api_settings,
    map_option,
    out_option,
    path_type,
    takes_settings,
    update_option,
)

if TYPE_CHECKING:
    from empathy_edge.llm.api_settings import ApiSettings
    from empathy_edge.runs.settings import TunedScorerSettings


def _tuned_scorer_settings() -> type[TunedScorerSettings]:
    from empathy_edge.runs.settings import TunedScorerSettings

    return TunedScorerSettings


@click.group(
    cls=Group,
    epilog=EXAMPLES + "  empathy-edge score train rated_responses_miti.csv --out scorer.json\n"
    "  empathy-edge score rate responses/tuned.jsonl --dialogues rows/test.jsonl --scorer scorer.json",
)
def score() -> None:
    """Score responses for empathy, 1 to 3.

    Study what predicts people's ratings, train a scorer, rate responses.
    """


def _embedding_option() -> Decorator:
    return click.option(
        "--embedding",
        default="all-MiniLM-L6-v2",
        show_default=True,
        help="A sentence-transformers model, or openai:MODEL.",
    )


@score.command(epilog=EXAMPLES + "  empathy-edge score study rated_responses_miti.csv --out study")
@click.argument("data", type=path_type())
@_embedding_option()
@click.option("--subfactors", type=path_type(), help="What `score subfactors` wrote, for more lines.")
@out_option()
@update_option()
@json_option()
def study(
    data: Path, embedding: str, subfactors: Path | None, out: Path, update: bool, json_file: Path | None
) -> None:
    """Find out which features and classifiers predict ratings.

    DATA are responses that people rated. The paper's figures stand beside. Each accuracy is given on the
    paper's split and on folds in which no dialogue is in both training and test.
    """
    from empathy_edge.console import next_command
    from empathy_edge.judging.study import run as run_study

    found = run_study(data=data, out=out, embedding=embedding, subfactors=subfactors, update=update)
    give_json(json_file, found, "score study")
    next_command("empathy-edge", "score", "train", data, "--out", "scorer.json")


@score.command(
    "train", epilog=EXAMPLES + "  empathy-edge score train rated_responses_miti.csv --out scorer.json"
)
@click.argument("data", type=path_type())
@_embedding_option()
@click.option("--out", required=True, type=path_type(), help="The file to write, JSON.")
@click.option(
    "--leave-out",
    type=path_type(),
    help="Leave out the dialogues of this file, a run's test split: there the scorer may judge, and "
    "`judge certify` test it.",
)
@click.option(
    "--certifiable",
    is_flag=True,
    help="Leave out a fifth of the dialogues, on which `judge certify` can test it.",
)
@click.option("--update", is_flag=True, help="Replace the file if there is one.")
@json_option()
def train_scorer(
    data: Path,
    embedding: str,
    out: Path,
    leave_out: Path | None,
    certifiable: bool,
    update: bool,
    json_file: Path | None,
) -> None:
    """Train a scorer on the rated responses in DATA.

    It is measured on dialogues that it did not see.
    """
    from empathy_edge.judging.scorer import train

    scorer = train(
        data=data, file=out, embedding=embedding, certifiable=certifiable, unseen=leave_out, update=update
    )
    give_json(json_file, {"scorer": out, "figures": scorer.figures}, "score train")
    _say_rate_next(out)


def _say_rate_next(scorer: Path) -> None:
    from empathy_edge.console import next_command

    said = ("--dialogues", "DIALOGUES.jsonl", "--scorer", scorer)
    next_command("empathy-edge", "score", "rate", "RESPONSES.jsonl", *said)


@takes_settings(
    settings=FromSettings(
        _tuned_scorer_settings,
        ("epochs", "learning_rate", "lora_rank", "folds", "on_paper_split", "leave_out", "certifiable"),
        {"learning_rate": "--rate", "lora_rank": "--rank", "on_paper_split": "--paper-split"},
    )
)
@score.command(
    cls=SettingsCommand,
    epilog=EXAMPLES + "  empathy-edge score tune rated_responses_miti.csv --out scorer-lm\n"
    "  empathy-edge score tune rated_responses_miti.csv --leave-out rows/test.jsonl \\\n"
    "      --out scorer-for-this-run",
)
@click.argument("data", type=path_type())
@click.option(
    "--base",
    default="smollm2-135m",
    show_default=True,
    shell_complete=completers.models,
    help="The model to fine-tune.",
)
@out_option()
@update_option()
@json_option()
def tune(
    data: Path,
    base: str,
    out: Path,
    update: bool,
    json_file: Path | None,
    settings: TunedScorerSettings,
) -> None:
    """Fine-tune a small language model as a scorer on DATA.

    DATA are rated responses. The scorer is measured and exported. It takes one training for each fold, and
    one on everything. With --certifiable there is none on everything: the first fold's model is served. With
    --leave-out there is one in all, measured on what was left out. Trainings that are done are skipped when
    the same command is given again. A scorer in OUT that was made otherwise is replaced only with --update.
    OUT/scorer.json goes to `score rate`, `judge certify` and `release`, and needs no torch.
    """
    from empathy_edge.judging.tuned import FILE
    from empathy_edge.models.find import checkpoint_of
    from empathy_edge.runs.tuned_scorer import train

    scorer = train(data=data, base=checkpoint_of(base), out=out, settings=settings, update=update)
    give_json(json_file, {"scorer": out / FILE, "figures": scorer.figures}, "score tune")
    _say_rate_next(out / FILE)


@score.command(
    epilog=EXAMPLES + "  empathy-edge score rate responses/base.jsonl responses/tuned.jsonl \\\n"
    "      --dialogues rows/test.jsonl --scorer scorer.json --out scores.jsonl"
)
@click.argument("responses", nargs=-1, required=True, type=path_type())
@click.option("--dialogues", required=True, type=path_type(), help="What was responded to.")
@map_option()
@click.option("--scorer", required=True, type=path_type(), help="What `score train` or `score tune` wrote.")
@click.option("--out", type=path_type(), help="Also write every score with its reasons to this new file.")
@json_option()
def rate(
    responses: tuple[Path, ...],
    dialogues: Path,
    columns: dict[str, str],
    scorer: Path,
    out: Path | None,
    json_file: Path | None,
) -> None:
    """Score RESPONSES, each with the reasons for its score.

    RESPONSES are files that `respond` wrote. The reasons are the features that moved the score most.
    """
    from empathy_edge.console import next_command
    from empathy_edge.judging.score_file import rate as rate_all
    from empathy_edge.runs.given_data import data_file

    found = rate_all(responses, data_file(dialogues, columns), scorer, out)
    give_json(json_file, found, "score rate")
    rated = ("--data", "RATED.csv", "--out", "certificate")
    next_command("empathy-edge", "judge", "certify", f"scorer:{scorer}", *rated)


_teacher_option = click.option(
    "--teacher",
    required=True,
    help="openai:MODEL, local:MODEL, or file:ANSWERS.jsonl: rows with `dialog_id` (the response's id) and "
    "the answer in a column named after the prompt; of subfactors: `explicit`.",
)
_max_option = click.option(
    "--max-responses", type=click.IntRange(1), help="Draw so many of the balanced set."
)
_seed_option = click.option("--seed", default=0, show_default=True, help="For the draw.")
_file_option = click.option("--out", required=True, type=path_type(), help="The new file to write, JSON.")


@takes_settings(api=api_settings())
@score.command(
    cls=SettingsCommand,
    epilog=EXAMPLES + "  empathy-edge score ask rated_responses_miti.csv --teacher openai:gpt-4o-mini \\\n"
    "      --prompt dimensions --max-responses 200 --out asked.json",
)
@click.argument("data", type=path_type())
@_teacher_option
@_max_option
@_seed_option
@_file_option
@click.option(
    "--prompt",
    type=click.Choice(["naive", "dimensions", "subfactors"]),
    default="naive",
    show_default=True,
    help="What the model is told to look at.",
)
@json_option()
def ask(  # noqa: PLR0913 - each is an option
    data: Path,
    teacher: str,
    prompt: str,
    max_responses: int | None,
    seed: int,
    out: Path,
    json_file: Path | None,
    api: ApiSettings,
) -> None:
    """Let a large model rate the responses in DATA, 1 to 3.

    It is the paper's baseline, and stands beside people's ratings.
    """
    from empathy_edge.console import next_command
    from empathy_edge.judging.llm_ratings import Sample, rate
    from empathy_edge.llm.teachers import open_model_client

    with open_model_client(teacher, api, run="score ask") as client:
        found = rate(Sample(data, max_responses, seed), prompt, client, out)
    give_json(json_file, found, "score ask")
    next_command("empathy-edge", "score", "study", data, "--out", "study")


@takes_settings(api=api_settings())
@score.command(
    cls=SettingsCommand,
    epilog=EXAMPLES
    + "  empathy-edge score subfactors rated_responses_miti.csv --teacher openai:gpt-4o-mini \\\n"
    "      --out factors.json\n"
    "  empathy-edge score study rated_responses_miti.csv --subfactors factors.json --out study",
)
@click.argument("data", type=path_type())
@_teacher_option
@_max_option
@_seed_option
@_file_option
@click.option(
    "--version",
    type=click.Choice(["1", "2"]),
    default="2",
    show_default=True,
    help="Version of the paper's list.",
)
@json_option()
def subfactors(  # noqa: PLR0913 - each is an option
    data: Path,
    teacher: str,
    version: str,
    max_responses: int | None,
    seed: int,
    out: Path,
    json_file: Path | None,
    api: ApiSettings,
) -> None:
    """Let a large model score fifteen subfactors of empathy.

    It scores each response in DATA, 1 to 10.
    """
    from empathy_edge.console import next_command
    from empathy_edge.judging import llm_ratings
    from empathy_edge.llm.teachers import open_model_client

    with open_model_client(teacher, api, run="score subfactors") as client:
        sample = llm_ratings.Sample(data, max_responses, seed)
        rows = llm_ratings.subfactors(sample, int(version), client, out)
    give_json(json_file, {"subfactors": rows}, "score subfactors")
    next_command("empathy-edge", "score", "study", data, "--subfactors", out, "--out", "study")


@score.command(
    epilog=EXAMPLES
    + "  empathy-edge score tag responses/tuned.jsonl --data rated_responses_miti.csv --out tagged.jsonl"
)
@click.argument("responses", nargs=-1, type=path_type())
@click.option("--data", required=True, type=path_type(), help="Responses with MITI codes, CSV.")
@click.option("--out", type=path_type(), help="Also write each response's codes to this new file.")
@json_option()
def tag(responses: tuple[Path, ...], data: Path, out: Path | None, json_file: Path | None) -> None:
    """Give RESPONSES MITI codes by a tagger trained on DATA.

    Shown is how good it is at each code.
    """
    from empathy_edge.console import next_command
    from empathy_edge.judging.tagger import run as run_tagger

    quality, tagged = run_tagger(data=data, responses=list(responses), out=out)
    give_json(json_file, {"quality": quality, "tagged": tagged}, "score tag")
    next_command("empathy-edge", "score", "study", data, "--out", "study")
