"""The command that answers: which artifact of this model for this device?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from empathy_edge.commands import completers
from empathy_edge.commands.json_output import give_json, json_option
from empathy_edge.commands.options import (
    EXAMPLES,
    FromSettings,
    SettingsCommand,
    path_type,
    takes_settings,
    template_option,
)
from empathy_edge.data import DEFAULT_JUDGE

if TYPE_CHECKING:
    from empathy_edge.bench.check.baseline.record import Baseline
    from empathy_edge.bench.choose.limits import Limits
    from empathy_edge.bench.phones.prediction_settings import PredictionSettings
    from empathy_edge.models.find import ModelRef
    from empathy_edge.runs.settings import CheckSettings, ReplySettings


def _limits() -> type[Limits]:
    from empathy_edge.bench.choose.limits import Limits

    return Limits


def _prediction_settings() -> type[PredictionSettings]:
    from empathy_edge.bench.phones.prediction_settings import PredictionSettings

    return PredictionSettings


def _check_settings() -> type[CheckSettings]:
    from empathy_edge.runs.settings import CheckSettings

    return CheckSettings


def _reply_settings() -> type[ReplySettings]:
    from empathy_edge.runs.settings import ReplySettings

    return ReplySettings


@takes_settings(
    limits=FromSettings(_limits, ("max_mb", "max_first_token", "min_tps")),
    lengths=FromSettings(_prediction_settings, ("prompt_tokens", "depth", "context")),
    settings=FromSettings(_check_settings, ("min_win_rate", "health_prompts")),
    replies=FromSettings(_reply_settings, ("max_prompts",)),
)
@click.command(
    cls=SettingsCommand,
    epilog=EXAMPLES
    + "  empathy-edge choose exported/merged --device pixel-8 --max-mb 120 --min-tps 15 --out chosen\n"
    "  empathy-edge choose my-model --device galaxy-s23 --baseline baseline.json.gz --goal fastest \\\n"
    "      --max-kl 0.01 --out chosen\n"
    "  empathy-edge choose my-model --device pixel-6a --to gguf-q8_0 --to gguf-q4_0-gptq --out chosen",
)
@click.argument("model", shell_complete=completers.models)
@click.option(
    "--device",
    "device_id",
    required=True,
    shell_complete=completers.devices,
    help="An id from `devices`, or a profile's .yaml.",
)
@click.option(
    "--to",
    "kinds",
    multiple=True,
    shell_complete=completers.artifacts,
    help="An artifact to try, as gguf-q4_k_m. [default: those in docs/choose.md]",
)
@click.option(
    "--goal",
    type=click.Choice(["smallest", "fastest"]),
    default="smallest",
    show_default=True,
    help="What is preferred among those that can be shipped.",
)
@click.option(
    "--max-kl",
    type=click.FloatRange(min=0, min_open=True),
    help="Take an UNDECIDED artifact, too, up to this KL divergence from MODEL, nats a token.",
)
@click.option("--all", "check_all", is_flag=True, help="Check every one within the limits, for the picture.")
@click.option(
    "--baseline", "baseline_file", type=path_type(), help="What `baseline` wrote of MODEL; else it is made."
)
@click.option("--allow-quantized-reference", is_flag=True, help="MODEL's own weights are quantized.")
@click.option(
    "--artifacts", type=path_type(), help="The folder of an export of MODEL to use. [default: OUT/artifacts]"
)
@click.option("--calibration", type=path_type(), help="Dialogues for compensated and mixed types.")
@template_option()
@click.option(
    "--out",
    required=True,
    type=path_type(),
    help="The folder to write into; a search that was stopped goes on there.",
)
@json_option()
def choose(  # noqa: PLR0913 - each is an option
    model: str,
    device_id: str,
    kinds: tuple[str, ...],
    goal: str,
    max_kl: float | None,
    check_all: bool,
    baseline_file: Path | None,
    allow_quantized_reference: bool,
    artifacts: Path | None,
    calibration: Path | None,
    template: str | None,
    out: Path,
    json_file: Path | None,
    limits: Limits,
    lengths: PredictionSettings,
    settings: CheckSettings,
    replies: ReplySettings,
) -> int:
    """Find the artifact of a model to ship to a phone.

    It is the smallest or fastest that keeps the empathy of the full-precision MODEL (`check`) and keeps to
    the device's limits, by predicted speed and memory.

    Exit code 0 when there is one, 1 when none keeps to the limits and the check, 4 when something is open.
    """
    from empathy_edge.bench.check.run import require_ready
    from empathy_edge.bench.choose.candidate import default_kinds
    from empathy_edge.bench.choose.output import as_json, draw, show, what_next, work_of_the_search
    from empathy_edge.bench.choose.search import Wish, choose
    from empathy_edge.console import next_command, next_step, say, tell
    from empathy_edge.devices import load_device
    from empathy_edge.export.choices import ArtifactMaker
    from empathy_edge.formats.artifact_names import parse_artifact
    from empathy_edge.models.templates import checkpoint_with_template
    from empathy_edge.runs.given_data import data_file
    from empathy_edge.system.files import write_json

    device = load_device(device_id)
    for name in kinds:
        parse_artifact(name)
    require_ready(())
    base = checkpoint_with_template(model, template)
    given = str(data_file(calibration)) if calibration else None
    maker = ArtifactMaker(base, artifacts or out / "artifacts", given)
    tried = list(kinds) or default_kinds(limits)
    known = _known_baseline(base, baseline_file, out, replies)
    say(work_of_the_search(len(tried), known or replies, goal=goal, all_of_them=check_all))
    maker.prepare(tried)
    baseline = known or _made_baseline(base, out, allow_quantized_reference, replies)
    wish = Wish(
        device=device,
        limits=limits,
        goal="fastest" if goal == "fastest" else "smallest",
        max_kl=max_kl,
        all=check_all,
        lengths=lengths,
    )
    found = choose(tried, maker, baseline, settings, wish, out / "checks")
    show(found)
    write_json(out / "choice.json", as_json(found))
    give_json(json_file, as_json(found))
    picture = out / "choice.svg"
    drawn = f" and {picture}" if draw(found, picture) else " (no picture: pip install 'empathy-edge[report]')"
    tell(f"{out / 'choice.json'}{drawn}")
    if found.chosen is not None:
        made = (artifacts or out / "artifacts") / found.chosen.name
        next_command("empathy-edge", "export", "bundle", made, "--out", "bundle")
    else:
        next_step(what_next(found))
    return found.exit_code()


def _known_baseline(base: ModelRef, file: Path | None, out: Path, replies: ReplySettings) -> Baseline | None:
    """The baseline that is given, or the one in OUT; None where there is none yet.

    Raises:
        EmpathyEdgeError: it is of another model or has not --max-prompts.
    """
    from empathy_edge.bench.check.baseline.record import read_baseline
    from empathy_edge.errors import EmpathyEdgeError
    from empathy_edge.models.find import find_model

    if file is not None and replies.max_prompts is not None:
        raise click.UsageError(
            "--max-prompts is set by the baseline; leave it out, or make another baseline."
        )
    kept = file or _kept_baseline(out)
    if file is None and not kept.is_file():
        return None
    baseline = read_baseline(kept)
    if baseline.reference.identity not in (base.identity, find_model(base.name).identity):
        raise EmpathyEdgeError(
            f"{kept}: is the baseline of {baseline.reference.name}, another model than {base.name}. "
            f"Make one: empathy-edge baseline {base.name} --out baseline.json.gz"
        )
    if replies.max_prompts not in (None, len(baseline.prompts)):
        raise EmpathyEdgeError(
            f"{kept}: is a baseline of {len(baseline.prompts)} prompts, not of {replies.max_prompts}.\n"
            "  Leave out --max-prompts, give another --out, or move it away."
        )
    return baseline


def _made_baseline(base: ModelRef, out: Path, allow_quantized: bool, replies: ReplySettings) -> Baseline:
    """A new baseline, which is kept in OUT."""
    from empathy_edge.api.verdicts import made_baseline
    from empathy_edge.bench.check.baseline.record import read_baseline, write_baseline
    from empathy_edge.llm.api_settings import ApiSettings

    made = made_baseline(
        str(base.path), None, {}, DEFAULT_JUDGE, allow_quantized, replies, ApiSettings(), command="choose"
    )
    out.mkdir(parents=True, exist_ok=True)
    write_baseline(_kept_baseline(out), made)
    return read_baseline(_kept_baseline(out))  # as a second search will read it: kept checks depend on it


def _kept_baseline(out: Path) -> Path:
    return out / "baseline.json.gz"
