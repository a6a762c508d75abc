"""From features to a rating 1–3: the paper's five classifiers, gradient boosting, ordinal regression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

RATINGS = (1, 2, 3)


FEW_ENTRIES = 0.1
"""A table with fewer entries that are not 0 is handed over as a sparse one."""


def fit(model: Any, features: Any, targets: Any) -> Any:
    """Fit one of scikit-learn's models; returns it.

    One thread of BLAS is used: several wait for each other at each of many small products, and take 50 times
    the processor time when other programs use the cores as well. A logistic regression gets columns of words
    as a sparse table, 14 times as fast.

    Args:
        model: not fitted yet.
        features: [rows, columns], dense or sparse.
        targets: [rows].
    """
    from threadpoolctl import threadpool_limits

    columns = _compact(features) if _takes_sparse(model) else features  # loads every BLAS that is limited
    with threadpool_limits(1, "blas"):
        return model.fit(columns, targets)


def _takes_sparse(model: Any) -> bool:
    from sklearn.linear_model import LogisticRegression

    return isinstance(model, LogisticRegression | Ordinal)


def _compact(features: Any) -> Any:
    from scipy.sparse import csr_matrix

    is_dense = isinstance(features, np.ndarray)
    few = is_dense and np.count_nonzero(features) < FEW_ENTRIES * features.size
    return csr_matrix(features) if few else features


class Ordinal:
    """Ordinal regression by two logistic ones, P(rating > 1), P(rating > 2) (Frank and Hall, ECML 2001)."""

    classes_ = np.array(RATINGS)

    def __init__(self, strength: float = 1.0) -> None:
        from sklearn.linear_model import LogisticRegression

        self.parts = [LogisticRegression(C=strength, max_iter=2000) for _ in RATINGS[:-1]]

    def fit(self, features: np.ndarray, ratings: np.ndarray) -> Ordinal:
        """Fit each threshold on its own."""
        for part, threshold in zip(self.parts, RATINGS, strict=False):
            part.fit(features, ratings > threshold)
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of 1, 2, 3, float64 [rows, 3]; where the two disagree, the middle is 0."""
        above = [part.predict_proba(features)[:, 1] for part in self.parts]
        parts = [1 - above[0], np.maximum(0, above[0] - above[1]), above[1]]
        probabilities = np.stack(parts, axis=1)
        return probabilities / probabilities.sum(1, keepdims=True)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The likeliest rating of each row."""
        return self.classes_[self.predict_proba(features).argmax(1)]


def classifiers(seed: int) -> dict[str, Callable[[], Any]]:
    """Each classifier's short name → a fresh one; settings are scikit-learn's defaults unless said here."""
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    return {
        "majority": lambda: DummyClassifier(strategy="most_frequent"),
        "lr": lambda: LogisticRegression(max_iter=1000, random_state=seed),
        "svc": lambda: SVC(random_state=seed),
        "dt": lambda: DecisionTreeClassifier(random_state=seed),
        "rf": lambda: RandomForestClassifier(random_state=seed, n_jobs=-1),
        "mlp": lambda: MLPClassifier((64, 32), max_iter=500, random_state=seed),
        "gb": lambda: HistGradientBoostingClassifier(random_state=seed),
        "ordinal": Ordinal,
    }


def with_selection(make: Callable[[], Any], by: str, columns: int, seed: int) -> Callable[[], Any]:
    """The classifier on the best k features; k and the features are chosen inside the training rows alone.

    Args:
        make: the classifier.
        by: `kbest` (f_classif) or `rfe` (recursive elimination by a logistic regression).
        columns: how many there are; k is chosen among shares of it.
        seed: for the inner folds.
    """
    from sklearn.feature_selection import RFE, SelectKBest, f_classif
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline

    counts = sorted({max(1, round(columns * share)) for share in (0.1, 0.25, 0.5, 1.0)})
    if by == "kbest":
        selector, parameter = SelectKBest(f_classif), "selectkbest__k"
    else:
        selector = RFE(LogisticRegression(max_iter=1000), step=0.2)
        parameter = "rfe__n_features_to_select"
    inner = StratifiedKFold(3, shuffle=True, random_state=seed)
    return lambda: GridSearchCV(make_pipeline(selector, make()), {parameter: counts}, cv=inner, n_jobs=1)
