"""The check as a stage of a run: every artifact against the merged checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from empathy_edge.bench.check.baseline.q2_k import WriteQ2K
from empathy_edge.bench.check.baseline.record import write_baseline
from empathy_edge.bench.check.certificate import open_judge
from empathy_edge.bench.check.make import make_baseline
from empathy_edge.bench.check.output import junit, markdown, show
from empathy_edge.bench.check.prompts import read_prompts
from empathy_edge.bench.check.report import CheckReport
from empathy_edge.bench.check.run import DEFAULT_API, check, require_ready
from empathy_edge.models.find import ModelRef
from empathy_edge.runs.settings import CheckSettings, CheckStageSettings, ReplySettings
from empathy_edge.runs.stage import Results, open_stage
from empathy_edge.system.files import write_atomically, write_json

FILES = ("baseline.json.gz", "check.json", "check.md", "junit.xml")


class CheckResults(Results):
    """What the check found."""

    report: CheckReport


def run(
    *,
    reference: Path,
    artifacts: Sequence[Path],
    out: Path,
    settings: CheckStageSettings,
    as_gguf: Callable[[ModelRef], Path | None],
    write_q2_k: WriteQ2K | None = None,
    update: bool = False,
) -> CheckReport:
    """Check the artifacts, on the shipped prompts; writes the baseline and the verdicts, and prints them.

    Args:
        reference: the full-precision checkpoint.
        artifacts: their folders.
        out: the stage's folder.
        settings: how replies are made, the judge, the bound.
        as_gguf: see `make_baseline`.
        write_q2_k: see `make_baseline`.
        update: do it again where inputs or settings changed.
    """
    stage = open_stage(
        out,
        "check",
        settings=settings.model_dump(mode="json"),
        inputs={"reference": reference, **{folder.name: folder for folder in artifacts}},
        files=FILES,
        update=update,
    )
    if stage.done:
        report = stage.results(CheckResults).report
    else:
        names = [str(folder) for folder in artifacts]
        report = _check(str(reference), names, out, settings, as_gguf, write_q2_k)
        waiting = any(item.ratings_missing or item.interrupted for item in report.artifacts)
        stage.finish(CheckResults(report=report), is_complete=not waiting)
    show(report)
    return report


def _check(
    reference: str,
    artifacts: Sequence[str],
    out: Path,
    settings: CheckStageSettings,
    as_gguf: Callable[[ModelRef], Path | None],
    write_q2_k: WriteQ2K | None,
) -> CheckReport:
    require_ready(artifacts)
    replies = ReplySettings(**settings.model_dump(include=set(ReplySettings.model_fields)))
    bounds = CheckSettings(**settings.model_dump(include=set(CheckSettings.model_fields)))
    prompts = read_prompts(None, replies.max_prompts, replies.seed)
    rater = open_judge(settings.judge, DEFAULT_API)
    try:
        made = make_baseline(reference, prompts, rater, replies, as_gguf=as_gguf, write_q2_k=write_q2_k)
    finally:
        rater.close()
    named = made.reference.model_copy(update={"name": Path(reference).name})  # a run can be moved
    baseline = made.model_copy(update={"reference": named})
    write_baseline(out / "baseline.json.gz", baseline)
    report = check(artifacts, baseline, bounds, settings.judge)
    write_json(out / "check.json", report.model_dump(mode="json"))
    write_atomically(out / "check.md", markdown(report))
    write_atomically(out / "junit.xml", junit(report))
    return report
