"""Commands that measure, show or compare what was made."""

from __future__ import annotations

from pathlib import Path

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


COMMANDS = (verify, bench, respond, report, chat, devices, doctor)
"""In the order of the road."""
