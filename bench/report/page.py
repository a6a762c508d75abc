"""The report of a run: one self-contained HTML page, and its figures as Markdown.

The page opens with the verdict in a sentence and what to do next. Pictures and one table follow; the rest is
folded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from empathy_edge.bench.browser.results import COLUMNS, PATTERN, cells
from empathy_edge.bench.check.output import conditions
from empathy_edge.bench.release.tables import describe_judge
from empathy_edge.bench.report.commands import commands
from empathy_edge.bench.report.finished_run import SAMPLES, FinishedRun, Sample, parts_of, read_run
from empathy_edge.bench.report.line_breaks import command_html, prose_html
from empathy_edge.bench.report.markdown import markdown
from empathy_edge.bench.report.plots import plot_memory, plot_phones, plot_speed, plot_training, predictions
from empathy_edge.bench.report.retention import plot_retention
from empathy_edge.bench.report.svg import Picture
from empathy_edge.bench.report.words import (
    about_arms,
    figures_in_words,
    next_steps,
    percent,
    release_sentence,
    verdict_sentence,
)
from empathy_edge.console import say
from empathy_edge.errors import require_extra
from empathy_edge.prompts import load_prompts
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
    import yaml

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "command_html": command_html,
        "figures": figures_in_words,
        "percent": percent,
        "prose_html": prose_html,
    }
    return environment.get_template("page.html").render(
        run=run,
        artifacts=run.artifacts,
        verdict=verdict_sentence(run.check),
        release=release_sentence(run.release),
        about_arms=about_arms(run.release),
        steps=next_steps(run),
        conditions=conditions(run.check),
        machine=run.manifests["bench"].machine,
        bench_settings=run.manifests["bench"].settings,
        judge_quality=describe_judge(run.release.judge),
        samples=samples,
        safety_prompts=load_prompts("safety").texts,
        commands=commands(run),
        recipe=yaml.safe_dump(run.recipe.model_dump(mode="json"), sort_keys=False),
        pictures=_pictures(run),
        phone_pictures=plot_phones(predictions(run)),
        training_pictures=plot_training(run),
        browser_columns=COLUMNS,
        browser_rows=[cells(row) for row in run.phones],
    )


def _pictures(run: FinishedRun) -> list[Picture]:
    """What each artifact keeps and costs; without what was not measured."""
    measured = [row for row in run.artifacts if row.size_mb]
    found = [plot_retention(measured, run.check.min_win_rate) if measured else None]
    found += [plot_speed(measured), plot_memory(measured)]
    return [picture for picture in found if picture]
