"""Commands that train, and the one that runs everything."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from empathy_edge.commands import completers
from empathy_edge.commands.json_output import give_json, json_option
from empathy_edge.commands.options import (
    DATA_FORMS,
    EXAMPLES,
    device_option,
    map_option,
    out_option,
    path_type,
    template_option,
    update_option,
)

DEFAULT_RECIPE = "quickstart"

if TYPE_CHECKING:
    from empathy_edge.finetune.training_results import TrainingResults


@click.command(
    epilog=EXAMPLES + "  empathy-edge run quickstart\n"
    "  empathy-edge run paper --data rated_responses_5way.csv --out runs/paper"
)
@click.argument("recipe", shell_complete=completers.recipes)
@click.option("--data", type=path_type(), help=f"Dialogues instead of the recipe's: {DATA_FORMS}")
@map_option()
@click.option("--out", type=path_type(), help="The run's folder. [default: runs/<the recipe's name>]")
@click.option(
    "--until",
    type=click.Choice(("distill", "sft", "dpo", "export", "bench", "release", "check", "report")),
    help="Stop after this stage.",
)
@device_option()
@update_option()
@json_option()
def run(
    recipe: str,
    data: Path | None,
    columns: dict[str, str],
    out: Path | None,
    until: str | None,
    update: bool,
    json_file: Path | None,
) -> None:
    """Run every stage of RECIPE, from dialogues to the report.

    RECIPE is `quickstart`, `paper` or a YAML file. Stages that are done are skipped; a run that was stopped
    goes on where it was. Exit code 1 when the model or an artifact FAILs.
    """
    from empathy_edge.console import next_command
    from empathy_edge.errors import VerdictFailed
    from empathy_edge.runs.given_data import data_file
    from empathy_edge.runs.pipeline import run_recipe, summary
    from empathy_edge.runs.recipe import load_recipe

    settings = load_recipe(recipe)
    file = data_file(data or Path(settings.data), columns)
    folder = out or Path("runs") / settings.name
    try:
        run_recipe(settings, folder, data=file, until=until, update=update)
    except VerdictFailed:
        give_json(json_file, summary(folder), "run")
        raise
    give_json(json_file, summary(folder), "run")
    if until is not None:
        next_command("empathy-edge", "run", recipe, *(("--data", data) if data else ()), "--out", folder)


@click.command(
    epilog=EXAMPLES + "  empathy-edge finetune rows --base smollm2-135m --out tuned\n"
    "  empathy-edge finetune rows --base smollm2-135m --only sft --out tuned-by-sft"
)
@click.argument("rows", type=path_type())
@click.option(
    "--base",
    shell_complete=completers.models,
    help="The model to train; a GGUF is trained on as it ships. [default: the recipe's]",
)
@template_option()
@click.option(
    "--recipe",
    default=DEFAULT_RECIPE,
    show_default=True,
    shell_complete=completers.recipes,
    help="Where the sft and dpo settings come from.",
)
@click.option(
    "--pairs",
    "more_pairs",
    multiple=True,
    type=path_type(),
    help="More preference pairs: a folder that `own-pairs` made.",
)
@click.option(
    "--sft",
    "sft_folder",
    type=path_type(),
    help="With --only dpo: what to start from, a folder that `finetune` made.",
)
@click.option("--only", type=click.Choice(("sft", "dpo")), help="One step alone, as for rows of one kind.")
@out_option()
@device_option()
@update_option()
@json_option()
def finetune(  # noqa: PLR0913 - each is an option
    rows: Path,
    base: str | None,
    template: str | None,
    recipe: str,
    more_pairs: tuple[Path, ...],
    sft_folder: Path | None,
    only: Literal["sft", "dpo"] | None,
    out: Path,
    update: bool,
    json_file: Path | None,
) -> None:
    """Train a model with LoRA on the rows of `distill`: SFT, then DPO.

    ROWS is the folder that `distill` made. Where it has no preference pairs, SFT alone is trained.
    """
    from empathy_edge.console import next_command, say
    from empathy_edge.errors import EmpathyEdgeError
    from empathy_edge.finetune import dpo, sft
    from empathy_edge.finetune.given_rows import sft_step_in, steps_to_train
    from empathy_edge.models.adapter_folder import adapters_of
    from empathy_edge.models.templates import checkpoint_with_template
    from empathy_edge.runs.recipe import load_recipe

    if sft_folder and only != "dpo":
        raise click.UsageError(
            "--sft belongs to --only dpo; without it, DPO starts from the SFT step made here."
        )
    if sft_folder:
        sft_folder = sft_step_in(sft_folder)
    steps = steps_to_train(rows, more_pairs, only, out)
    settings = load_recipe(recipe)
    sft_adapters = [sft_folder / "adapter"] if sft_folder else []
    model = checkpoint_with_template(base or settings.base, template or settings.template, sft_adapters)
    pairs = dpo.pairs_of(rows, more_pairs) if "dpo" in steps else []
    results: dict[str, TrainingResults] = {}
    if "sft" in steps:
        results["sft"] = sft.run(
            rows=rows / "sft.jsonl", base=model, out=out / "sft", settings=settings.sft, update=update
        )
        say(f"Adapter of SFT: {out / 'sft' / 'adapter'} ({_learned(results['sft'])})")
    if "dpo" in steps:
        results["dpo"] = dpo.run(
            pairs=pairs,
            base=model,
            sft=sft_folder if only else out / "sft",
            out=out / "dpo",
            settings=settings.dpo,
            update=update,
        )
        after = ", to be merged after that of SFT" if sft_folder or not only else ""
        say(f"Adapter of DPO: {out / 'dpo' / 'adapter'} ({_learned(results['dpo'])}){after}")
    give_json(json_file, results, "finetune")
    made = [*sft_adapters, *(out / step / "adapter" for step in results)]
    if steps == ("sft",) and only is None:
        _say_how_to_train_dpo(rows, base or settings.base, template, recipe, out)
    with contextlib.suppress(EmpathyEdgeError):  # something of an earlier training is there
        made = [out] if adapters_of([out]) == made else made
    adapters = [word for adapter in made for word in ("--adapter", adapter)]
    next_command("empathy-edge", "export", *adapters, "--out", "exported")


def _learned(found: TrainingResults) -> str:
    return f"{found.steps} steps, loss {found.loss_first:.3f} → {found.loss_last:.3f}"


def _say_how_to_train_dpo(rows: Path, base: str, template: str | None, recipe: str, out: Path) -> None:
    """The two commands that add DPO where the data had no preference pairs."""
    from empathy_edge.console import say_command

    model = ("--base", base, *(("--template", template) if template else ()))
    own = ("own-pairs", str(rows), *model, "--adapter", str(out / "sft" / "adapter"), "--out", "own")
    by_recipe = ("--recipe", recipe) if recipe != DEFAULT_RECIPE else ()
    again = ("finetune", str(rows), *model, *by_recipe, "--pairs", "own", "--out", str(out))
    say_command("For DPO as well, make pairs of the model's own answers:", ("empathy-edge", *own))
    say_command("and train with them; SFT is not done again:", ("empathy-edge", *again))
