"""The check of artifacts against a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.markup import escape

from empathy_edge import __version__
from empathy_edge.bench.check import report
from empathy_edge.bench.check.baseline.record import Baseline
from empathy_edge.bench.check.check_judge import CheckJudge
from empathy_edge.bench.check.power import power_of
from empathy_edge.bench.check.report import CheckedArtifact, CheckReport
from empathy_edge.bench.check.steps.controls import MILD, Controls, controls_of
from empathy_edge.bench.check.steps.faults import JudgeError
from empathy_edge.bench.check.steps.ladder import Ladder
from empathy_edge.console import progress
from empathy_edge.errors import PrerequisiteError, no_such_file
from empathy_edge.formats.gguf_header import MAGIC as GGUF
from empathy_edge.formats.litert_weights import refuse_ruined
from empathy_edge.formats.litertlm_file import MAGIC as LITERTLM
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.models.find import find_model, refuse_unfinished
from empathy_edge.runs.settings import CheckSettings
from empathy_edge.text.language import require_language_detection

DEFAULT_API = ApiSettings()


def require_ready(artifacts: Sequence[str]) -> None:
    """Whether the artifacts are there, and what health needs: asked before a baseline is made.

    Raises:
        EmpathyEdgeError: an artifact is not there, is no model at all, is unfinished, or cannot be any good.
        PrerequisiteError: a package is not installed.
    """
    for name in artifacts:
        if not Path(name).expanduser().exists():
            advice = "Give an artifact folder, a .gguf or a .litertlm file."
            raise no_such_file(name, advice, what="file or folder")
        refuse_unfinished(Path(name).expanduser())
        _refuse_what_is_no_model(name)
        refuse_ruined(Path(name).expanduser())
    require_language_detection()


def _refuse_what_is_no_model(name: str) -> None:
    """Refuse a folder without a model, and a file that does not begin as one.

    A model that is truncated or damaged passes: the check finds that, and it is a FAIL.

    Raises:
        EmpathyEdgeError: says what it is, and what to give instead.
    """
    path = Path(name).expanduser()
    if path.is_file():
        begin = LITERTLM if path.suffix == ".litertlm" else GGUF
        with path.open("rb") as handle:
            if handle.read(len(begin)) == begin:
                return
    find_model(name)


def check(
    artifacts: Sequence[str],
    baseline: Baseline,
    settings: CheckSettings,
    judge_name: str | None = None,
    api: ApiSettings = DEFAULT_API,
) -> CheckReport:
    """Check each artifact against the baseline.

    An artifact is UNDECIDED where the judge stops on its way, where the judge cannot start, and where
    something is missing on this machine. In the last two cases the check ends with that error, if no artifact
    is finished yet.

    Args:
        artifacts: what `open_runtime` takes.
        baseline: of the full-precision model.
        settings: the bound, and how the app chooses tokens.
        judge_name: the judge's name on this machine; by default the baseline's, if it is a shipped one.
        api: endpoint and limits of a judge behind an API.

    Raises:
        EmpathyEdgeError: the judge cannot start; with the exit code of its own error.
        PrerequisiteError: a package, memory or a key is missing.
    """
    controls = controls_of(baseline) if baseline.judge.certified else None
    judge = CheckJudge(baseline, judge_name, api)
    decides = controls is not None and not controls.doubts and judge.may_be_opened
    found: list[CheckedArtifact] = []
    try:
        for label, name in zip(_labels(artifacts), artifacts, strict=True):
            found.append(_checked(label, name, baseline, settings, controls, judge, keep=bool(found)))
    finally:
        judge.close()
    return CheckReport(
        format=report.FORMAT,
        version=__version__,
        reference=baseline.reference.name,
        reference_identity=baseline.reference.identity,
        reference_quantized=baseline.reference.quantized,
        decoding="greedy" if settings.greedy else f"sampled at {baseline.settings.temperature:g}",
        max_new_tokens=baseline.settings.max_new_tokens,
        prompts=len(baseline.prompts),
        min_win_rate=settings.min_win_rate,
        judge=baseline.judge.name,
        judge_agreement=baseline.judge.agreement,
        judge_doubts=baseline.judge.doubts,
        controls=_control_figures(controls) if controls else None,
        power=_power_figures(baseline, settings) if decides else None,
        artifacts=tuple(found),
    )


def _control_figures(controls: Controls) -> report.ControlFigures:
    q2_k = controls.q2_k
    return report.ControlFigures(
        against_itself=controls.against_itself.mean,
        misplaced=controls.misplaced.mean,
        damaged=tuple(controls.damaged(share) for share in MILD),
        doubts=controls.doubts,
        q2_k=report.WinRate(mean=q2_k.mean, low=q2_k.low, high=q2_k.high) if q2_k else None,
    )


def _power_figures(baseline: Baseline, settings: CheckSettings) -> report.PowerFigures:
    power = power_of(baseline, settings.min_win_rate, greedy=settings.greedy)
    return report.PowerFigures(
        loss=power.loss, loss_in_truth=power.loss_in_truth, unharmed_passes=power.unharmed_passes
    )


def _labels(artifacts: Sequence[str]) -> list[str]:
    """The last part of each name; the whole name where several have the same last part."""
    short = [Path(name).name for name in artifacts]
    return [label if short.count(label) == 1 else name for label, name in zip(short, artifacts, strict=True)]


def _checked(
    label: str,
    name: str,
    baseline: Baseline,
    settings: CheckSettings,
    controls: Controls | None,
    judge: CheckJudge,
    *,
    keep: bool,
) -> CheckedArtifact:
    """Check one artifact; `keep`: others have verdicts already, which no error may take away."""
    with progress() as bar:
        most = len(baseline.prompts) * (3 if controls else 1) + settings.health_prompts
        task = bar.add_task(escape(label), total=most, at_most=True)
        ladder = Ladder(label, name, baseline, settings, controls, judge, partial(bar.advance, task))
        try:
            return ladder.run()
        except (JudgeError, PrerequisiteError) as error:
            if keep:
                return ladder.stopped(error)
            if isinstance(error, JudgeError):
                raise error.shown() from error
            raise
