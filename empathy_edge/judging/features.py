"""What a scorer sees of a response: blocks of explicit features, each fitted on training rows alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.judging.rated import MITI_CODES, codes_of
from empathy_edge.text.embeddings import embed

if TYPE_CHECKING:
    import pandas as pd

TEXTS = ("situation", "speaker_uttr", "response")


class Block(Protocol):
    """Some columns; `names` says what each one is."""

    names: tuple[str, ...]

    def fit(self, rows: pd.DataFrame) -> None:
        """Learn what has to be learned from training rows."""
        ...

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        """float64 [rows, columns]."""
        ...


class Miti:
    """The 15 MITI codes, 1 where a response has one."""

    names = tuple(f"MITI {code}" for code in MITI_CODES)

    def fit(self, rows: pd.DataFrame) -> None:
        pass

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        return np.array([[float(code in codes) for code in MITI_CODES] for codes in codes_of(rows)])


class Embeddings:
    """Sentence embeddings of situation, utterance and response, one behind the other."""

    def __init__(self, texts: Embedded) -> None:
        self._texts = texts
        self.names = tuple(f"{name} embedding {number}" for name in TEXTS for number in range(texts.size))

    def fit(self, rows: pd.DataFrame) -> None:
        pass

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        return np.hstack([self._texts(rows[name]) for name in TEXTS])


class Nearness:
    """Cosine similarities between situation, utterance and response."""

    names: tuple[str, ...] = ("response to utterance", "response to situation", "utterance to situation")

    def __init__(self, texts: Embedded) -> None:
        self._texts = texts

    def fit(self, rows: pd.DataFrame) -> None:
        pass

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        situation, utterance, response = (self._texts(rows[name]) for name in TEXTS)
        pairs = ((response, utterance), (response, situation), (utterance, situation))
        return np.stack([(one * other).sum(1) for one, other in pairs], axis=1)


class Form:
    """How a response is made: its length, questions, exclamations, first and second person, and the utterance's length."""

    names: tuple[str, ...] = ("words", "questions", "exclamations", "I", "you", "words of the utterance")

    def fit(self, rows: pd.DataFrame) -> None:
        pass

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        def count(pattern: str, text: str) -> int:
            return len(re.findall(pattern, text, re.IGNORECASE))

        return np.array(
            [
                [
                    len(text.split()) / 10,
                    text.count("?"),
                    text.count("!"),
                    count(r"\b(i|i'm|my|me)\b", text),
                    count(r"\b(you|your|you're)\b", text),
                    len(said.split()) / 10,
                ]
                for text, said in zip(rows["response"], rows["speaker_uttr"], strict=True)
            ],
            dtype=float,
        )


class Source:
    """Who wrote the response, and nothing about it: a baseline that tells how much of an accuracy is style."""

    names: tuple[str, ...]

    def fit(self, rows: pd.DataFrame) -> None:
        self.names = tuple(sorted(rows["type"].unique()))

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        return np.array([[float(kind == name) for name in self.names] for kind in rows["type"]])


class Words:
    """TF-IDF of the response's words and pairs of words."""

    names: tuple[str, ...]
    words: list[str]
    vectorizer: Any

    def fit(self, rows: pd.DataFrame) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        self.vectorizer.fit(rows["response"])
        self.words = list(self.vectorizer.get_feature_names_out())
        self.names = tuple(f"“{word}”" for word in self.words)

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        return np.asarray(self.vectorizer.transform(rows["response"]).toarray())


class Subfactors:
    """The explicit subfactors that an LLM scored 1–10, by row id (`score subfactors` writes them)."""

    def __init__(self, scores: dict[str, dict[str, float]]) -> None:
        self._scores = scores
        self.names = tuple(sorted({name for row in scores.values() for name in row}))

    def fit(self, rows: pd.DataFrame) -> None:
        pass

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        missing = [name for name in rows["unified_dialog_id"] if name not in self._scores]
        if missing:
            raise EmpathyEdgeError(f"{len(missing)} responses have no subfactors (first: {missing[0]}).")
        return np.array(
            [[self._scores[row][name] / 10 for name in self.names] for row in rows["unified_dialog_id"]]
        )


class Embedded:
    """Sentence embeddings of all texts of a study, made once."""

    def __init__(self, rows: pd.DataFrame, model: str) -> None:
        texts = sorted({text for name in TEXTS for text in rows[name].fillna("")})
        self._place = {text: place for place, text in enumerate(texts)}
        self._vectors = embed(texts, model)
        self.size = self._vectors.shape[1]

    def __call__(self, texts: pd.Series) -> np.ndarray:
        return np.asarray(self._vectors[[self._place[text] for text in texts.fillna("")]], dtype=float)


def blocks_for(
    name: str, texts: Callable[[], Embedded], subfactors: dict[str, Any] | None = None
) -> list[Block]:
    """The blocks of a name such as `miti`, `embeddings`, `words+form+nearness`."""
    makers: dict[str, Callable[[], Block]] = {
        "miti": Miti,
        "form": Form,
        "source": Source,
        "words": Words,
        "embeddings": lambda: Embeddings(texts()),
        "nearness": lambda: Nearness(texts()),
        "subfactors": lambda: Subfactors(subfactors or {}),
    }
    unknown = [part for part in name.split("+") if part not in makers]
    if unknown:
        raise EmpathyEdgeError(f"no such features: {', '.join(unknown)}; there are {', '.join(makers)}.")
    return [makers[part]() for part in name.split("+")]
