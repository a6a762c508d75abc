"""Commands that make something: rows, adapters, artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from empathy_edge.commands.options import EXAMPLES, out_option, pairs, path_type, update_option
from empathy_edge.errors import EmpathyEdgeError


@click.command(
    epilog=EXAMPLES + "  empathy-edge run quickstart\n"
    "  empathy-edge run paper --data rated_responses_5way.csv --out runs/paper"
)
@click.argument("recipe")
@click.option(
    "--data", type=path_type(), help="Dialogues (.jsonl, or the paper's .csv) instead of the recipe's."
)
@click.option("--out", type=path_type(), help="The run's folder. [default: runs/<the recipe's name>]")
@click.option(
    "--until",
    type=click.Choice(("distill", "sft", "dpo", "export", "bench", "winrate", "gate", "report")),
    help="Stop after this stage.",
)
@update_option()
def run(recipe: str, data: Path | None, out: Path | None, until: str | None, update: bool) -> None:
    """Run the whole road: every stage of RECIPE (a shipped name or a YAML file).

    Stages that are done are skipped; a run that was killed goes on where it was. Exit code 1 when the gate says FAIL.
    """
    from empathy_edge.runs.pipeline import run_recipe
    from empathy_edge.runs.recipe import load_recipe

    settings = load_recipe(recipe)
    run_recipe(settings, out or Path("runs") / settings.name, data=data, until=until, update=update)


@click.command(
    epilog=EXAMPLES + "  empathy-edge distill --data rated_responses_5way.csv --out rows\n"
    "  empathy-edge distill --data dialogues.jsonl --method improve-human --strategy sequential \\\n"
    "      --teacher openai:gpt-4o --max-cost 2 --out improved\n"
    "  empathy-edge distill --data dialogues.jsonl --method direct --teacher local:model.gguf --out own\n"
    "  empathy-edge distill --data dialogues.jsonl --method improve-human --teacher file:answers.jsonl --out replayed"
)
@click.option("--data", type=path_type(), required=True, help="Dialogues: .jsonl, or the paper's .csv.")
@click.option(
    "--method",
    type=click.Choice(("rated", "direct", "improve-human", "improve-llm")),
    default="rated",
    show_default=True,
    help="Take rated responses; or let a teacher answer, improve the human response, or improve its own.",
)
@click.option(
    "--strategy",
    type=click.Choice(
        (
            "naive",
            "all-dimensions",
            "lacking-dimension",
            "cognitive",
            "affective",
            "compassionate",
            "sequential",
        )
    ),
    default="all-dimensions",
    show_default=True,
    help="How a response is improved.",
)
@click.option(
    "--teacher",
    help="openai:MODEL, batch:MODEL (the Batch API), local:MODEL (what `chat` takes) or file:ANSWERS.jsonl.",
)
@click.option("--base-url", help="Another OpenAI-compatible endpoint. [default: OPENAI_BASE_URL]")
@click.option(
    "--parallel", default=8, show_default=True, type=click.IntRange(1, 256), help="Calls at the same time."
)
@click.option(
    "--timeout", default=60.0, show_default=True, type=click.FloatRange(0.1), help="Seconds for one try."
)
@click.option(
    "--no-wait", is_flag=True, help="batch: send and leave; the same command fetches the answers later."
)
@click.option(
    "--poll",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="batch: seconds between looks.",
)
@click.option(
    "--words", default=28, show_default=True, type=click.IntRange(5), help="The length that is asked for."
)
@click.option(
    "--most-words", default=97, show_default=True, type=click.IntRange(5), help="Longer ones are left out."
)
@click.option(
    "--max-dialogues", type=click.IntRange(1), help="Ask about at most this many, drawn with --seed."
)
@click.option("--max-calls", type=click.IntRange(1), help="Stop before more calls than this.")
@click.option("--max-cost", type=click.FloatRange(0), help="Stop before more USD than this.")
@click.option(
    "--prices", type=path_type(), help="Your price table, YAML: model: [prompt, completion], USD per million."
)
@click.option(
    "--dry-run", is_flag=True, help="Only say how many calls and tokens it would take, and their cost."
)
@click.option(
    "--reference", default="human", show_default=True, help="rated: whose weak responses are rejected."
)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("chatgpt_empathy",),
    show_default=True,
    help="rated: a source whose responses rated 3 are learned from; may be given more than once.",
)
@click.option("--max-sft", type=click.IntRange(1), help="rated: keep at most this many SFT rows.")
@click.option("--max-pairs", type=click.IntRange(1), help="rated: keep at most this many preference pairs.")
@click.option("--seed", default=0, show_default=True, help="For the choice of rows.")
@out_option()
@update_option()
def distill(data: Path, method: str, out: Path, update: bool, **options: Any) -> None:
    """Turn dialogues into SFT rows and preference pairs: from rated responses, or with a large model as teacher.

    Every answer of a teacher is kept in the ledger and never asked for twice; see `empathy-edge ledger`.
    """
    from empathy_edge.distill import command
    from empathy_edge.distill.teacher_settings import TeacherSettings
    from empathy_edge.runs.recipe import DistillSettings

    dry_run = options.pop("dry_run")
    rated = {name: options.pop(name) for name in ("reference", "models", "max_sft", "max_pairs")}
    if method == "rated":
        if options["teacher"]:
            raise EmpathyEdgeError(
                "--method rated asks no teacher; choose direct, improve-human or improve-llm."
            )
        rated_settings = DistillSettings(**rated, seed=options["seed"])
        command.distill_rated(data=data, out=out, settings=rated_settings, update=update)
        return
    if not options["teacher"]:
        raise EmpathyEdgeError(
            f"--method {method} needs a --teacher: "
            "openai:MODEL, batch:MODEL, local:MODEL or file:ANSWERS.jsonl."
        )
    settings = TeacherSettings.model_validate({"method": method, **options})
    if dry_run:
        command.estimate_with_teacher(data=data, settings=settings)
    else:
        command.distill_with_teacher(data=data, out=out, settings=settings, update=update)


@click.command(
    epilog=EXAMPLES + "  empathy-edge convert rows --to llama-factory --out llama-factory\n"
    "  empathy-edge convert rows --to parquet --out parquet"
)
@click.argument("rows", type=path_type())
@click.option(
    "--to", "layout", required=True, type=click.Choice(("llama-factory", "parquet")), help="The layout."
)
@out_option()
def convert(rows: Path, layout: Literal["llama-factory", "parquet"], out: Path) -> None:
    """Write the folder ROWS that `distill` made in the layout of another trainer."""
    from empathy_edge.console import say
    from empathy_edge.distill.layouts import convert as write

    for file in write(rows, layout, out):
        say(f"{file}")


@click.command(epilog=EXAMPLES + "  empathy-edge ledger\n  empathy-edge ledger --export answers.jsonl")
@click.option("--export", "export_file", type=path_type(), help="Write every answer to this new JSONL file.")
def ledger(export_file: Path | None) -> None:
    """Show what was asked of large models and what it cost, by run and model."""
    from empathy_edge.llm.command import show_ledger

    show_ledger(export_file)


@click.command(
    epilog=EXAMPLES + "  empathy-edge select rows/naive rows/sequential --base smollm2-135m --out fitted\n"
    "  empathy-edge select rows/a rows/b --by random --base smollm2-135m --out mixed"
)
@click.argument("folders", nargs=-1, required=True, type=path_type())
@click.option("--base", required=True, help="The student.")
@click.option(
    "--adapter", "adapters", multiple=True, type=path_type(), help="What the student has learned already."
)
@click.option(
    "--by",
    type=click.Choice(("likelihood", "nearness", "random")),
    default="likelihood",
    show_default=True,
    help="The response that the student finds likeliest, the one nearest in meaning to what was said, or any of them.",
)
@click.option("--seed", default=0, show_default=True, help="For --by random.")
@out_option()
@update_option()
def select(
    folders: tuple[Path, ...],
    base: str,
    adapters: tuple[Path, ...],
    by: Literal["likelihood", "nearness", "random"],
    seed: int,
    out: Path,
    update: bool,
) -> None:
    """Fit the teacher to the student: of several FOLDERS that `distill` made, take one response per dialogue."""
    from empathy_edge.console import say
    from empathy_edge.distill.selection import run as run_stage
    from empathy_edge.models.find import checkpoint_of

    results = run_stage(
        folders=list(folders),
        base=checkpoint_of(base),
        adapters=list(adapters),
        by=by,
        out=out,
        seed=seed,
        update=update,
    )
    for file, item in results.selection.items():
        say(f"{file}: " + ", ".join(f"{count} from {name}" for name, count in item.taken_from.items()))


@click.command(
    epilog=EXAMPLES
    + "  empathy-edge own-pairs rows --base smollm2-135m --adapter tuned/sft/adapter --out own\n"
    "  empathy-edge own-pairs rows --base smollm2-135m --adapter tuned/sft/adapter --ranker larger.gguf --out own"
)
@click.argument("rows", type=path_type())
@click.option("--base", required=True, help="The student.")
@click.option("--adapter", "adapters", multiple=True, type=path_type(), help="What it has learned already.")
@click.option("--prompts", default=400, show_default=True, type=click.IntRange(1))
@click.option(
    "--samples", default=4, show_default=True, type=click.IntRange(2, 64), help="Answers to each prompt."
)
@click.option("--temperature", default=0.8, show_default=True, type=click.FloatRange(0, 2, min_open=True))
@click.option("--margin", default=0.1, show_default=True, help="Least difference of the two in their score.")
@click.option(
    "--ranker", help="A larger model (what `chat` takes), whose likelihood of an answer counts as well."
)
@click.option(
    "--likelihood-weight", default=1.0, show_default=True, help="Of the ranker, per nat a character."
)
@click.option("--seed", default=0, show_default=True)
@out_option()
@update_option()
def own_pairs(
    rows: Path, base: str, adapters: tuple[Path, ...], out: Path, update: bool, **settings: Any
) -> None:
    """Preference pairs from the student's own samples: its best answer to a prompt against its worst of like length.

    The prompts are those of the folder ROWS that `distill` made; best is what comes nearest in meaning to its good
    responses (sentence embeddings), and with --ranker also what a larger model finds likely.
    """
    from empathy_edge.distill.own_pairs import run as run_stage
    from empathy_edge.models.find import checkpoint_of
    from empathy_edge.runs.recipe import OwnPairSettings

    run_stage(
        rows=rows,
        base=checkpoint_of(base),
        adapters=list(adapters),
        out=out,
        settings=OwnPairSettings(**settings),
        update=update,
    )


@click.command(
    epilog=EXAMPLES + "  empathy-edge finetune rows --base smollm2-135m --out tuned\n"
    "  empathy-edge finetune rows --recipe my.yaml --out tuned"
)
@click.argument("rows", type=path_type())
@click.option("--base", help="The model to train; a GGUF is trained on as it ships. [default: the recipe's]")
@click.option(
    "--recipe", default="quickstart", show_default=True, help="Where the sft and dpo settings come from."
)
@click.option(
    "--pairs",
    "more_pairs",
    multiple=True,
    type=path_type(),
    help="More preference pairs: a folder that `own-pairs` made.",
)
@click.option(
    "--sft", "sft_folder", type=path_type(), help="With --only dpo: the folder of an SFT step to start from."
)
@click.option("--only", type=click.Choice(("sft", "dpo")), help="One step alone, as an ablation.")
@out_option()
@update_option()
def finetune(
    rows: Path,
    base: str | None,
    recipe: str,
    more_pairs: tuple[Path, ...],
    sft_folder: Path | None,
    only: str | None,
    out: Path,
    update: bool,
) -> None:
    """SFT, then DPO, with LoRA, on the folder ROWS that `distill` made."""
    from empathy_edge.console import say
    from empathy_edge.finetune import dpo, sft
    from empathy_edge.models.find import checkpoint_of
    from empathy_edge.runs.recipe import load_recipe

    if sft_folder and only != "dpo":
        raise click.UsageError(
            "--sft belongs to --only dpo; without it, DPO starts from the SFT step made here."
        )
    settings = load_recipe(recipe)
    model = checkpoint_of(base or settings.base)
    if only != "dpo":
        sft.run(rows=rows / "sft.jsonl", base=model, out=out / "sft", settings=settings.sft, update=update)
        say(f"Adapter of SFT: {out / 'sft' / 'adapter'}")
    if only != "sft":
        dpo.run(
            pairs=[folder / "preference.jsonl" for folder in (rows, *more_pairs)],
            base=model,
            sft=sft_folder if only else out / "sft",
            out=out / "dpo",
            settings=settings.dpo,
            update=update,
        )
        after = ", to be merged after that of SFT" if sft_folder or not only else ""
        say(f"Adapter of DPO: {out / 'dpo' / 'adapter'}{after}")


@click.group(
    invoke_without_command=True,
    epilog=EXAMPLES + "  empathy-edge export --base smollm2-135m --adapter tuned/sft/adapter "
    "--adapter tuned/dpo/adapter --out exported\n"
    "  empathy-edge export --base smollm2-135m --adapter tuned/sft/adapter --to gguf-q4_0 --out exported\n"
    "  empathy-edge export --base my-checkpoint --to gguf-q4_0 --out base   (then: finetune --base base/gguf-q4_0)\n"
    "  empathy-edge export bundle exported/gguf-q4_0 --out bundle --zip\n"
    "  empathy-edge export check bundle.zip",
)
@click.pass_context
@click.option("--base", help="The model that the first adapter was trained on.")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    type=path_type(),
    help="A PEFT adapter folder; more than one in the order of training. Without any, the base itself is exported.",
)
@click.option(
    "--to",
    "artifacts",
    multiple=True,
    help="An artifact to make, as gguf-q4_k_m, gguf-q4_0-gptq, gguf-iq3_m-imatrix, gguf-lora-f16 or onnx-int4; may be "
    "given more than once. [default: the common five]",
)
@click.option(
    "--imatrix", help="An importance matrix of llama.cpp's (.gguf or .dat), instead of one made here."
)
@click.option(
    "--calibration", type=path_type(), help="Dialogues for -imatrix and -gptq; the shipped ones otherwise."
)
@click.option(
    "--tensor-type",
    "tensor_types",
    multiple=True,
    metavar="PATTERN=TYPE",
    help="Give tensors whose GGUF names match another type, as token_embd=q8_0; may be given more than once.",
)
@click.option(
    "--genai-option",
    "genai_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="For ONNX Runtime GenAI's builder, as block_size=64 or algo_config=k_quant; may be given more than once.",
)
@click.option(
    "--converter", type=path_type(), help="convert_hf_to_gguf.py of a llama.cpp checkout, for other families."
)
@click.option(
    "--exporter",
    type=click.Choice(("transformers", "optimum")),
    default="transformers",
    help="Who makes the portable ONNX graph; optimum needs `make setup-optimum`.",
)
@click.option(
    "--out", type=path_type(), help="The folder to write into; it must be new, empty, or of the same kind."
)
@update_option()
def export(
    context: click.Context,
    base: str | None,
    adapters: tuple[Path, ...],
    artifacts: tuple[str, ...],
    imatrix: str | None,
    calibration: Path | None,
    tensor_types: tuple[str, ...],
    genai_options: tuple[str, ...],
    converter: Path | None,
    exporter: str,
    out: Path | None,
    update: bool,
) -> None:
    """Merge adapters into their base, write GGUF and ONNX artifacts, and prove each against the checkpoint."""
    if context.invoked_subcommand is not None:
        return
    if base is None or out is None:
        raise click.UsageError("--base and --out are needed; see: empathy-edge export --help")
    from empathy_edge.export.artifacts import run as run_stage
    from empathy_edge.models.find import checkpoint_of
    from empathy_edge.runs.recipe import ARTIFACTS, export_settings

    settings = export_settings(
        artifacts=artifacts or ARTIFACTS,
        imatrix=imatrix,
        calibration=str(calibration) if calibration else None,
        tensor_types=pairs("--tensor-type", tensor_types),
        genai_options=pairs("--genai-option", genai_options),
        converter=str(converter) if converter else None,
        exporter=exporter,
    )
    run_stage(base=checkpoint_of(base), adapters=list(adapters), out=out, settings=settings, update=update)


@export.command(
    epilog=EXAMPLES + "  empathy-edge export bundle runs/quickstart/export/gguf-q4_0 --out bundle --zip"
)
@click.argument("artifact", type=path_type())
@out_option()
@click.option(
    "--license", "licence", type=path_type(), help="The licence's text, where it does not come with the base."
)
@click.option("--zip", "as_zip", is_flag=True, help="Also write OUT.zip.")
@update_option()
def bundle(artifact: Path, out: Path, licence: Path | None, as_zip: bool, update: bool) -> None:
    """What an app takes away: ARTIFACT with licence, model card, settings, instructions and hashes."""
    from empathy_edge.export.bundle.make import make

    make(artifact=artifact, out=out, licence=licence, as_zip=as_zip, update=update)


@export.command("check", epilog=EXAMPLES + "  empathy-edge export check bundle.zip")
@click.argument("bundle", type=path_type())
def check_bundle(bundle: Path) -> None:
    """Check a BUNDLE you were handed, folder or zip: hashes, formats, template, nothing unexpected; nothing of it is run."""
    from empathy_edge.console import say
    from empathy_edge.export.bundle.check import check

    found = check(bundle)
    say(
        f"{bundle}: {found.files} files as the manifest says; {found.artifact.name}, "
        f"{found.artifact.size_mb} MB. No fault found."
    )


COMMANDS = (run, distill, select, convert, ledger, finetune, own_pairs, export)
"""In the order of the road."""
