"""Commands that measure speed and memory on this machine; those about phones are in `bench_phones`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from empathy_edge.commands import completers
from empathy_edge.commands.bench_phones import device, ingest, predict
from empathy_edge.commands.groups import Group, refuse_misspelled
from empathy_edge.commands.json_output import give_json, json_option, none_exists
from empathy_edge.commands.options import (
    EXAMPLES,
    FromSettings,
    SettingsCommand,
    path_type,
    refuse_given,
    takes_settings,
    template_option,
    threads_option,
)

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from empathy_edge.bench.measure_settings import MeasureSettings
    from empathy_edge.bench.result_file import StandardResult


def _measure_settings() -> type[MeasureSettings]:
    from empathy_edge.bench.measure_settings import MeasureSettings

    return MeasureSettings


class _RunByDefault(Group):
    """`bench ARTIFACT` is `bench run ARTIFACT`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            refuse_misspelled(args[0], self, ctx)
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The first word is a command or an artifact."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return completers.models_or_commands(ctx, self, incomplete)


@click.group(
    cls=_RunByDefault,
    epilog=EXAMPLES + "  empathy-edge bench exported/gguf-q4_0 exported/onnx-int4\n"
    "  empathy-edge bench predict --device galaxy-s23 --artifact exported/gguf-q4_0\n"
    "  empathy-edge bench compare new.json old.json",
)
def bench() -> None:
    """Measure speed and memory here, or predict them for a phone.

    `bench ARTIFACTS…` is `bench run ARTIFACTS…`.
    """


MIN_REPETITIONS = 5
"""From fewer rounds no 95 % interval of a median can be had."""

OF_STANDARD = (
    "--prompt-tokens",
    "--decode-tokens",
    "--until-stable",
    "--cold",
    "--llama-bench",
    "--markdown",
    "--baseline",
    "--tolerance",
)
OF_CHAT = ("--dialogues", "--max-new-tokens")
"""The options of one suite alone."""


@takes_settings(
    settings=FromSettings(
        _measure_settings,
        (
            "suite",
            "prompt_tokens",
            "decode_tokens",
            "repetitions",
            "until_stable",
            "cold",
            "threads",
            "dialogues",
            "max_new_tokens",
            "tolerance",
        ),
    )
)
@bench.command(
    cls=SettingsCommand,
    epilog=EXAMPLES + "  empathy-edge bench exported/gguf-q4_0 exported/onnx-int4\n"
    "  empathy-edge bench model.gguf --threads 4 --prompt-tokens 128 --prompt-tokens 512 \\\n"
    "      --json figures.json\n"
    "  empathy-edge bench exported/gguf-q4_0 --suite chat\n"
    "  empathy-edge bench exported/gguf-q4_0 --baseline main.json --tolerance 0.1   # exit code 1 if slower",
)
@click.argument("artifacts", nargs=-1, required=True, shell_complete=completers.models)
@template_option()
@json_option()
@click.option(
    "--llama-bench", "jsonl_file", type=path_type(), help="Also write llama-bench's JSONL to this new file."
)
@click.option(
    "--markdown", "markdown_file", type=path_type(), help="Also write a Markdown table to this new file."
)
@click.option(
    "--baseline", type=path_type(), help="An earlier --json; say what changed, and FAIL beyond --tolerance."
)
def run(
    artifacts: tuple[str, ...],
    json_file: Path | None,
    jsonl_file: Path | None,
    markdown_file: Path | None,
    baseline: Path | None,
    template: str | None,
    settings: MeasureSettings,
) -> int:
    """Measure speed and memory of ARTIFACTS on this machine.

    Measured are load time, first token, prefill and decode speed, and memory. Exit code 1 if --baseline is
    given and something is slower or larger than --tolerance allows, 4 if the samples are too few or too noisy
    to tell.
    """
    from empathy_edge.models.templates import names_with_template

    if settings.suite == "chat":
        refuse_given(OF_STANDARD, "belongs to --suite standard.")
    else:
        refuse_given(OF_CHAT, "belongs to --suite chat.")
        if baseline is None:
            refuse_given(("--tolerance",), "belongs to --baseline: there is nothing to compare with.")
    none_exists(json_file, jsonl_file, markdown_file)
    opened = names_with_template(artifacts, template)
    if settings.suite == "chat":
        _measure_chat(opened, settings, json_file)
        _say_what_next(artifacts[0])
        return 0
    from empathy_edge.bench import latency
    from empathy_edge.bench.latency_summary import show, summaries
    from empathy_edge.bench.outputs import llama_bench_jsonl, markdown
    from empathy_edge.bench.result_file import as_json, read_result
    from empathy_edge.runs.settings import BenchSettings
    from empathy_edge.system.files import write_atomically

    if settings.repetitions is not None and settings.repetitions < MIN_REPETITIONS:
        raise click.BadParameter(
            f"{settings.repetitions} rounds give no interval; --suite standard needs at least "
            f"{MIN_REPETITIONS}.",
            param_hint="--repetitions",
        )
    old = read_result(baseline) if baseline else None
    result = latency.bench(
        opened,
        BenchSettings(
            repetitions=settings.repetitions or MIN_REPETITIONS,
            decode_tokens=settings.decode_tokens,
            threads=settings.threads,
        ),
        prompts=sorted(set(settings.prompt_tokens)),
        until_stable=settings.until_stable,
        cold=settings.cold,
    )
    give_json(json_file, as_json(result))
    if jsonl_file:
        write_atomically(jsonl_file, llama_bench_jsonl(result))
    if markdown_file:
        write_atomically(markdown_file, markdown(result))
    show(summaries(result), result.settings)
    if old is not None:
        return _against(result, old, settings.tolerance)
    _say_what_next(artifacts[0])
    return 0


