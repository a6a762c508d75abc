"""A scorer that runs offline: explicit features, a logistic regression, and the reasons for each score.

It is saved as JSON, never as a pickle, so its words and their weights can be read. Its figures on dialogues
that it did not see are in the same file, and are shown with every score that it gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.judging.base_scorer import BaseScorer, Reasons, describe, short_hash
from empathy_edge.judging.classifiers import RATINGS, classifiers, fit
from empathy_edge.judging.evaluation import SEED, Method, evaluate, grouped_folds
from empathy_edge.judging.features import Block, Embedded, Form, Nearness, Words
from empathy_edge.judging.rated import balanced, leave_out, read_rated
from empathy_edge.system.files import write_json
from empathy_edge.system.hash_cache import sha256_file
from empathy_edge.text.embeddings import embed

if TYPE_CHECKING:
    import pandas as pd


FORMAT = "empathy-edge scorer, version 1"
FEATURES, CLASSIFIER = "words+form+nearness", "lr"
MAX_REASONS = 6

PROBE = "I am so glad that you are here with me."
"""Its embedding is in the scorer's file, to check that the same embedding model is installed."""

MIN_PROBE_SIMILARITY = 0.999


class Scorer(BaseScorer):
    """P(rating = 1, 2, 3) = softmax(W x + b), x being TF-IDF of words, and scaled form and nearness."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__(content)
        self._weights = np.array(content["weights"])
        self._bias = np.array(content["bias"])
        self._average = np.array(content["average"])
        words = content["words"]
        self._words = Words.from_idf(words)
        self.names = [*(f"“{word}”" for word in words), *Form.names, *Nearness.names]

    def probabilities(self, rows: pd.DataFrame) -> np.ndarray:
        return self.score(rows)[0]

    def score(self, rows: pd.DataFrame) -> tuple[np.ndarray, list[Reasons]]:
        """As `probabilities`, and for each row the six features that change it most.

        A change is how much the feature adds to the logit of a 3 against a 1, compared with an average
        response.
        """
        embedded = Embedded(rows, self.content["embedding"])
        features = _columns([self._words, Form(), Nearness(embedded)], rows)
        logits = features @ self._weights.T + self._bias
        odds = np.exp(logits - logits.max(1, keepdims=True))
        changes = (features - self._average) * (self._weights[-1] - self._weights[0])
        return odds / odds.sum(1, keepdims=True), [self._reasons(row) for row in changes]

    def _reasons(self, changes: np.ndarray) -> Reasons:
        largest = np.argsort(-np.abs(changes))[:MAX_REASONS]
        return [(self.names[place], round(float(changes[place]), 3)) for place in largest]


def train(
    *,
    data: Path,
    file: Path,
    embedding: str,
    certifiable: bool = False,
    unseen: Path | None = None,
    update: bool = False,
) -> Scorer:
    """Train a scorer on rated responses, measure it on folds grouped by dialogue, and write it.

    Args:
        data: the CSV.
        file: the scorer's file, JSON.
        embedding: the sentence-embedding model.
        certifiable: leave out a fifth of the dialogues, so that `judge certify` can test it on them.
        unseen: a file of dialogues to leave out.
        update: replace `file` if there is one.

    Raises:
        EmpathyEdgeError: `file` exists and is not to be replaced.
    """
    require_extra("pandas", "score", "Training a scorer")
    if file.exists() and not update:
        raise EmpathyEdgeError(f"{file}: exists already; choose another name, or use --update to replace it.")
    chosen = balanced(read_rated(data))
    embeddings = cache(lambda: Embedded(chosen, embedding))
    figures = evaluate(chosen, Method(FEATURES, CLASSIFIER, embeddings))
    training = chosen
    if unseen:
        training = training.iloc[leave_out(training, unseen)[0]].reset_index(drop=True)
    if certifiable:
        training = training.iloc[next(grouped_folds(training, 0))[0]].reset_index(drop=True)
    fitted = _fit(training, embeddings())
    content = {
        "format": FORMAT,
        "data": {"file": data.name, "sha256": sha256_file(data), "responses": len(training)},
        "dialogues": sorted({short_hash(name) for name in training["dialog_id"]}),
        "embedding": embedding,
        "probe": _rounded(embed([PROBE], embedding)[0]),
        "features": FEATURES,
        "figures": figures,
        **_weights_record(fitted),
    }
    write_json(file, content)
    say(f"{file}: trained on {len(training)} responses; on dialogues not seen, {describe(figures)}.")
    return Scorer(content)


@dataclass(frozen=True)
class _Fitted:
    """The words, the classifier (scikit-learn's logistic regression), and the features' means, [features]."""

    words: Words
    model: Any
    average: np.ndarray


def _fit(training: pd.DataFrame, embedded: Embedded) -> _Fitted:
    words = Words()
    words.fit(training)
    features = _columns([words, Form(), Nearness(embedded)], training)
    model = fit(classifiers(SEED)[CLASSIFIER](), features, training["rating"])
    return _Fitted(words, model, features.mean(0))


def _columns(blocks: list[Block], rows: pd.DataFrame) -> np.ndarray:
    """The blocks' columns side by side, float64 [rows, features]."""
    return np.hstack([block.transform(rows) for block in blocks])


def _weights_record(fitted: _Fitted) -> dict[str, Any]:
    return {
        "bias": _rounded(fitted.model.intercept_),
        "average": _rounded(fitted.average),
        "words": dict(zip(fitted.words.words, _rounded(fitted.words.vectorizer.idf_), strict=True)),
        "weights": [_rounded(row) for row in fitted.model.coef_],
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def load(file: Path, content: Any) -> Scorer:
    """A scorer from what its file holds.

    Raises:
        EmpathyEdgeError: another format, parts that do not fit, or another embedding model than it was
        trained with.
    """
    require_extra("pandas", "score", "Scoring")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise EmpathyEdgeError(
            f"{file}: is no scorer of this version ({FORMAT}); train it again with `score train`."
        )
    if not _parts_fit(content):
        raise EmpathyEdgeError(f"{file}: is damaged (its parts do not fit each other); train it again.")
    similarity = float(embed([PROBE], content["embedding"])[0] @ np.array(content["probe"]))
    if similarity < MIN_PROBE_SIMILARITY:
        raise EmpathyEdgeError(
            f"{file}: was trained with another '{content['embedding']}' than is installed "
            f"(similarity {similarity:.3f}); train it again."
        )
    return Scorer(content)


def _parts_fit(content: dict[str, Any]) -> bool:
    """Whether weights, means and bias have the shapes that the words ask for."""
    try:
        columns = len(content["words"]) + len(Form.names) + len(Nearness.names)
        wanted = {"weights": (len(RATINGS), columns), "average": (columns,), "bias": (len(RATINGS),)}
        fits = all(np.array(content[key], dtype=float).shape == shape for key, shape in wanted.items())
        return fits and isinstance(content["dialogues"], list)
    except (KeyError, TypeError, ValueError):
        return False
