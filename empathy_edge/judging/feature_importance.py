"""Which named features carry a rating: coefficients, what is lost when one is shuffled, and each one's share in the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from empathy_edge.judging.features import blocks_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

SHUFFLES = 20
COLUMNS = ("feature", "coefficient, 3 over 1", "accuracy lost when shuffled", "mean |SHAP| for 3")


def importances(
    chosen: pd.DataFrame, features: str, folds: Iterable[tuple[np.ndarray, np.ndarray]], seed: int
) -> list[dict[str, Any]]:
    """The features by what held-out accuracy loses without them, of a logistic regression on standardized columns.

    Args:
        chosen: rated responses.
        features: names of blocks whose columns have names, joined by +.
        folds: training and held-out rows; the figures are means over them.
        seed: for the shuffles.

    Returns:
        For each feature `coefficient` (of rating 3 less that of rating 1), `lost` and `lost_sd` (points of accuracy,
        Breiman 2001; held-out rows, spread over folds), `shap` (mean |coefficient · (value − mean)| for rating 3: a linear
        model's SHAP value with independent features, Lundberg and Lee 2017).
    """
    from sklearn.inspection import permutation_importance
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    ratings = chosen["rating"].to_numpy()
    coefficients, lost, shap = [], [], []
    names: list[str] = []
    for train, test in folds:
        blocks = blocks_for(features, _none)
        rows, held = chosen.iloc[train], chosen.iloc[test]
        for block in blocks:
            block.fit(rows)
        names = [name for block in blocks for name in block.names]
        scaler = StandardScaler().fit(np.hstack([block.transform(rows) for block in blocks]))
        inside = scaler.transform(np.hstack([block.transform(rows) for block in blocks]))
        outside = scaler.transform(np.hstack([block.transform(held) for block in blocks]))
        model = LogisticRegression(max_iter=1000, random_state=seed).fit(inside, ratings[train])
        coefficients.append(model.coef_[-1] - model.coef_[0])
        found = permutation_importance(model, outside, ratings[test], n_repeats=SHUFFLES, random_state=seed)
        lost.append(found.importances_mean)
        shap.append(np.abs(model.coef_[-1] * (outside - inside.mean(0))).mean(0))
    table = [
        {
            "feature": name,
            "coefficient": round(float(np.mean([row[place] for row in coefficients])), 3),
            "lost": round(100 * float(np.mean([row[place] for row in lost])), 2),
            "lost_sd": round(100 * float(np.std([row[place] for row in lost])), 2),
            "shap": round(float(np.mean([row[place] for row in shap])), 3),
        }
        for place, name in enumerate(names)
    ]
    return sorted(table, key=lambda row: -row["lost"])


def _none() -> Any:
    raise ValueError("embeddings have no names; their importances say nothing to people")


def cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    """As a table's rows."""
    return [
        [
            row["feature"],
            f"{row['coefficient']:+.2f}",
            f"{row['lost']:.1f} ± {row['lost_sd']:.1f}",
            f"{row['shap']:.2f}",
        ]
        for row in rows
    ]
