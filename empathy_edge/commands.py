"""Every command: its options and help here, its work in the module it imports when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from empathy_edge import __version__

EXAMPLES = "\b\nExamples:\n"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="empathy-edge")
def cli() -> None:
    """The road from an empathetic large model to a small one on a phone: distil, fine-tune, export, measure, gate.

    Start with `empathy-edge doctor`, then `empathy-edge run quickstart`. Add --debug to any command for tracebacks.
    """


def _out(default: str | None = None) -> Any:
    return click.option(
        "--out",
        type=click.Path(path_type=Path),
        required=default is None,
        default=default,
        show_default=default is not None,
        help="The folder to write into; it must be new, empty, or of the same kind.",
    )


def _update() -> Any:
    return click.option("--update", is_flag=True, help="Make again what was made with other settings or inputs.")


def _threads() -> Any:
    return click.option(
        "--threads", type=click.IntRange(1), help="CPU threads. [default: all cores this process may use]"
    )


def _path(**options: Any) -> Any:
    return click.Path(path_type=Path, **options)


@cli.command(
    epilog=EXAMPLES + "  empathy-edge run quickstart\n"
    "  empathy-edge run paper-small --data rated_responses_5way.csv --out runs/paper"
)
@click.argument("recipe")
@click.option("--data", type=_path(), help="Dialogues (.jsonl, or the paper's .csv) instead of the recipe's.")
@click.option("--out", type=_path(), help="The run's folder. [default: runs/<the recipe's name>]")
@click.option(
    "--until",
    type=click.Choice(("distill", "sft", "dpo", "export", "bench", "winrate", "gate", "report")),
    help="Stop after this stage.",
)
@_update()
def run(recipe: str, data: Path | None, out: Path | None, until: str | None, update: bool) -> None:
    """Run the whole road: every stage of RECIPE (a shipped name or a YAML file).

    Stages that are done are skipped; a run that was killed goes on where it was. Exit code 1 when the gate says FAIL.
    """
    from empathy_edge.pipeline import run_recipe
    from empathy_edge.recipe import load_recipe

    settings = load_recipe(recipe)
    run_recipe(settings, out or Path("runs") / settings.name, data=data, until=until, update=update)


@cli.command(
    epilog=EXAMPLES + "  empathy-edge distill --data rated_responses_5way.csv --out rows\n"
    "  empathy-edge distill --data dialogues.jsonl --method improve-human --strategy sequential \\\n"
    "      --teacher openai:gpt-4o --max-cost 2 --out improved\n"
    "  empathy-edge distill --data dialogues.jsonl --method direct --teacher local:model.gguf --out own\n"
    "  empathy-edge distill --data dialogues.jsonl --method improve-human --teacher file:answers.jsonl --out replayed"
)
@click.option("--data", type=_path(), required=True, help="Dialogues: .jsonl, or the paper's .csv.")
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
        ("naive", "all-dimensions", "lacking-dimension", "cognitive", "affective", "compassionate", "sequential")
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
@click.option("--parallel", default=8, show_default=True, type=click.IntRange(1, 256), help="Calls at the same time.")
@click.option("--timeout", default=60.0, show_default=True, type=click.FloatRange(0.1), help="Seconds for one try.")
@click.option("--no-wait", is_flag=True, help="batch: send and leave; the same command fetches the answers later.")
@click.option(
    "--poll", default=30.0, show_default=True, type=click.FloatRange(0.1), help="batch: seconds between looks."
)
@click.option("--words", default=28, show_default=True, type=click.IntRange(5), help="The length that is asked for.")
@click.option("--most-words", default=97, show_default=True, type=click.IntRange(5), help="Longer ones are left out.")
@click.option("--max-dialogues", type=click.IntRange(1), help="Ask about at most this many, drawn with --seed.")
@click.option("--max-calls", type=click.IntRange(1), help="Stop before more calls than this.")
@click.option("--max-cost", type=click.FloatRange(0), help="Stop before more USD than this.")
@click.option("--prices", type=_path(), help="Your price table, YAML: model: [prompt, completion], USD per million.")
@click.option("--dry-run", is_flag=True, help="Only say how many calls and tokens it would take, and their cost.")
@click.option("--reference", default="human", show_default=True, help="rated: whose weak responses are rejected.")
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
@_out()
@_update()
def distill(**options: Any) -> None:
    """Turn dialogues into SFT rows and preference pairs: from rated responses, or with a large model as teacher.

    Every answer of a teacher is kept in the ledger and never asked for twice; see `empathy-edge ledger`.
    """
    from empathy_edge.distill.command import run as run_command

    run_command(**options)


@cli.command(
    epilog=EXAMPLES + "  empathy-edge convert rows --to llama-factory --out llama-factory\n"
    "  empathy-edge convert rows --to parquet --out parquet"
)
@click.argument("rows", type=_path())
@click.option("--to", "layout", required=True, type=click.Choice(("llama-factory", "parquet")), help="The layout.")
@_out()
def convert(rows: Path, layout: str, out: Path) -> None:
    """Write the folder ROWS that `distill` made in the layout of another trainer."""
    from empathy_edge.console import say
    from empathy_edge.distill.layouts import convert as write

    for file in write(rows, layout, out):
        say(f"{file}")


@cli.command(epilog=EXAMPLES + "  empathy-edge ledger\n  empathy-edge ledger --export answers.jsonl")
@click.option("--export", "export_file", type=_path(), help="Write every answer to this new JSONL file.")
def ledger(export_file: Path | None) -> None:
    """Show what was asked of large models and what it cost, by run and model."""
    from empathy_edge.llm.command import show_ledger

    show_ledger(export_file)


@cli.command(
    epilog=EXAMPLES + "  empathy-edge finetune rows --base smollm2-135m --out tuned\n"
    "  empathy-edge finetune rows --recipe my.yaml --out tuned"
)
@click.argument("rows", type=_path())
@click.option("--base", help="The model to train. [default: the recipe's]")
@click.option("--recipe", default="quickstart", show_default=True, help="Where the sft and dpo settings come from.")
@click.option("--only", type=click.Choice(("sft", "dpo")), help="One step alone, as an ablation.")
@_out()
@_update()
def finetune(rows: Path, base: str | None, recipe: str, only: str | None, out: Path, update: bool) -> None:
    """SFT, then DPO, with LoRA, on the folder ROWS that `distill` made."""
    from empathy_edge.console import say
    from empathy_edge.finetune import dpo, sft
    from empathy_edge.models import checkpoint_of
    from empathy_edge.recipe import load_recipe

    settings = load_recipe(recipe)
    model = checkpoint_of(base or settings.base)
    if only != "dpo":
        sft.run(rows=rows / "sft.jsonl", base=model, out=out / "sft", settings=settings.sft, update=update)
        say(f"Adapter of SFT: {out / 'sft' / 'adapter'}")
    if only != "sft":
        dpo.run(
            pairs=rows / "preference.jsonl",
            base=model,
            sft=None if only else out / "sft",
            out=out / "dpo",
            settings=settings.dpo,
            update=update,
        )
        say(f"Adapter of DPO: {out / 'dpo' / 'adapter'}{'' if only else ', to be merged after that of SFT'}")


@cli.command(
    epilog=EXAMPLES + "  empathy-edge export --base smollm2-135m --adapter tuned/sft/adapter "
    "--adapter tuned/dpo/adapter --out exported\n"
    "  empathy-edge export --base smollm2-135m --adapter tuned/sft/adapter --to gguf-q4_0 --out exported"
)
@click.option("--base", required=True, help="The model that the first adapter was trained on.")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    required=True,
    type=_path(),
    help="A PEFT adapter folder; more than one in the order of training.",
)
@click.option(
    "--to",
    "artifacts",
    multiple=True,
    type=click.Choice(("gguf-f16", "gguf-q8_0", "gguf-q4_0", "gguf-q4_k_m", "onnx-int4")),
    help="An artifact to make; may be given more than once. [default: all]",
)
@_out()
@_update()
def export(base: str, adapters: tuple[Path, ...], artifacts: tuple[str, ...], out: Path, update: bool) -> None:
    """Merge adapters into their base, write GGUF and ONNX artifacts, and prove each against the checkpoint."""
    from empathy_edge.export.stage import run as run_stage
    from empathy_edge.models import checkpoint_of
    from empathy_edge.recipe import ARTIFACTS, ExportSettings

    settings = ExportSettings(artifacts=artifacts or ARTIFACTS)
    run_stage(base=checkpoint_of(base), adapters=list(adapters), out=out, settings=settings, update=update)


@cli.command(epilog=EXAMPLES + "  empathy-edge verify exported/merged exported/gguf-q4_0 --out checked")
@click.argument("checkpoint", type=_path())
@click.argument("artifacts", nargs=-1, required=True, type=_path())
@click.option("--prompts", default=8, show_default=True, type=click.IntRange(1, 32), help="How many test prompts.")
@_out()
@_update()
def verify(checkpoint: Path, artifacts: tuple[Path, ...], prompts: int, out: Path, update: bool) -> None:
    """Compare ARTIFACTS with the CHECKPOINT they were made from: token ids, greedy text, top-1, KL."""
    from empathy_edge.export.verify import run as run_stage

    run_stage(checkpoint=checkpoint, artifacts=list(artifacts), out=out, prompts=prompts, update=update)


@cli.command(
    epilog=EXAMPLES + "  empathy-edge bench exported/gguf-q4_0 exported/onnx-int4\n"
    "  empathy-edge bench model.gguf --threads 4 --prompt-tokens 256 --json figures.json"
)
@click.argument("artifacts", nargs=-1, required=True)
@click.option("--prompt-tokens", default=128, show_default=True, type=click.IntRange(8, 4096))
@click.option("--decode-tokens", default=64, show_default=True, type=click.IntRange(8, 1024))
@click.option("--repetitions", default=5, show_default=True, type=click.IntRange(5, 100))
@_threads()
@click.option("--json", "json_file", type=_path(), help="Also write every raw sample to this new file.")
def bench(
    artifacts: tuple[str, ...],
    prompt_tokens: int,
    decode_tokens: int,
    repetitions: int,
    threads: int | None,
    json_file: Path | None,
) -> None:
    """Measure load time, time to first token, prefill and decode speed, and memory of ARTIFACTS on this machine."""
    from empathy_edge.bench import latency
    from empathy_edge.errors import EmpathyEdgeError
    from empathy_edge.recipe import BenchSettings
    from empathy_edge.run import write_json

    if json_file is not None and json_file.exists():
        raise EmpathyEdgeError(f"{json_file}: exists already; choose another name. Nothing was measured.")
    settings = BenchSettings(
        prompt_tokens=prompt_tokens, decode_tokens=decode_tokens, repetitions=repetitions, threads=threads
    )
    result = latency.bench(list(artifacts), settings)
    if json_file is not None:
        write_json(json_file, result)
    latency.show([latency.summary(row) for row in result["artifacts"]], result["settings"])


@cli.command(
    epilog=EXAMPLES + "  empathy-edge winrate --rows rows --base smollm2-135m --checkpoint exported/merged "
    "exported/gguf-q4_0 --out compared"
)
@click.argument("artifacts", nargs=-1, type=_path())
@click.option(
    "--rows",
    required=True,
    type=_path(),
    help="The folder that `distill` made: test split and judge's pairs.",
)
@click.option("--base", required=True, help="The model before fine-tuning.")
@click.option("--checkpoint", required=True, type=_path(), help="The merged checkpoint.")
@click.option("--max-prompts", type=click.IntRange(1), help="Use only the first prompts of the test split.")
@_out()
@_update()
def winrate(
    artifacts: tuple[Path, ...],
    rows: Path,
    base: str,
    checkpoint: Path,
    max_prompts: int | None,
    out: Path,
    update: bool,
) -> None:
    """Let base, fine-tuned model and ARTIFACTS answer the test split, and compare the responses pairwise."""
    from empathy_edge.bench.winrate import run as run_stage
    from empathy_edge.models import checkpoint_of
    from empathy_edge.recipe import GateSettings, WinrateSettings

    arms = {
        "base": checkpoint_of(base).path,
        "fine-tuned": checkpoint,
        **{item.name: item for item in artifacts},
    }
    run_stage(
        arms=arms,
        test=rows / "test.jsonl",
        pairs=rows / "preference.jsonl",
        control=rows / "control.jsonl",
        out=out,
        settings=WinrateSettings(max_prompts=max_prompts),
        minimum_accuracy=GateSettings().min_judge_accuracy,
        update=update,
    )


@cli.command(epilog=EXAMPLES + "  empathy-edge gate compared --out judged")
@click.argument("compared", type=_path())
@click.option(
    "--min-win-rate",
    default=0.45,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="What the lower bound of the win rate against the fine-tuned model must reach.",
)
@click.option(
    "--min-format-ok",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="The share of responses that must be well-formed.",
)
@_out()
@_update()
def gate(compared: Path, min_win_rate: float, min_format_ok: float, out: Path, update: bool) -> None:
    """PASS, FAIL or INCONCLUSIVE for each artifact in the folder COMPARED that `winrate` made.

    Exit code 0 for PASS and INCONCLUSIVE, 1 for FAIL. A judge that is not certified never gives PASS.
    """
    from empathy_edge.bench import gate as stage
    from empathy_edge.errors import VerdictFailed
    from empathy_edge.recipe import GateSettings

    settings = GateSettings(min_win_rate=min_win_rate, min_format_ok=min_format_ok)
    verdicts = stage.run(winrate=compared, out=out, settings=settings, update=update)["results"]["verdicts"]
    if stage.overall(verdicts) == "FAIL":
        raise VerdictFailed("The gate says FAIL.")


@cli.command(epilog=EXAMPLES + "  empathy-edge report runs/quickstart --out report")
@click.argument("run_folder", type=_path())
@_out()
@_update()
def report(run_folder: Path, out: Path, update: bool) -> None:
    """Write one self-contained HTML page about a finished run."""
    from empathy_edge.bench.report import run as run_stage

    run_stage(run_folder=run_folder, out=out, update=update)


@cli.command(
    epilog=EXAMPLES + "  empathy-edge chat smollm2-135m\n  empathy-edge chat runs/quickstart/export/gguf-q4_0\n"
    "  echo 'I failed my exam.' | empathy-edge chat model.gguf"
)
@click.argument("artifact")
@_threads()
@click.option("--context", default=2048, show_default=True, type=click.IntRange(256), help="Context window, tokens.")
@click.option("--max-new-tokens", default=160, show_default=True, type=click.IntRange(1))
@click.option("--temperature", default=0.0, show_default=True, type=click.FloatRange(0, 2))
@click.option("--seed", default=0, show_default=True)
def chat(
    artifact: str, threads: int | None, context: int, max_new_tokens: int, temperature: float, seed: int
) -> None:
    """Talk to ARTIFACT in the terminal: an artifact folder, a .gguf file, a checkpoint, or a shipped model's name."""
    from empathy_edge.chat import chat as talk

    talk(
        artifact,
        threads=threads,
        context=context,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    )


@cli.command(epilog=EXAMPLES + "  empathy-edge devices\n  empathy-edge devices raspberry-pi-5")
@click.argument("device", required=False)
def devices(device: str | None) -> None:
    """List the phones and boards that are known, or show one with the source of every number."""
    from empathy_edge.console import out, table
    from empathy_edge.devices import device_ids, load_device

    if device is None:
        rows = [[name, load_device(name).name, load_device(name).soc] for name in device_ids()]
        columns = ["id", "name", "SoC"]
        title = "Devices"
    else:
        profile = load_device(device)
        rows = [[key, f"{item.value:g}", item.kind, item.source] for key, item in profile.figures.items()]
        columns, title = ["figure", "value", "kind", "source"], f"{profile.name} ({profile.soc})"
    result = table(title, columns, rows)
    for column in result.columns:
        column.justify = "left"
    out.print(result)


@cli.command(epilog=EXAMPLES + "  empathy-edge doctor")
def doctor() -> int:
    """Say what is installed, what is missing for which command and how to get it. Exit code 3 if something is."""
    from empathy_edge.doctor import doctor as examine

    return 3 if examine() else 0
