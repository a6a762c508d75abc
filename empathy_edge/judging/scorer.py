"""An empathy scorer that runs offline: explicit features, a logistic regression, and a score that says why.

It is saved as JSON, never as a pickle: the words and their weights can be read. Its figures on dialogues that it did not see
stand in the same file, and beside every score that it gives.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.judging.classifiers import RATINGS, classifiers
from empathy_edge.judging.features import Block, Embedded, Form, Nearness, Words
from empathy_edge.judging.rated import balanced, leave_out, read_rated
from empathy_edge.judging.scorer_figures import Measured, describe, short_hash
from empathy_edge.judging.study import SEED, evaluate, grouped_folds
from empathy_edge.system.files import sha256_file, write_json
from empathy_edge.text.embeddings import embed

if TYPE_CHECKING:
    import pandas as pd


FORMAT = "empathy-edge scorer, version 1"
FEATURES, CLASSIFIER = "words+form+nearness", "lr"
PROBE = "I am so glad that you are here with me."
"""Its embedding is kept, to tell whether a scorer meets the embedding model that it was trained with."""

SAME_EMBEDDING = 0.999


class Scorer(Measured):
    """P(rating = 1, 2, 3) = softmax(W x + b), x being TF-IDF of words, and scaled form and nearness."""

    def __init__(self, content: dict[str, Any]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        super().__init__(content)
        self._weights = np.array(content["weights"])
        self._bias = np.array(content["bias"])
        words = content["words"]
        self._words = Words()
        self._words.vectorizer = TfidfVectorizer(
            vocabulary=list(words), ngram_range=(1, 2), sublinear_tf=True
        )
        self._words.vectorizer.idf_ = np.array(list(words.values()))
        self.names = [*(f"“{word}”" for word in words), *Form.names, *Nearness.names]

    def chances(self, rows: pd.DataFrame) -> np.ndarray:
        """Probabilities of 1, 2, 3, float64 [rows, 3], of responses (columns situation, speaker_uttr, response)."""
        return self.score(rows)[0]

    def score(self, rows: pd.DataFrame) -> tuple[np.ndarray, list[list[tuple[str, float]]]]:
        """Score responses (columns situation, speaker_uttr, response).

        Returns:
            Probabilities of 1, 2, 3, float64 [rows, 3]; and for each row the six features that moved it most from an
            average response, each with how much it adds to the logit of a 3 against a 1.
        """
        texts = Embedded(rows, self.content["embedding"])
        blocks: list[Block] = [self._words, Form(), Nearness(texts)]
        x = np.hstack([block.transform(rows) for block in blocks])
        logits = x @ self._weights.T + self._bias
        chances = np.exp(logits - logits.max(1, keepdims=True))
        moves = (x - np.array(self.content["average"])) * (self._weights[-1] - self._weights[0])
        best = np.argsort(-np.abs(moves), axis=1)[:, :6]
        reasons = [
            [(self.names[place], round(float(moves[row, place]), 3)) for place in places]
            for row, places in enumerate(best)
        ]
        return chances / chances.sum(1, keepdims=True), reasons


def train(
    *,
    data: Path,
    file: Path,
    embedding: str,
    certifiable: bool = False,
    unseen: Path | None = None,
    update: bool = False,
) -> Scorer:
    """Train a scorer on a CSV of rated responses, measure it on folds grouped by dialogue, and write it to `file`.

    A `certifiable` one has not seen a fifth of the dialogues, on which `certify` can test it; nor any of the file `unseen`.

    Raises:
        EmpathyEdgeError: `file` exists and is not to be replaced.
    """
    require_extra("sklearn", "score", "Training a scorer")
    if file.exists() and not update:
        raise EmpathyEdgeError(f"{file}: exists already; choose another name, or say --update to replace it.")
    chosen = balanced(read_rated(data))
    texts = cache(lambda: Embedded(chosen, embedding))
    figures = evaluate(chosen, FEATURES, CLASSIFIER, texts, {})
    if unseen:
        chosen = chosen.iloc[leave_out(chosen, unseen)[0]].reset_index(drop=True)
    if certifiable:
        chosen = chosen.iloc[next(grouped_folds(chosen, 0))[0]].reset_index(drop=True)
    words = Words()
    blocks: list[Block] = [words, Form(), Nearness(texts())]
    words.fit(chosen)
    x = np.hstack([block.transform(chosen) for block in blocks])
    model = classifiers(SEED)[CLASSIFIER]().fit(x, chosen["rating"])
    content = {
        "format": FORMAT,
        "data": {"file": data.name, "sha256": sha256_file(data), "responses": len(chosen)},
        "dialogues": sorted({short_hash(name) for name in chosen["dialog_id"]}),
        "embedding": embedding,
        "probe": _rounded(embed([PROBE], embedding)[0]),
        "features": FEATURES,
        "figures": figures,
        "bias": _rounded(model.intercept_),
        "average": _rounded(x.mean(0)),
        "words": dict(zip(words.words, _rounded(words.vectorizer.idf_), strict=True)),
        "weights": [_rounded(row) for row in model.coef_],
    }
    write_json(file, content)
    say(f"{file}: trained on {len(chosen)} responses; on dialogues not seen, {describe(figures)}.")
    return Scorer(content)


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def load(file: Path, content: Any) -> Scorer:
    """A scorer from what its file holds.

    Raises:
        EmpathyEdgeError: another format, parts that do not fit, or another embedding model than it was trained with.
    """
    require_extra("sklearn", "score", "Scoring")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise EmpathyEdgeError(
            f"{file}: is no scorer of this version ({FORMAT}); train it again with `score train`."
        )
    try:
        columns = len(content["words"]) + len(Form.names) + len(Nearness.names)
        shapes = [np.array(content[key], dtype=float).shape for key in ("weights", "average", "bias")]
        fits = isinstance(content["dialogues"], list) and shapes == [
            (len(RATINGS), columns),
            (columns,),
            (len(RATINGS),),
        ]
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise EmpathyEdgeError(f"{file}: is damaged (its parts do not fit each other); train it again.")
    near = float(embed([PROBE], content["embedding"])[0] @ np.array(content["probe"]))
    if near < SAME_EMBEDDING:
        raise EmpathyEdgeError(
            f"{file}: was trained with another '{content['embedding']}' than is installed (similarity {near:.3f}); train it again."
        )
    return Scorer(content)
