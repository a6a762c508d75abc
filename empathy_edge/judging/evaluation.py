"""How well ratings are predicted: the paper's split, folds grouped by dialogue, order, and calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.judging.classifiers import RATINGS, classifiers, fit, with_selection
from empathy_edge.judging.features import Embedded, blocks_for
from empathy_edge.judging.statistics import score_interval

if TYPE_CHECKING:
    import pandas as pd

SEED = 42
FOLDS, REPEATS = 5, 3
PAPER_SPLIT = "paper-split"

Split = tuple[np.ndarray, np.ndarray]
"""Places of the training rows and of the held-out rows, int64."""


class RatingFigures(TypedDict):
    """How well a method predicts people's ratings.

    `paper_split`: accuracy on the paper's split, %; None: not measured. `grouped`: accuracy on folds in which
    no dialogue is in both training and test, % with a 95 % interval; `grouped_responses`: of how many
    responses. `order`: of two responses to one dialogue, rated 3 and 1, how often the 3 gets the higher
    score, %, over `order_pairs` pairs. `calibration_error`: expected calibration error, 0 to 1; None without
    probabilities.
    """

    paper_split: float | None
    grouped: dict[str, float]
    grouped_responses: NotRequired[int]
    order: dict[str, float]
    order_pairs: int
    calibration_error: float | None


@dataclass(frozen=True)
class Predictions:
    """Predicted ratings, [rows]; the probabilities of 1, 2, 3, [rows, 3], where the classifier has them."""

    ratings: np.ndarray
    probabilities: np.ndarray | None

    def scores(self) -> np.ndarray:
        """What orders responses, [rows]: the expected rating, or the predicted one."""
        if self.probabilities is None:
            return self.ratings
        return self.probabilities @ np.array(RATINGS)


@dataclass(frozen=True)
class Method:
    """How ratings are predicted.

    Attributes:
        features: names of blocks of features, joined by + (`features.blocks_for`).
        classifier: one of `classifiers`; with /kbest or /rfe, on selected features.
        embeddings: gives the sentence embeddings, if they are needed.
        subfactors: row id → subfactor → score, for the block of that name.
    """

    features: str
    classifier: str
    embeddings: Callable[[], Embedded]
    subfactors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def predict(self, chosen: pd.DataFrame, split: Split) -> Predictions:
        """Train on the split's training rows and predict its held-out rows."""
        train, test = split
        training, held_out = chosen.iloc[train], chosen.iloc[test]
        blocks = blocks_for(self.features, self.embeddings, self.subfactors)
        for block in blocks:
            block.fit(training)
        columns = np.hstack([block.transform(training) for block in blocks])
        model = _classifier(self.classifier, columns.shape[1])
        fit(model, columns, training["rating"].to_numpy())
        unseen = np.hstack([block.transform(held_out) for block in blocks])
        has_probabilities = hasattr(model, "predict_proba")
        return Predictions(model.predict(unseen), model.predict_proba(unseen) if has_probabilities else None)


def _classifier(name: str, columns: int) -> Any:
    kind, _, selection = name.partition("/")
    makers = classifiers(SEED)
    if kind not in makers:
        raise EmpathyEdgeError(f"no such classifier: {kind}; there are {', '.join(makers)}.")
    if selection:
        return with_selection(makers[kind], selection, columns, SEED)()
    return makers[kind]()


def paper_split(chosen: pd.DataFrame) -> Split:
    """The paper's split."""
    from sklearn.model_selection import train_test_split

    places = np.arange(len(chosen))
    train, test = train_test_split(places, test_size=0.2, random_state=SEED, stratify=chosen["rating"])
    return train, test


