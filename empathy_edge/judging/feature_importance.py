"""Which features carry a rating: coefficients, permutation importance, and a linear model's SHAP values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from empathy_edge.judging.features import blocks_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

SHUFFLES = 20
COLUMNS = ("feature", "coefficient, 3 over 1", "accuracy lost when shuffled", "mean |SHAP| for 3")


class Importance(BaseModel):
    """How much one feature carries a rating; means over folds.

    `coefficient`: of rating 3 less that of rating 1, for a standardized column. `lost`, `lost_sd`: points of
    accuracy lost on held-out rows when the feature is shuffled (permutation importance, Breiman 2001), mean
    and standard deviation over folds. `shap`: mean |coefficient · (value − mean)| for rating 3, which is a
    linear model's SHAP value with independent features (Lundberg and Lee 2017).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    feature: str
    coefficient: float
    lost: float
    lost_sd: float
    shap: float


def importances(
    chosen: pd.DataFrame, features: str, folds: Iterable[tuple[np.ndarray, np.ndarray]], seed: int
) -> list[Importance]:
    """The features of a logistic regression on standardized columns, the most important first.

    Args:
        chosen: rated responses.
        features: names of blocks whose columns have names, joined by +.
        folds: training and held-out rows.
        seed: for the shuffles.
    """
    names: list[str] = []
    of_folds = []
    for train, test in folds:
        names, figures = _of_fold(chosen, features, train, test, seed)
        of_folds.append(figures)
    coefficient, lost, shap = np.mean(of_folds, axis=0)
    lost_sd = np.std(of_folds, axis=0)[1]
    found = [
        Importance(
            feature=name,
            coefficient=round(float(coefficient[place]), 3),
            lost=round(100 * float(lost[place]), 2),
            lost_sd=round(100 * float(lost_sd[place]), 2),
            shap=round(float(shap[place]), 3),
        )
        for place, name in enumerate(names)
    ]
    return sorted(found, key=lambda item: -item.lost)


def _of_fold(
    chosen: pd.DataFrame, features: str, train: np.ndarray, test: np.ndarray, seed: int
) -> tuple[list[str], np.ndarray]:
    """The features' names; and coefficient, accuracy lost and SHAP value of each, float64 [3, features]."""
    from sklearn.inspection import permutation_importance
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    ratings = chosen["rating"].to_numpy()
    training, held_out = chosen.iloc[train], chosen.iloc[test]
    blocks = blocks_for(features, _no_embeddings)
    names: list[str] = []
    for block in blocks:
        block.fit(training)
        names += block.names
    columns = np.hstack([block.transform(training) for block in blocks])
    scaler = StandardScaler().fit(columns)
    inside = scaler.transform(columns)
    outside = scaler.transform(np.hstack([block.transform(held_out) for block in blocks]))
    model = LogisticRegression(max_iter=1000, random_state=seed).fit(inside, ratings[train])
    lost = permutation_importance(model, outside, ratings[test], n_repeats=SHUFFLES, random_state=seed)
    shap = np.abs(model.coef_[-1] * (outside - inside.mean(0))).mean(0)
    return names, np.stack([model.coef_[-1] - model.coef_[0], lost.importances_mean, shap])


def _no_embeddings() -> Any:
    raise ValueError("embeddings have no names; their importances mean nothing to people")


def table_rows(importances: list[Importance]) -> list[list[str]]:
    """As a table's rows."""
    return [
        [
            item.feature,
            f"{item.coefficient:+.2f}",
            f"{item.lost:.1f} ± {item.lost_sd:.1f}",
            f"{item.shap:.2f}",
        ]
        for item in importances
    ]
