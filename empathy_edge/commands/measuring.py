"""Commands that measure, show or compare what was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from empathy_edge.commands.options import EXAMPLES, out_option, path_type, threads_option, update_option


@click.command(epilog=EXAMPLES + "  empathy-edge verify exported/merged exported/gguf-q4_0 --out checked")
@click.argument("checkpoint", type=path_type())
@click.argument("artifacts", nargs=-1, required=True, type=path_type())
@click.option("--prompts", default=8, show_default=True, type=click.IntRange(1, 32), help="How many test prompts.")
@out_option()
@update_option()
def verify(checkpoint: Path, artifacts: tuple[Path, ...], prompts: int, out: Path, update: bool) -> None:
    """Compare ARTIFACTS with the CHECKPOINT they were made from: token ids, greedy text, top-1, KL."""
    from empathy_edge.export.verify import run as run_stage

    run_stage(checkpoint=checkpoint, artifacts=list(artifacts), out=out, prompts=prompts, update=update)


@click.command(
    epilog=EXAMPLES + "  empathy-edge bench exported/gguf-q4_0 exported/onnx-int4\n"
    "  empathy-edge bench model.gguf --threads 4 --prompt-tokens 256 --json figures.json"
)
@click.argument("artifacts", nargs=-1, required=True)
@click.option("--prompt-tokens", default=128, show_default=True, type=click.IntRange(8, 4096))
@click.option("--decode-tokens", default=64, show_default=True, type=click.IntRange(8, 1024))
@click.option("--repetitions", default=5, show_default=True, type=click.IntRange(5, 100))
@threads_option()
@click.option("--json", "json_file", type=path_type(), help="Also write every raw sample to this new file.")
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


@click.command(
    epilog=EXAMPLES + "  empathy-edge respond smollm2-135m --dialogues rows/test.jsonl --out responses/base.jsonl\n"
    "  empathy-edge respond smollm2-135m --adapter tuned/sft/adapter --adapter tuned/dpo/adapter \\\n"
    "      --dialogues rows/test.jsonl --out responses/tuned.jsonl"
)
@click.argument("model")
@click.option("--adapter", "adapters", multiple=True, type=path_type(), help="A PEFT folder to add to a checkpoint.")
@click.option("--dialogues", required=True, type=path_type(), help="Dialogues; those of the test split are answered.")
@click.option("--max-prompts", type=click.IntRange(1), help="Answer only the first ones.")
@click.option("--max-new-tokens", default=160, show_default=True, type=click.IntRange(1, 2048))
@click.option("--similarity", is_flag=True, help="Also measure how near in meaning the responses come.")
@click.option("--out", required=True, type=path_type(), help="The JSONL to write; one that was cut off goes on.")
def respond(
    model: str,
    adapters: tuple[Path, ...],
    dialogues: Path,
    max_prompts: int | None,
    max_new_tokens: int,
    similarity: bool,
    out: Path,
) -> None:
    """Let MODEL answer the test split, greedily, and check the format of its responses."""
    from empathy_edge.bench.arm import run as run_arm

    run_arm(model, list(adapters), dialogues, out, max_prompts, max_new_tokens, similarity)


@click.command(
    epilog=EXAMPLES + "  empathy-edge winrate --rows rows --base smollm2-135m --checkpoint exported/merged "
    "exported/gguf-q4_0 --out compared"
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
@out_option()
@update_option()
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


@click.command(epilog=EXAMPLES + "  empathy-edge gate compared --out judged")
@click.argument("compared", type=path_type())
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
@out_option()
@update_option()
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


@click.group()
def score() -> None:
    """Absolute empathy scores, 1 to 3: study what predicts them, train a scorer, rate responses."""


def _embedding_option() -> Any:
    return click.option(
        "--embedding", default="all-MiniLM-L6-v2", show_default=True, help="A sentence-transformers model."
    )


@score.command(epilog=EXAMPLES + "  empathy-edge score study rated_responses_miti.csv --out study")
@click.argument("data", type=path_type())
@_embedding_option()
@out_option()
@update_option()
def study(data: Path, embedding: str, out: Path, update: bool) -> None:
    """Which features and classifiers tell how people rated the responses in DATA, beside the paper's figures.

    Each accuracy is given on the paper's split and on folds in which no dialogue is in both training and test.
    """
    from empathy_edge.scoring.study import run as run_study

    run_study(data=data, out=out, embedding=embedding, update=update)


@score.command("train", epilog=EXAMPLES + "  empathy-edge score train rated_responses_miti.csv --out scorer.json")
@click.argument("data", type=path_type())
@_embedding_option()
@click.option("--out", required=True, type=path_type(), help="The file to write, JSON.")
@click.option("--update", is_flag=True, help="Replace the file if there is one.")
def train_scorer(data: Path, embedding: str, out: Path, update: bool) -> None:
    """Train a scorer on the rated responses in DATA and measure it on dialogues that it did not see."""
    from empathy_edge.scoring.scorer import train

    train(data=data, file=out, embedding=embedding, update=update)


@score.command(
    epilog=EXAMPLES + "  empathy-edge score rate responses/base.jsonl responses/tuned.jsonl \\\n"
    "      --dialogues rows/test.jsonl --scorer scorer.json --out scores.jsonl"
)
@click.argument("responses", nargs=-1, required=True, type=path_type())
@click.option("--dialogues", required=True, type=path_type(), help="What was responded to.")
@click.option("--scorer", required=True, type=path_type(), help="What `score train` wrote.")
@click.option("--out", type=path_type(), help="Also write every score with its reasons to this new file.")
def rate(responses: tuple[Path, ...], dialogues: Path, scorer: Path, out: Path | None) -> None:
    """Score RESPONSES (files that `respond` wrote), each with the features that moved its score most."""
    from empathy_edge.scoring.command import rate as rate_all

    rate_all(responses, dialogues, scorer, out)


@click.command(epilog=EXAMPLES + "  empathy-edge report runs/quickstart --out report")
@click.argument("run_folder", type=path_type())
@out_option()
@update_option()
def report(run_folder: Path, out: Path, update: bool) -> None:
    """Write one self-contained HTML page about a finished run."""
    from empathy_edge.bench.report import run as run_stage

    run_stage(run_folder=run_folder, out=out, update=update)


@click.command(
    epilog=EXAMPLES + "  empathy-edge chat smollm2-135m\n  empathy-edge chat runs/quickstart/export/gguf-q4_0\n"
    "  echo 'I failed my exam.' | empathy-edge chat model.gguf"
)
@click.argument("artifact")
@threads_option()
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


@click.command(epilog=EXAMPLES + "  empathy-edge devices\n  empathy-edge devices raspberry-pi-5")
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


@click.command(epilog=EXAMPLES + "  empathy-edge doctor")
def doctor() -> int:
    """Say what is installed, what is missing for which command and how to get it. Exit code 3 if something is."""
    from empathy_edge.doctor import doctor as examine

    return 3 if examine() else 0


COMMANDS = (verify, bench, respond, score, winrate, gate, report, chat, devices, doctor)
"""In the order of the road."""