def _say_what_next(artifact: str) -> None:
    """A GGUF's speed can be predicted for phones; other figures are compared with later ones."""
    from empathy_edge.console import next_command, next_step

    if _is_gguf(artifact):
        next_command("empathy-edge", "bench", "predict", "--device", "all", "--artifact", artifact)
    else:
        next_step("keep the figures with --json FILE, and see later what changed: --baseline FILE")


def _is_gguf(artifact: str) -> bool:
    from empathy_edge.models.shipped import SHIPPED

    file = Path(artifact)
    return file.suffix == ".gguf" or (file / "model.gguf").is_file() or artifact in SHIPPED


def _measure_chat(artifacts: list[str], settings: MeasureSettings, json_file: Path | None) -> None:
    from empathy_edge.bench import chat_suite
    from empathy_edge.bench.result_file import as_json
    from empathy_edge.runs.given_data import data_file

    file = data_file(settings.dialogues) if settings.dialogues else None
    result = chat_suite.bench_chat(
        artifacts,
        conversations=chat_suite.read_conversations(file),
        rounds=settings.repetitions or 1,
        threads=settings.threads,
        max_new_tokens=settings.max_new_tokens,
    )
    give_json(json_file, as_json(result))
    chat_suite.show(result)


def _against(result: StandardResult, old: StandardResult, tolerance: float) -> int:
    from empathy_edge.bench import differences
    from empathy_edge.console import next_step, say

    found = differences.differences(result, old)
    if not found:
        raise click.UsageError("--baseline holds none of these artifacts at these prompt lengths.")
    alone = differences.not_compared(result, old)
    differences.show(found, differences.check_comparable(result, old), alone)
    verdicts = differences.gate(found, tolerance)
    colours = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}
    for name, figure, verdict in verdicts:
        say(f"[{colours[verdict]}]{verdict}[/] {name} {figure}")
    said = {verdict for _, _, verdict in verdicts}
    if "INCONCLUSIVE" in said:
        next_step(
            "the same command with more rounds (--repetitions), or until the samples agree (--until-stable)"
        )
    elif "FAIL" in said:
        next_step("measure both states again side by side; if it stays so, look for what made it slower")
    else:
        next_step("keep the new figures as the baseline of the next change (--json FILE)")
    return 1 if "FAIL" in said else 4 if "INCONCLUSIVE" in said else 0


