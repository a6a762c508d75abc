"""Commands that measure, show or compare what was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from empathy_edge.commands.options import EXAMPLES, out_option, path_type, threads_option, update_option


@click.command(epilog=EXAMPLES + "  empathy-edge verify exported/merged exported/gguf-q4_0 --out checked")
@click.argument("checkpoint", type=path_type())
@click.argument("artifacts", nargs=-1, required=True, type=path_type())
@click.option(
    "--prompts", default=8, show_default=True, type=click.IntRange(1, 32), help="How many test prompts."
)
@out_option()
@update_option()
def verify(checkpoint: Path, artifacts: tuple[Path, ...], prompts: int, out: Path, update: bool) -> None:
    """Compare ARTIFACTS with the CHECKPOINT they were made from: token ids, greedy text, top-1, KL."""
    from empathy_edge.export.verify import run as run_stage

    run_stage(checkpoint=checkpoint, artifacts=list(artifacts), out=out, prompts=prompts, update=update)


@click.command(
    epilog=EXAMPLES
    + "  empathy-edge respond smollm2-135m --dialogues rows/test.jsonl --out responses/base.jsonl\n"
    "  empathy-edge respond smollm2-135m --adapter tuned/sft/adapter --adapter tuned/dpo/adapter \\\n"
    "      --dialogues rows/test.jsonl --out responses/tuned.jsonl"
)
@click.argument("model")
@click.option(
    "--adapter", "adapters", multiple=True, type=path_type(), help="A PEFT folder to add to a checkpoint."
)
@click.option(
    "--dialogues", required=True, type=path_type(), help="Dialogues; those of the test split are answered."
)
@click.option("--max-prompts", type=click.IntRange(1), help="Answer only the first ones.")
@click.option("--max-new-tokens", default=160, show_default=True, type=click.IntRange(1, 2048))
@click.option("--similarity", is_flag=True, help="Also measure how near in meaning the responses come.")
@click.option(
    "--out", required=True, type=path_type(), help="The JSONL to write; one that was cut off goes on."
)
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
    from empathy_edge.bench.gate.arm import run as run_arm

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
    epilog=EXAMPLES + "  empathy-edge chat\n  empathy-edge chat runs/quickstart/export/gguf-q4_0\n"
    "  echo 'I failed my exam.' | empathy-edge chat model.gguf --once"
)
@click.argument("artifact", default="smollm2-135m")
@click.option("--once", is_flag=True, help="Answer the standard input as one message, and end.")
@threads_option()
@click.option(
    "--context", default=2048, show_default=True, type=click.IntRange(256), help="Context window, tokens."
)
@click.option("--max-new-tokens", default=160, show_default=True, type=click.IntRange(1))
@click.option("--temperature", default=0.0, show_default=True, type=click.FloatRange(0, 2))
@click.option("--seed", default=0, show_default=True)
@click.option("--system", help="What the model is told before the conversation. [default: prompts/chat.yaml]")
@click.option("--markdown", is_flag=True, help="Show answers as Markdown.")
@click.option(
    "--crisis-help/--no-crisis-help",
    default=True,
    show_default=True,
    help="On open signs of self-harm, name human help instead of letting the model answer.",
)
@click.option("--country", help="Two letters, as DE, for that help. [default: from the locale]")
def chat(
    artifact: str,
    once: bool,
    threads: int | None,
    context: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    system: str | None,
    markdown: bool,
    crisis_help: bool,
    country: str | None,
) -> None:
    """Talk to ARTIFACT in the terminal: an artifact folder, a .gguf file, a checkpoint, or a shipped model's name.

    /help lists the commands: /stats, /system, /reset, /save, /load, /compare, /quit.
    """
    from empathy_edge.chat.session import chat as talk
    from empathy_edge.chat.settings import ChatSettings

    settings = ChatSettings(
        threads=threads,
        context=context,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        markdown=markdown,
        crisis_help=crisis_help,
        country=country,
    )
    talk(artifact, settings, once=once, system=system)


@click.command(epilog=EXAMPLES + "  empathy-edge devices\n  empathy-edge devices raspberry-pi-5")
@click.argument("device", required=False)
def devices(device: str | None) -> None:
    """List the phones and boards that are known, or show one with the source of every number."""
    from empathy_edge.console import out, table
    from empathy_edge.devices import device_ids, load_device

    if device is None:
        profiles = [load_device(name) for name in device_ids()]
        rows = [[item.id, item.name, item.soc, item.tier, _known(item)] for item in profiles]
        columns = ["id", "name", "SoC", "class", "speed of llama.cpp on its CPU"]
        title = "Devices"
    else:
        profile = load_device(device)
        facts = [("cores", profile.cores), ("isa", profile.isa)]
        rows = [[name, fact.value, fact.kind, fact.source] for name, fact in facts if fact]
        rows += [[key, f"{item.value:g}", item.kind, item.source] for key, item in profile.figures.items()]
        for run in (*profile.runs, *profile.elsewhere):
            name = run.model if hasattr(run, "layers") else f"{run.model}, {run.runtime}"
            for what, speed in (("prefill", run.prefill_tps), ("decode", run.decode_tps)):
                if speed is not None:
                    rows.append([f"{what} tokens/s", f"{speed:g}: {name}", run.kind, run.source])
        columns, title = ["figure", "value", "kind", "source"], f"{profile.name} ({profile.soc})"
    result = table(title, columns, rows)
    for column in result.columns:
        column.justify, column.overflow = "left", "fold"
    out.print(result)


def _known(profile: Any) -> str:
    if any(name.startswith("decode_gb") for name in profile.figures):
        return "profile"
    return "a run" if any(run.decode_tps for run in profile.runs) else "unknown"


@click.command(epilog=EXAMPLES + "  empathy-edge doctor")
def doctor() -> int:
    """Say what is installed, what is missing for which command and how to get it. Exit code 3 if something is."""
    from empathy_edge.doctor import doctor as examine

    return 3 if examine() else 0


COMMANDS = (verify, respond, report, chat, devices, doctor)
"""In the order of the road."""
