"""Commands that decide whether an artifact kept its empathy."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from empathy_edge.commands import completers
from empathy_edge.commands.json_output import give_json, json_option
from empathy_edge.commands.options import (
    DATA_FORMS,
    EXAMPLES,
    VALUES,
    FromSettings,
    SettingsCommand,
    api_settings,
    device_option,
    is_given,
    map_option,
    path_type,
    takes_settings,
    template_option,
)
from empathy_edge.data import DEFAULT_JUDGE

if TYPE_CHECKING:
    from empathy_edge.bench.check.baseline.record import Baseline
    from empathy_edge.bench.check.next_commands import CheckCommand
    from empathy_edge.bench.check.report import CheckReport
    from empathy_edge.llm.api_settings import ApiSettings
    from empathy_edge.runs.settings import CheckSettings, ReplySettings


def _reply_settings() -> type[ReplySettings]:
    from empathy_edge.runs.settings import ReplySettings

    return ReplySettings


def _check_settings() -> type[CheckSettings]:
    from empathy_edge.runs.settings import CheckSettings

    return CheckSettings


_REPLIES = FromSettings(_reply_settings, ("temperature", "max_new_tokens", "samples", "max_prompts", "seed"))

_prompts_option = click.option(
    "--prompts",
    type=path_type(),
    help=f"Your own prompts, from which responses are left out: {DATA_FORMS} [default: 640 shipped ones]",
)
_judge_option = click.option(
    "--judge",
    default=DEFAULT_JUDGE,
    show_default=True,
    help="Who rates replies: likelihood:MODEL, openai:MODEL (any OpenAI-compatible endpoint; key: "
    "OPENAI_API_KEY), local:MODEL, an instruct model on this machine, trained:FOLDER, a model that "
    "`python -m empathy_edge.runs.trained_judge` wrote, or sheet:FILE.csv: people, who fill in that file "
    "after the first run has written it.",
)
_quantized_option = click.option(
    "--allow-quantized-reference", is_flag=True, help="Compare with a model whose own weights are quantized."
)


@takes_settings(settings=_REPLIES, api=api_settings())
@click.command(
    cls=SettingsCommand,
    epilog=EXAMPLES + "  empathy-edge baseline exported/merged --out baseline.json.gz\n"
    "  empathy-edge baseline my-model-f16.gguf --prompts prompts.txt --out baseline.json.gz",
)
@click.argument("model", shell_complete=completers.models)
@_prompts_option
@map_option()
@_judge_option
@_quantized_option
@device_option()
@template_option()
@click.option(
    "--out",
    required=True,
    type=path_type(),
    help="The file to write, as baseline.json.gz; an existing one is not replaced.",
)
def baseline(  # noqa: PLR0913 - each is an option
    model: str,
    prompts: Path | None,
    columns: dict[str, str],
    judge: str,
    allow_quantized_reference: bool,
    template: str | None,
    out: Path,
    settings: ReplySettings,
    api: ApiSettings,
) -> None:
    """Keep a model's replies, so that `check` needs no torch.

    MODEL is the full-precision one. `check --baseline FILE` then needs neither it nor torch.
    """
    from empathy_edge.api.verdicts import made_baseline
    from empathy_edge.bench.check.baseline.record import write_baseline
    from empathy_edge.console import next_command, tell
    from empathy_edge.errors import EmpathyEdgeError
    from empathy_edge.models.templates import name_with_template

    if out.exists():
        raise EmpathyEdgeError(f"{out}: is there already. Choose another --out, or move it away.")
    opened = name_with_template(model, template)
    made = made_baseline(
        opened, prompts, columns, judge, allow_quantized_reference, settings, api, command="baseline"
    )
    write_baseline(out, made)
    tell(f"{out}: {len(made.prompts)} prompts, {out.stat().st_size / 1e6:.1f} MB")
    next_command("empathy-edge", "check", "ARTIFACT", "--baseline", out)


@takes_settings(
    replies=_REPLIES,
    settings=FromSettings(_check_settings, ("min_win_rate", "greedy", "health_prompts")),
    api=api_settings(),
)
@click.command(
    cls=SettingsCommand,
    epilog=EXAMPLES
    + "  empathy-edge check exported/gguf-q8_0 exported/gguf-q4_0 --reference exported/merged\n"
    "  empathy-edge check model-q4_k_m.gguf --baseline baseline.json.gz --junit check.xml",
)
@click.argument("artifacts", nargs=-1, required=True, shell_complete=completers.models)
@click.option(
    "--reference",
    shell_complete=completers.models,
    help="The full-precision model: a folder, a GGUF in F16, BF16 or F32, a hub id.",
)
@click.option("--baseline", "baseline_file", type=path_type(), help="Instead: what `baseline` wrote.")
@_prompts_option
@map_option()
@_judge_option
@_quantized_option
@template_option("The chat template of reference and artifacts")
@json_option()
@click.option("--junit", "junit_file", type=path_type(), help="Also write JUnit XML to this file.")
@click.option(
    "--markdown", "markdown_file", type=path_type(), help="Also write a Markdown summary to this file."
)
@device_option()
def check(  # noqa: PLR0913 - each is an option
    artifacts: tuple[str, ...],
    reference: str | None,
    baseline_file: Path | None,
    prompts: Path | None,
    columns: dict[str, str],
    judge: str,
    allow_quantized_reference: bool,
    template: str | None,
    json_file: Path | None,
    junit_file: Path | None,
    markdown_file: Path | None,
    replies: ReplySettings,
    settings: CheckSettings,
    api: ApiSettings,
) -> int:
    """Say whether artifacts kept the empathy of their model.

    ARTIFACTS are compared with the full-precision model that they were made of. Exit code 0 when all do
    (PASS), 1 when one does not (FAIL), 4 when one is undecided; the output says what would decide it. What is
    estimated and how: docs/gate.md.
    """
    from empathy_edge.api.verdicts import made_baseline
    from empathy_edge.bench.check.baseline.record import read_baseline
    from empathy_edge.bench.check.beforehand import say_what_can_pass
    from empathy_edge.bench.check.output import junit, markdown, show
    from empathy_edge.bench.check.run import check as run
    from empathy_edge.bench.check.run import require_ready
    from empathy_edge.models.templates import names_with_template
    from empathy_edge.system.files import write_atomically

    if (reference is None) == (baseline_file is None):
        raise click.UsageError(_reference_or_baseline(artifacts, is_given=reference is not None))
    require_ready(artifacts)
    if baseline_file is not None:
        _refuse_options_of_a_baseline()
        opened = names_with_template(artifacts, template)
        known = read_baseline(baseline_file)
        say_what_can_pass(len(known.prompts), known.judge.name, known.judge.doubts)
    else:
        assert reference is not None
        full, *opened = names_with_template([reference, *artifacts], template)
        known = made_baseline(
            full, prompts, columns, judge, allow_quantized_reference, replies, api, command="check"
        )
    named = judge if reference or is_given("judge") else None
    checked = run(opened, known, settings, named, api)
    show(checked)
    give_json(json_file, checked)
    if junit_file:
        write_atomically(junit_file, junit(checked))
    if markdown_file:
        write_atomically(markdown_file, markdown(checked))
    _say_what_next(checked, artifacts, reference, known)
    return checked.exit_code()


def _reference_or_baseline(artifacts: tuple[str, ...], *, is_given: bool) -> str:
    """That one of the two is needed; names the full-precision model that lies beside an artifact."""
    from empathy_edge.models.beside import full_model_beside

    text = "Give either --reference MODEL or --baseline FILE."
    full = None if is_given else full_model_beside(Path(artifacts[0]).expanduser())
    return (
        text
        if full is None
        else f"{text} Beside the artifact lies its model: --reference {shlex.quote(str(full))}"
    )


def _say_what_next(
    checked: CheckReport, artifacts: tuple[str, ...], reference: str | None, known: Baseline
) -> None:
    """What decides the undecided; then ship what passed, or find what loses less than what failed."""
    from empathy_edge.console import next_command

    verdicts = {name: item.verdict for name, item in zip(artifacts, checked.artifacts, strict=True)}
    passed = [name for name, verdict in verdicts.items() if verdict == "PASS"]
    is_last = not passed and "FAIL" not in verdicts.values()
    if "UNDECIDED" in verdicts.values():
        _say_what_decides(checked, artifacts, reference, known, is_last=is_last)
    if passed and Path(passed[0]).is_dir():
        next_command("empathy-edge", "export", "bundle", passed[0], "--out", "bundle")
    elif passed and not passed[0].endswith(".litertlm"):
        next_command("empathy-edge", "phone", passed[0], "--lan", "--https")
    elif passed:
        next_command("empathy-edge", "chat", passed[0])
    elif "FAIL" in verdicts.values():
        model = reference or checked.reference
        next_command("empathy-edge", "choose", model, "--device", "pixel-8", "--out", "chosen")


def _say_what_decides(
    checked: CheckReport, artifacts: tuple[str, ...], reference: str | None, known: Baseline, *, is_last: bool
) -> None:
    """The commands that decide the undecided; the one to take is the last line, if nothing else is."""
    from empathy_edge.bench.check.next_commands import groups_of, what_to_do
    from empathy_edge.console import next_command, next_step, say_command

    undecided = {}
    for name, item in zip(artifacts, checked.artifacts, strict=True):
        if item.verdict == "UNDECIDED":
            undecided[name] = item
    judge = known.judge.name if reference is None or is_given("judge") else None
    for group in reversed(groups := groups_of(undecided)):
        again = _check_again(list(group), reference, known)
        todo = what_to_do(list(group.values()), checked, again, judge, known.settings.samples)
        of = ", ".join(item.artifact for item in group.values())
        then = (
            "" if reference is not None else f", then check with --baseline {again.head[-1]} and that --judge"
        )
        is_next = is_last and group == groups[0]
        for what, command in reversed(todo.commands):
            is_shown_below = is_next and command == todo.commands[0][1]
            say_command(f"To decide {of} {what}{then}:", () if is_shown_below else command)
        if is_next and todo.commands:
            next_command(*todo.commands[0][1])
        elif is_next:
            next_step(todo.text)
        elif todo.text:
            say_command(f"To decide {of}: {todo.text}.", ())


def _check_again(artifacts: list[str], reference: str | None, known: Baseline) -> CheckCommand:
    """This check of some of the artifacts, or the command that makes its baseline."""
    from empathy_edge.bench.check.next_commands import CheckCommand, baseline_again, check_of

    if reference is None:
        return baseline_again(known)
    values = click.get_current_context().meta[VALUES]
    own_prompts = values["prompts"] is not None
    return CheckCommand(check_of(artifacts, reference), _options_again(), values["max_prompts"], own_prompts)


def _options_again() -> tuple[str, ...]:
    """The options of this command that were given, for the same check once more.

    Not those that `CheckCommand` has, and no files to write.
    """
    context = click.get_current_context()
    values = context.meta[VALUES]
    others = ("artifacts", "reference", "max_prompts", "judge", "json_file", "junit_file", "markdown_file")
    words: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in others or name not in values or not is_given(name):
            continue
        option, value = parameter.opts[0], values[name]
        if name == "columns":
            for field, column in value.items():
                words += [option, f"{field}={column}"]
        elif isinstance(value, bool):
            words.append(option if value else parameter.secondary_opts[0])
        else:
            words += [option, str(value)]
    return tuple(words)


def _refuse_options_of_a_baseline() -> None:
    """With a baseline, prompts and decoding are given by it."""
    names = ("prompts", "columns", *_REPLIES.fields)
    given = [name for name in names if is_given(name)]
    if given:
        option = "--map" if given[0] == "columns" else "--" + given[0].replace("_", "-")
        raise click.UsageError(f"{option} is set by the baseline; leave it out, or make another baseline.")
