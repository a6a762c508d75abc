"""The study of the second paper: which features and classifiers predict people's ratings of responses.

Beside the paper's own split it measures on folds grouped by dialogue, and against simple baselines.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from empathy_edge.console import out as stdout
from empathy_edge.console import progress, table, tell
from empathy_edge.judging.evaluation import FOLDS, REPEATS, SEED, Method, evaluate, grouped_folds, paper_split
from empathy_edge.judging.feature_importance import COLUMNS as IMPORTANCE_COLUMNS
from empathy_edge.judging.feature_importance import Importance, importances, table_rows
from empathy_edge.judging.features import Embedded
from empathy_edge.judging.rated import balanced, faults, is_the_papers, read_rated
from empathy_edge.runs.stage import Results, open_stage
from empathy_edge.system.files import read_json, write_atomically, write_json

if TYPE_CHECKING:
    import pandas as pd

PAPER = {
    ("miti", "lr"): 44.0,
    ("miti", "svc"): 44.8,
    ("miti", "dt"): 40.9,
    ("miti", "rf"): 40.9,
    ("miti", "mlp"): 41.4,
}
"""Accuracy, %, on the paper's split, recomputed from its data.

Its best combination had 53.65, GPT-4o-mini 54.69.
"""

ROWS = (
    ("source", "majority"),
    ("source", "lr"),
    ("miti", "lr"),
    ("miti", "svc"),
    ("miti", "dt"),
    ("miti", "rf"),
    ("miti", "mlp"),
    ("miti", "gb"),
    ("miti", "ordinal"),
    ("miti", "lr/kbest"),
    ("miti", "lr/rfe"),
    ("form", "lr"),
    ("words", "lr"),
    ("words", "ordinal"),
    ("embeddings", "lr"),
    ("embeddings", "svc"),
    ("embeddings+miti", "lr"),
    ("embeddings+miti", "svc"),
    ("words+miti", "lr"),
    ("words+form+nearness", "lr"),
    ("words+miti+form+nearness", "lr"),
    ("words+miti+form+nearness", "ordinal"),
    ("miti+form+nearness", "lr/kbest"),
)
"""Features and classifier of each row of the table."""

SUBFACTOR_ROWS = (
    ("subfactors", "lr"),
    ("subfactors", "svc"),
    ("miti+subfactors", "lr"),
    ("miti+subfactors", "svc"),
    ("words+miti+subfactors", "lr"),
    ("words+miti+subfactors", "svc"),
)
"""More rows, where subfactors are given."""

Subfactors = Mapping[str, Mapping[str, float]]
"""Row id → subfactor → score, 1 to 10."""


class StudyRow(BaseModel):
    """A method and its figures, which are those of `evaluation.RatingFigures`; `responses`: on how many."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: str
    classifier: str
    responses: int
    paper_split: float | None
    grouped: dict[str, float]
    order: dict[str, float]
    order_pairs: int
    calibration_error: float | None


class StudyResults(Results):
    """What the study found.

    `responses`: how many there are in the balanced set. `the_papers_set`: whether it is the paper's, byte for
    byte. `faults`: what is wrong in the data or in the paper's split, in words. `importances`: block of
    features → the importance of each feature.
    """

    responses: int
    the_papers_set: bool
    faults: list[str]
    rows: list[StudyRow]
    importances: dict[str, list[Importance]]


def run(
    *, data: Path, out: Path, embedding: str, subfactors: Path | None = None, update: bool = False
) -> StudyResults:
    """Write `study.json` and `study.md` into `out`.

    Args:
        data: a CSV of rated responses; the paper's gives the paper's balanced set.
        out: the stage's folder.
        embedding: the sentence-embedding model.
        subfactors: what `score subfactors` wrote, to add rows with them.
        update: do it again where inputs or settings changed.
    """
    stage = open_stage(
        out,
        "score-study",
        settings={"embedding": embedding, "seed": SEED, "folds": FOLDS, "repeats": REPEATS, "rows": ROWS},
        inputs={"data": data, **({"subfactors": subfactors} if subfactors else {})},
        files=("study.json", "study.md"),
        update=update,
    )
    if not stage.done:
        scores = {row["id"]: row["scores"] for row in read_json(subfactors)} if subfactors else {}
        results = _study(read_rated(data), embedding, scores)
        write_json(out / "study.json", results.model_dump(mode="json"))
        write_atomically(out / "study.md", "\n".join(markdown(results)) + "\n")
        stage.finish(results)
    results = stage.results(StudyResults)
    _show(results)
    return results