def grouped_folds(chosen: pd.DataFrame, seed: int) -> Iterator[Split]:
    """Five folds; no dialogue is in both training and test."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    yield from folds.split(chosen, chosen["rating"], chosen["dialog_id"])


def evaluate(chosen: pd.DataFrame, method: Method) -> RatingFigures:
    """The figures of a method, trained again for each split; those on folds are means over three splits.

    Args:
        chosen: balanced rated responses.
        method: features and classifier.
    """
    ratings = chosen["rating"].to_numpy()
    split = paper_split(chosen)
    on_paper_split = method.predict(chosen, split).ratings == ratings[split[1]]
    right, ordered, calibration_errors = [], [], []
    for seed in range(REPEATS):
        predicted = _held_out_predictions(chosen, method, seed)
        right.append(predicted.ratings == ratings)
        points, dialogues = order_in_dialogue(chosen, predicted.scores())
        ordered.append(points)
        if predicted.probabilities is not None:
            calibration_errors.append(calibration_error(predicted.probabilities, ratings))
    return {
        "paper_split": round(100 * float(on_paper_split.mean()), 2),
        "grouped": percent_over_dialogues(np.mean(right, axis=0), chosen["dialog_id"].to_numpy()),
        "order": percent_over_dialogues(np.mean(ordered, axis=0), dialogues),
        "order_pairs": len(dialogues),
        "calibration_error": round(float(np.mean(calibration_errors)), 4) if calibration_errors else None,
    }


def _held_out_predictions(chosen: pd.DataFrame, method: Method, seed: int) -> Predictions:
    """Every row's prediction by a model that did not see its dialogue."""
    ratings = np.zeros(len(chosen))
    probabilities = np.full((len(chosen), len(RATINGS)), np.nan)
    for split in grouped_folds(chosen, seed):
        held_out = split[1]
        predicted = method.predict(chosen, split)
        ratings[held_out] = predicted.ratings
        if predicted.probabilities is not None:
            probabilities[held_out] = predicted.probabilities
    return Predictions(ratings, None if np.isnan(probabilities).any() else probabilities)


def evaluate_held_out(
    chosen: pd.DataFrame, splits: Mapping[str, Split], probabilities: Mapping[str, np.ndarray]
) -> RatingFigures:
    """As `evaluate`, from probabilities that were already predicted.

    Args:
        chosen: balanced rated responses.
        splits: folds grouped by dialogue, and perhaps the paper's split under `paper-split`.
        probabilities: of each split's held-out rows, float64 [rows, 3].
    """
    ratings = chosen["rating"].to_numpy()
    folds = [name for name in splits if name != PAPER_SPLIT]
    places = np.concatenate([splits[name][1] for name in folds])
    held_out, of_folds = chosen.iloc[places], np.concatenate([probabilities[name] for name in folds])
    points, dialogues = order_in_dialogue(held_out, of_folds @ np.array(RATINGS))
    right = _likeliest(of_folds) == ratings[places]
    on_paper_split = None
    if PAPER_SPLIT in splits:
        guesses = _likeliest(probabilities[PAPER_SPLIT])
        on_paper_split = round(100 * float((guesses == ratings[splits[PAPER_SPLIT][1]]).mean()), 2)
    no_pairs = {"mean": 50.0, "low": 0.0, "high": 100.0}
    return {
        "paper_split": on_paper_split,
        "grouped": percent_over_dialogues(right, held_out["dialog_id"].to_numpy()),
        "grouped_responses": len(held_out),
        "order": percent_over_dialogues(points, dialogues) if len(points) else no_pairs,
        "order_pairs": len(points),
        "calibration_error": round(calibration_error(of_folds, ratings[places]), 4),
    }


def _likeliest(probabilities: np.ndarray) -> np.ndarray:
    """The likeliest rating, int64 [rows]."""
    return np.array(RATINGS)[probabilities.argmax(1)]


def order_in_dialogue(rows: pd.DataFrame, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of two responses to one dialogue, one rated 3 and one rated 1: is the score of the 3 higher?

    Args:
        rows: rated responses.
        scores: of the rows, [rows].

    Returns:
        For each pair 1, 0.5 (equal scores) or 0, float64 [pairs]; and the pair's dialogue, [pairs].
    """
    ratings = rows["rating"].to_numpy()
    points, dialogues = [], []
    for dialogue, places in rows.groupby("dialog_id", sort=True).indices.items():
        for good in places[ratings[places] == 3]:
            for bad in places[ratings[places] == 1]:
                difference = np.sign(scores[good] - scores[bad])
                points.append(0.5 + difference / 2)
                dialogues.append(dialogue)
    return np.array(points), np.array(dialogues)


def calibration_error(probabilities: np.ndarray, ratings: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error of the likeliest rating (Guo et al., arXiv 1706.04599, section 2).

    Predictions are binned by confidence; the error is the mean difference of accuracy and confidence, over
    bins, weighted by their sizes.
    """
    confidence = probabilities.max(1)
    right = _likeliest(probabilities) == ratings
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for number in np.unique(bin_of):
        in_bin = bin_of == number
        error += in_bin.mean() * abs(right[in_bin].mean() - confidence[in_bin].mean())
    return float(error)


def percent_over_dialogues(values: np.ndarray, dialogues: np.ndarray) -> dict[str, float]:
    """The mean of shares in % with a 95 % interval over dialogues: `mean`, `low`, `high`."""
    interval = score_interval(values, clusters=dialogues)
    return {
        "mean": round(100 * interval.mean, 2),
        "low": round(100 * interval.low, 2),
        "high": round(100 * interval.high, 2),
    }
