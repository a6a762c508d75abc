"""The second paper's study, and what its figures mean: its own split, folds grouped by dialogue, and honest baselines."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from empathy_edge.console import out as stdout
from empathy_edge.console import progress, table, tell
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.judging.classifiers import RATINGS, classifiers, with_selection
from empathy_edge.judging.feature_importance import COLUMNS as IMPORTANCE
from empathy_edge.judging.feature_importance import cells, importances
from empathy_edge.judging.features import Embedded, blocks_for
from empathy_edge.judging.rated import balanced, faults, is_the_papers, read_rated
from empathy_edge.runs.stage import open_stage
from empathy_edge.system.files import read_json, write_atomically, write_json

if TYPE_CHECKING:
    import pandas as pd

SEED = 42
FOLDS, REPEATS = 5, 3
PAPER = {
    ("miti", "lr"): 44.0,
    ("miti", "svc"): 44.8,
    ("miti", "dt"): 40.9,
    ("miti", "rf"): 40.9,
    ("miti", "mlp"): 41.4,
}
"""Accuracy, %, on the paper's split as recomputed from its data; its best combination had 53.65, GPT-4o-mini 54.69."""

ROWS = (
    ("source", "majority"), ("source", "lr"),
    ("miti", "lr"), ("miti", "svc"), ("miti", "dt"), ("miti", "rf"), ("miti", "mlp"), ("miti", "gb"), ("miti", "ordinal"),
    ("miti", "lr/kbest"), ("miti", "lr/rfe"),
    ("form", "lr"), ("words", "lr"), ("words", "ordinal"), ("embeddings", "lr"), ("embeddings", "svc"),
    ("embeddings+miti", "lr"), ("embeddings+miti", "svc"), ("words+miti", "lr"), ("words+form+nearness", "lr"),
    ("words+miti+form+nearness", "lr"), ("words+miti+form+nearness", "ordinal"), ("miti+form+nearness", "lr/kbest"),
)  # fmt: skip
"""Features and classifier of each line of the table."""


def run(
    *, data: Path, out: Path, embedding: str, subfactors: Path | None = None, update: bool = False
) -> dict[str, Any]:
    """Write `study.json` and `study.md` into `out`.

    Args:
        data: a CSV of rated responses; the paper's gives the paper's balanced set.
        out: the stage's folder.
        embedding: the sentence-embedding model.
        subfactors: what `score subfactors` wrote, to add lines with them.
        update: do it again where inputs or settings changed.
    """
    stage = open_stage(
        out,
        "score-study",
        settings={"embedding": embedding, "seed": SEED, "folds": FOLDS, "repeats": REPEATS, "rows": ROWS},
        inputs={"data": data, **({"subfactors": subfactors} if subfactors else {})},
        update=update,
    )
    if not stage.done:
        rated = read_rated(data)
        chosen = balanced(rated)
        scores = {row["id"]: row["scores"] for row in read_json(subfactors)} if subfactors else {}
        result: dict[str, Any] = {
            "responses": len(chosen),
            "the_papers_set": is_the_papers(chosen),
            "faults": [*faults(rated), *_leak(chosen)],
            "rows": _evaluate(chosen, embedding, scores),
            "importances": {
                name: importances(chosen, name, grouped_folds(chosen, SEED), SEED)
                for name in ("form", "miti")
                if name != "miti" or "miti" in chosen.columns
            },
        }
        write_json(out / "study.json", result)
        write_atomically(out / "study.md", "\n".join(markdown(result)) + "\n")
        stage.finish(**result)
    result = stage.manifest["results"]
    stdout.print(table(f"{result['responses']} responses, accuracy in %", COLUMNS, _cells(result)))
    for name, rows in result["importances"].items():
        stdout.print(
            table(
                f"What carries a rating: {name}, points of accuracy on held-out dialogues",
                IMPORTANCE,
                cells(rows),
            )
        )
    for text in result["faults"]:
        tell(f"Upstream: {text}")
    return stage.manifest


COLUMNS = [
    "features",
    "classifier",
    "paper",
    "paper's split",
    "grouped by dialogue",
    "3 above 1",
    "calibration error",
]


def markdown(result: dict[str, Any]) -> list[str]:
    """The study's table, and below it what carries a rating."""
    lines = [*_markdown(COLUMNS, _cells(result))]
    for name, rows in result["importances"].items():
        lines += ["", f"What carries a rating: {name}", "", *_markdown(IMPORTANCE, cells(rows))]
    return lines


