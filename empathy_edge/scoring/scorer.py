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
from empathy_edge.run import read_json, sha256_file, sha256_json, write_json
from empathy_edge.scoring.classifiers import RATINGS, classifiers
from empathy_edge.scoring.embeddings import embed
from empathy_edge.scoring.features import Block, Embedded, Form, Nearness, Words
from empathy_edge.scoring.rated import balanced, leave_out, read_rated
from empathy_edge.scoring.study import SEED, evaluate, grouped_folds

if TYPE_CHECKING:
    import pandas as pd

    from empathy_edge.scoring.tuned import TunedScorer

FORMAT = "empathy-edge scorer, version 1"
FORMAT_TUNED = "empathy-edge language-model scorer, version 1"
FEATURES, CLASSIFIER = "words+form+nearness", "lr"
PROBE = "I am so glad that you are here with me."
"""Its embedding is kept, to tell whether a scorer meets the embedding model that it was trained with."""

SAME_EMBEDDING = 0.999


class Measured:
    """What every scorer knows of itself: `content` is its file."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self._dialogues = set(content["dialogues"])

    @property
    def figures(self) -> dict[str, Any]:
        """How good it is on dialogues that it did not see."""
        return dict(self.content["figures"])

    def seen(self, dialogue: str) -> bool:
        """Whether it was trained on responses to this dialogue."""
        return short_hash(dialogue) in self._dialogues


class Scorer(Measured):
    """P(rating = 1, 2, 3) = softmax(W x + b), x being TF-IDF of words, and scaled form and nearness."""

    def __init__(self, content: dict[str, Any]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        super().__init__(content)
        self._weights = np.array(content["weights"])
        self._bias = np.array(content["bias"])
        words = content["words"]
        self._words = Words()
        self._words.vectorizer = TfidfVectorizer(vocabulary=list(words), ngram_range=(1, 2), sublinear_tf=True)
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


def load(file: Path) -> Scorer | TunedScorer:
    """Read a scorer that `train` or `tuned.train` wrote.

    Raises:
        EmpathyEdgeError: another format, parts that do not fit, or another embedding or language model than it was trained with.
    """
    content = read_json(file)
    if isinstance(content, dict) and content.get("format") == FORMAT_TUNED:
        from empathy_edge.scoring import tuned

        return tuned.load(file, content)
    require_extra("sklearn", "score", "Scoring")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise EmpathyEdgeError(f"{file}: is no scorer of this version ({FORMAT}); train it again with `score train`.")
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


def describe(figures: dict[str, Any]) -> str:
    """A scorer's figures in one line."""
    grouped, order = figures["grouped"], figures["order"]
    return (
        f"accuracy {grouped['mean']:.1f} % [{grouped['low']:.1f}, {grouped['high']:.1f}] (chance 33.3), "
        f"a 3 above a 1 in {order['mean']:.0f} % [{order['low']:.0f}, {order['high']:.0f}] of {figures['order_pairs']} pairs"
    )


def short_hash(dialogue: str) -> str:
    """A dialogue in a scorer's file: enough to know it again, and nothing of its text."""
    return sha256_json(dialogue)[:10]


def expected(chances: np.ndarray) -> np.ndarray:
    """The expected rating, 1 to 3."""
    return chances @ np.array(RATINGS, dtype=float)


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def reason(moves: list[tuple[str, float]]) -> str:
    """The features that moved a score, in words: up with +, down with −."""
    return ", ".join(f"{name} {'+' if move > 0 else '−'}{abs(move):.2f}" for name, move in moves)