@bench.command(epilog=EXAMPLES + "  empathy-edge bench compare after.json before.json")
@click.argument("new", type=path_type())
@click.argument("old", type=path_type())
@json_option()
def compare(new: Path, old: Path, json_file: Path | None) -> None:
    """Say which differences between two results are real.

    NEW and OLD are files that `bench --json` wrote. Shown are ratios with exact intervals.
    """
    from empathy_edge.bench import differences
    from empathy_edge.bench.result_file import read_result
    from empathy_edge.console import next_command

    first, second = read_result(new), read_result(old)
    found = differences.differences(first, second)
    if not found:
        raise click.UsageError("The two have no artifact at the same prompt length in common.")
    changed, alone = differences.check_comparable(first, second), differences.not_compared(first, second)
    rows = [item.as_json() for item in found]
    differences.show(found, changed, alone)
    report = {"not_the_same": changed, "not_compared": alone, "differences": rows}
    give_json(json_file, report, "bench compare")
    next_command("empathy-edge", "bench", "ARTIFACT", "--baseline", old)


@bench.command(epilog=EXAMPLES + "  empathy-edge bench sustained exported/gguf-q4_0 --minutes 10")
@click.argument("artifact", shell_complete=completers.models)
@template_option()
@click.option(
    "--minutes", default=5.0, show_default=True, type=click.FloatRange(0.1, 240), help="How long it decodes."
)
@threads_option()
@json_option()
def sustained(
    artifact: str, template: str | None, minutes: float, threads: int | None, json_file: Path | None
) -> None:
    """Decode reply after reply: the first minute beside the last.

    It says nothing about how a phone slows down when it is hot: see `phone`.
    """
    from empathy_edge.bench.result_file import as_json
    from empathy_edge.bench.sustained import bench_sustained, show_sustained
    from empathy_edge.console import next_command
    from empathy_edge.models.templates import name_with_template

    none_exists(json_file)
    result = bench_sustained(name_with_template(artifact, template), minutes=minutes, threads=threads)
    give_json(json_file, as_json(result))
    show_sustained(result)
    if _is_gguf(artifact):
        next_command("empathy-edge", "phone", artifact, "--lan", "--https")
    else:
        next_command("empathy-edge", "check", artifact, "--reference", "MODEL")


@bench.command(epilog=EXAMPLES + "  sudo empathy-edge bench memory exported/gguf-q4_0 --json curve.json")
@click.argument("artifact", shell_complete=completers.models)
@template_option()
@click.option(
    "--prompt-tokens",
    default=128,
    show_default=True,
    type=click.IntRange(8, 4096),
    help="Tokens of the prompt.",
)
@click.option(
    "--decode-tokens", default=64, show_default=True, type=click.IntRange(8, 1024), help="New tokens."
)
@threads_option()
@json_option()
def memory(
    artifact: str,
    template: str | None,
    prompt_tokens: int,
    decode_tokens: int,
    threads: int | None,
    json_file: Path | None,
) -> None:
    """Measure how speed falls with the memory that is allowed.

    The limit is lowered to where ARTIFACT thrashes. Needs control groups (Linux, root).
    """
    from empathy_edge.bench import memory_curve
    from empathy_edge.bench.result_file import as_json
    from empathy_edge.models.templates import name_with_template

    none_exists(json_file)
    result = memory_curve.memory_curve(
        name_with_template(artifact, template),
        threads=threads,
        prompt_tokens=prompt_tokens,
        decode_tokens=decode_tokens,
    )
    give_json(json_file, as_json(result))
    memory_curve.show(result)
    _say_what_next(artifact)


for command in (predict, device, ingest):
    bench.add_command(command)
