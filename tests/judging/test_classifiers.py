"""Fitting: the same models as scikit-learn's own, in less time."""

import numpy as np
from scipy.sparse import issparse

from empathy_edge.judging.classifiers import Ordinal, _compact, classifiers, fit

ROWS, COLUMNS = 200, 400


def table(share: float) -> tuple[np.ndarray, np.ndarray]:
    """Columns with a share of entries that are not 0, and ratings that follow from the first ones."""
    generator = np.random.default_rng(0)
    features = generator.random((ROWS, COLUMNS)) * (generator.random((ROWS, COLUMNS)) < share)
    seen = features[:, :100].sum(1) + generator.normal(0, 0.1, ROWS)
    return features, 1 + np.searchsorted(np.quantile(seen, (1 / 3, 2 / 3)), seen)


class Watched:
    """A model that keeps what it is fitted with."""

    def fit(self, features: object, _targets: object) -> "Watched":
        from threadpoolctl import threadpool_info

        self.features = features
        self.threads = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        return self


def test_a_fit_takes_one_thread_of_blas_and_leaves_other_models_their_table() -> None:
    features, ratings = table(0.01)
    watched = fit(Watched(), features, ratings)
    assert watched.threads and set(watched.threads) == {1}
    assert watched.features is features


def test_words_as_a_sparse_table_give_the_same_model() -> None:
    for share in (0.01, 0.5):
        features, ratings = table(share)
        own = classifiers(0)["lr"]().fit(features, ratings)
        ours = fit(classifiers(0)["lr"](), features, ratings)
        assert np.abs(ours.predict_proba(features) - own.predict_proba(features)).max() < 1e-3
        own, ours = Ordinal().fit(features, ratings), fit(Ordinal(), features, ratings)
        assert np.abs(ours.predict_proba(features) - own.predict_proba(features)).max() < 1e-3


def test_only_few_entries_are_handed_over_as_sparse() -> None:
    assert issparse(_compact(table(0.01)[0])) and not issparse(_compact(table(0.5)[0]))
