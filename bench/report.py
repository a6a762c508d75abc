"""The report of a run: one self-contained HTML page, and its figures as Markdown.

They tell what was run, the figures with their intervals, plots, and responses side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from empathy_edge.bench.browser.results import PATTERN
from empathy_edge.bench.release.tables import describe_judge
from empathy_edge.bench.report_markdown import markdown
from empathy_edge.bench.report_plots import plot_phones, plot_trade_offs, plot_training
from empathy_edge.bench.report_run import SAMPLES, FinishedRun, Sample, parts_of, read_run
from empathy_edge.console import say
from empathy_edge.errors import require_extra
from empathy_edge.runs.run_folder import RunFolder
from empathy_edge.runs.stage import Results, open_stage
from empathy_edge.system.files import write_atomically


class ReportResults(Results):
    """The report has no figures of its own."""


def run(*, run_folder: Path, out: Path, update: bool = False) -> ReportResults:
    """Write `report.html` and `report.md` from the manifests and records of a run's folder.

    Raises:
        EmpathyEdgeError: a stage of the run is not finished.
    """
    require_extra("matplotlib", "report", "The report")
    stage = open_stage(
        out,
        "report",
        settings={"samples": SAMPLES},
        inputs=parts_of(run_folder) | _phone_results(run_folder),
        files=("report.html", "report.md"),
        update=update,
    )
    if not stage.done:
        finished = read_run(run_folder)
        samples = finished.samples()
        write_atomically(out / "report.html", _page(finished, samples))
        write_atomically(out / "report.md", markdown(finished, samples))
        stage.finish(ReportResults())
    say(f"  {out / 'report.html'}")
    return stage.results(ReportResults)


def _phone_results(run_folder: Path) -> dict[str, Path]:
    """The folder of phones' results, if there are any: new ones make the report again (`--update`)."""
    folder = RunFolder(run_folder).phone
    return {"phone": folder} if any(folder.glob(PATTERN)) else {}


def _page(run: FinishedRun, samples: Sequence[Sample]) -> str:
    """The HTML page."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figures"] = _figures
    environment.filters["percent"] = _percent
    template = (Path(__file__).parent / "report.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        run=run,
        manifests=run.manifests,
        total_seconds=sum(manifest.seconds for manifest in run.manifests.values()),
        judge_quality=describe_judge(run.release.judge),
        samples=samples,
        training_plot=plot_training(run),
        trade_off_plot=plot_trade_offs(run),
        phone_plot=plot_phones(run),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _figures(results: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's results as they are shown: of what the filters rejected the counts, without the examples."""
    shown = dict(results)
    if "caught" in shown:
        shown["caught"] = {name: item["count"] for name, item in shown["caught"].items()}
    return shown