def _study(rated: pd.DataFrame, embedding: str, subfactors: Subfactors) -> StudyResults:
    chosen = balanced(rated)
    blocks = ("form", "miti") if "miti" in chosen.columns else ("form",)
    return StudyResults(
        responses=len(chosen),
        the_papers_set=is_the_papers(chosen),
        faults=[*faults(rated), _shared_dialogues(chosen)],
        rows=_evaluate_all(chosen, embedding, subfactors),
        importances={
            block: importances(chosen, block, grouped_folds(chosen, SEED), SEED) for block in blocks
        },
    )


def _shared_dialogues(chosen: pd.DataFrame) -> str:
    """How many test rows of the paper's split have a dialogue that training rows have too."""
    train, test = paper_split(chosen)
    shared = int(chosen["dialog_id"].iloc[test].isin(set(chosen["dialog_id"].iloc[train])).sum())
    return (
        f"{shared} of {len(test)} test rows of the paper's split share a dialogue with training rows; "
        "the folds grouped by dialogue do not."
    )


def _evaluate_all(chosen: pd.DataFrame, embedding: str, subfactors: Subfactors) -> list[StudyRow]:
    embeddings = cache(lambda: Embedded(chosen, embedding))
    methods = [*ROWS, *(SUBFACTOR_ROWS if subfactors else ())]
    if "miti" not in chosen.columns:
        methods = [method for method in methods if "miti" not in method[0]]
    rows = []
    with warnings.catch_warnings(), progress() as bar:
        warnings.simplefilter("ignore")  # a network that did not converge is a result too
        task = bar.add_task("study", total=len(methods), note="")
        for features, classifier in methods:
            bar.update(task, note=f"{features} {classifier}")
            responses = chosen
            if "subfactors" in features:  # perhaps only some responses have them
                has_scores = chosen["unified_dialog_id"].isin(subfactors)
                responses = chosen[has_scores].reset_index(drop=True)
            rows.append(_evaluate_row(responses, Method(features, classifier, embeddings, subfactors)))
            bar.advance(task)
    return rows


def _evaluate_row(responses: pd.DataFrame, method: Method) -> StudyRow:
    figures = evaluate(responses, method)
    return StudyRow(
        features=method.features,
        classifier=method.classifier,
        responses=len(responses),
        paper_split=figures["paper_split"],
        grouped=figures["grouped"],
        order=figures["order"],
        order_pairs=figures["order_pairs"],
        calibration_error=figures["calibration_error"],
    )


COLUMNS = (
    "features",
    "classifier",
    "paper",
    "paper's split",
    "grouped by dialogue",
    "3 above 1",
    "calibration error",
)


def _show(results: StudyResults) -> None:
    title = f"{results.responses} responses, accuracy in %"
    stdout.print(table(title, COLUMNS, [_cells(row) for row in results.rows]))
    for block, features in results.importances.items():
        title = f"What carries a rating: {block}, points of accuracy on held-out dialogues"
        stdout.print(table(title, IMPORTANCE_COLUMNS, table_rows(features)))
    for text in results.faults:
        tell(f"Upstream: {text}")


def markdown(results: StudyResults) -> list[str]:
    """The lines of `study.md`: the table of methods, and below it the importance of features."""
    lines = _markdown_table(COLUMNS, [_cells(row) for row in results.rows])
    for block, features in results.importances.items():
        lines += ["", f"What carries a rating: {block}", ""]
        lines += _markdown_table(IMPORTANCE_COLUMNS, table_rows(features))
    return lines


def _markdown_table(columns: Sequence[str], rows: list[list[str]]) -> list[str]:
    return [
        f"| {' | '.join(columns)} |",
        "|" + "---|" * len(columns),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _cells(row: StudyRow) -> list[str]:
    paper = PAPER.get((row.features, row.classifier))
    return [
        row.features,
        row.classifier,
        "–" if paper is None else f"{paper:.1f}",
        "–" if row.paper_split is None else f"{row.paper_split:.1f}",
        f"{row.grouped['mean']:.1f} [{row.grouped['low']:.1f}, {row.grouped['high']:.1f}]",
        f"{row.order['mean']:.0f} [{row.order['low']:.0f}, {row.order['high']:.0f}]",
        "–" if row.calibration_error is None else f"{row.calibration_error:.2f}",
    ]