def _markdown(columns: Sequence[str], rows: list[list[str]]) -> list[str]:
    return [
        f"| {' | '.join(columns)} |",
        "|" + "---|" * len(columns),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _cells(result: dict[str, Any]) -> list[list[str]]:
    return [
        [
            row["features"],
            row["classifier"],
            f"{paper:.1f}" if (paper := PAPER.get((row["features"], row["classifier"]))) else "–",
            f"{row['paper_split']:.1f}",
            f"{row['grouped']['mean']:.1f} [{row['grouped']['low']:.1f}, {row['grouped']['high']:.1f}]",
            f"{row['order']['mean']:.0f} [{row['order']['low']:.0f}, {row['order']['high']:.0f}]",
            f"{row['calibration_error']:.2f}" if row["calibration_error"] is not None else "–",
        ]
        for row in result["rows"]
    ]


def _leak(chosen: pd.DataFrame) -> list[str]:
    """How many test rows of the paper's split share a dialogue with training rows."""
    train, test = paper_split(chosen)
    shared = int(chosen["dialog_id"].iloc[test].isin(set(chosen["dialog_id"].iloc[train])).sum())
    return [
        f"{shared} of {len(test)} test rows of the paper's split share a dialogue with training rows; "
        "the folds grouped by dialogue do not."
    ]


def paper_split(chosen: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Training and test places of the paper's split."""
    from sklearn.model_selection import train_test_split

    places = np.arange(len(chosen))
    train, test = train_test_split(places, test_size=0.2, random_state=SEED, stratify=chosen["rating"])
    return train, test


def grouped_folds(chosen: pd.DataFrame, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Training and test places of each fold; no dialogue is in both."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    yield from folds.split(chosen, chosen["rating"], chosen["dialog_id"])


def _evaluate(chosen: pd.DataFrame, embedding: str, scores: dict[str, Any]) -> list[dict[str, Any]]:
    texts = cache(lambda: Embedded(chosen, embedding))
    lines = [*ROWS]
    if scores:
        lines += [
            (f"{more}subfactors", name) for more in ("", "miti+", "words+miti+") for name in ("lr", "svc")
        ]
    if "miti" not in chosen.columns:
        lines = [line for line in lines if "miti" not in line[0]]
    found = []
    with warnings.catch_warnings(), progress() as bar:
        warnings.simplefilter("ignore")  # a network that did not converge is a result like another
        task = bar.add_task("study", total=len(lines), note="")
        for features, name in lines:
            bar.update(task, note=f"{features} {name}")
            rows = chosen
            if "subfactors" in features:  # of a part, where only a part was asked for
                rows = chosen[chosen["unified_dialog_id"].isin(scores)].reset_index(drop=True)
            line = evaluate(rows, features, name, texts, scores)
            found.append({"features": features, "classifier": name, "responses": len(rows), **line})
            bar.advance(task)
    return found


def evaluate(
    chosen: pd.DataFrame, features: str, name: str, texts: Callable[[], Embedded], scores: dict[str, Any]
) -> dict[str, Any]:
    """Accuracy on the paper's split and on folds grouped by dialogue (in %, with intervals), order within a dialogue, calibration.

    Args:
        chosen: balanced rated responses.
        features: names of blocks, joined by +.
        name: a classifier, or one with /kbest or /rfe.
        texts: gives the embeddings, if they are needed.
        scores: the subfactors by row id.
    """
    ratings = chosen["rating"].to_numpy()

    def predict(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        blocks = blocks_for(features, texts, scores)
        rows, held = chosen.iloc[train], chosen.iloc[test]
        for block in blocks:
            block.fit(rows)
        matrix = np.hstack([block.transform(rows) for block in blocks])
        model = _classifier(name, matrix.shape[1])
        model.fit(matrix, ratings[train])
        unseen = np.hstack([block.transform(held) for block in blocks])
        return model.predict(unseen), model.predict_proba(unseen) if hasattr(model, "predict_proba") else None

    train, test = paper_split(chosen)
    on_paper_split = float((predict(train, test)[0] == ratings[test]).mean())
    accuracies, ordered, errors = [], [], []
    for seed in range(REPEATS):
        guesses, chances = np.zeros(len(chosen)), np.full((len(chosen), len(RATINGS)), np.nan)
        for inside, outside in grouped_folds(chosen, seed):
            guess, chance = predict(inside, outside)
            guesses[outside] = guess
            if chance is not None:
                chances[outside] = chance
        accuracies.append(guesses == ratings)
        known = not np.isnan(chances).any()
        ordered.append(order_in_dialogue(chosen, chances @ np.array(RATINGS) if known else guesses))
        if known:
            errors.append(calibration_error(chances, ratings))
    return {
        "paper_split": round(100 * on_paper_split, 2),
        "grouped": over_dialogues(np.mean(accuracies, axis=0), chosen["dialog_id"].to_numpy()),
        "order": over_dialogues(
            np.mean([values for values, _ in ordered], axis=0), ordered[0][1]
        ),
        "order_pairs": len(ordered[0][1]),
        "calibration_error": round(float(np.mean(errors)), 4) if errors else None,
    }  # fmt: skip


def measured(
    chosen: pd.DataFrame,
    splits: dict[str, tuple[np.ndarray, np.ndarray]],
    chances: dict[str, np.ndarray],
) -> dict[str, Any]:
    """What `evaluate` gives, from probabilities of held-out rows: folds grouped by dialogue, and perhaps the `paper-split`."""
    ratings = chosen["rating"].to_numpy()
    folds = [name for name in splits if name != "paper-split"]
    places = np.concatenate([splits[name][1] for name in folds])
    held, all_chances = chosen.iloc[places], np.concatenate([chances[name] for name in folds])
    right = np.array(RATINGS)[all_chances.argmax(1)] == ratings[places]
    on_paper_split = None
    if "paper-split" in splits:
        guesses = np.array(RATINGS)[chances["paper-split"].argmax(1)]
        on_paper_split = round(100 * float((guesses == ratings[splits["paper-split"][1]]).mean()), 2)
    points, dialogues = order_in_dialogue(held, all_chances @ np.array(RATINGS))
    return {
        "paper_split": on_paper_split,
        "grouped": over_dialogues(right, held["dialog_id"].to_numpy()),
        "grouped_responses": len(held),
        "order": over_dialogues(points, dialogues)
        if len(points)
        else {"mean": 50.0, "low": 0.0, "high": 100.0},
        "order_pairs": len(points),
        "calibration_error": round(calibration_error(all_chances, ratings[places]), 4),
    }


def _classifier(name: str, columns: int) -> Any:
    kind, _, selection = name.partition("/")
    makers = classifiers(SEED)
    if kind not in makers:
        raise EmpathyEdgeError(f"no such classifier: {kind}; there are {', '.join(makers)}.")
    return with_selection(makers[kind], selection, columns, SEED)() if selection else makers[kind]()


def order_in_dialogue(rows: pd.DataFrame, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of pairs of responses to one dialogue, one rated 3 and one rated 1: is the 3 valued higher? Ties count half.

    Returns:
        One number a pair, and the pair's dialogue.
    """
    points, dialogues = [], []
    ratings = rows["rating"].to_numpy()
    for dialogue, places in rows.groupby("dialog_id", sort=True).indices.items():
        for good in places[ratings[places] == 3]:
            for bad in places[ratings[places] == 1]:
                points.append(
                    1.0 if values[good] > values[bad] else 0.5 if values[good] == values[bad] else 0.0
                )
                dialogues.append(dialogue)
    return np.array(points), np.array(dialogues)


def calibration_error(chances: np.ndarray, ratings: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error of the likeliest rating (Guo et al., arXiv 1706.04599, section 2)."""
    sure, right = chances.max(1), np.array(RATINGS)[chances.argmax(1)] == ratings
    place = np.minimum((sure * bins).astype(int), bins - 1)
    return float(
        sum(
            (place == number).mean() * abs(right[place == number].mean() - sure[place == number].mean())
            for number in np.unique(place)
        )
    )


def over_dialogues(values: np.ndarray, dialogues: np.ndarray, resamples: int = 2000) -> dict[str, float]:
    """Mean in %, with a 95 % bootstrap interval that resamples dialogues."""
    names, places = np.unique(dialogues, return_inverse=True)
    sums, counts = np.bincount(places, values), np.bincount(places)
    drawn = np.random.default_rng(SEED).integers(0, len(names), (resamples, len(names)))
    means = 100 * sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "mean": round(100 * float(values.mean()), 2),
        "low": round(float(low), 2),
        "high": round(float(high), 2),
    }
