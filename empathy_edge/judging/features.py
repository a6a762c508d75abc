"""What a scorer sees of a response: blocks of explicit features, each fitted on training rows alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
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
        return one_hot(codes_of(rows), MITI_CODES)


def one_hot(codes: list[list[str]], known: tuple[str, ...]) -> np.ndarray:
    """1 where a response has a code, else 0, float64 [responses, codes]."""
    table = np.zeros((len(codes), len(known)))
    for row, of_response in enumerate(codes):
        table[row] = [float(code in of_response) for code in known]
    return table


class Embeddings:
    """Sentence embeddings of situation, utterance and response, side by side."""

    def __init__(self, embedded: Embedded) -> None:
        self._embedded = embedded
        names = []
        for text in TEXTS:
            names += [f"{text} embedding {number}" for number in range(embedded.size)]
        self.names = tuple(names)

    def fit(self, rows: pd.DataFrame) -> None:
        pass

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        return np.hstack([self._embedded(rows[name]) for name in TEXTS])


class Nearness:
    """Cosine similarities between situation, utterance and response."""

    names: tuple[str, ...] = ("response to utterance", "response to situation", "utterance to situation")

    def __init__(self, embedded: Embedded) -> None:
        self._embedded = embedded

    def fit(self, rows: pd.DataFrame) -> None:
        pass

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        situation, utterance, response = (self._embedded(rows[name]) for name in TEXTS)
        pairs = ((response, utterance), (response, situation), (utterance, situation))
        return np.stack([(one * other).sum(1) for one, other in pairs], axis=1)


class Form:
    """Counts: words and the utterance's words (in tens), questions, exclamations, first and second person."""

    names: tuple[str, ...] = ("words", "questions", "exclamations", "I", "you", "words of the utterance")

    def fit(self, rows: pd.DataFrame) -> None:
        pass

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        texts = zip(rows["response"], rows["speaker_uttr"], strict=True)
        return np.array([_form_of(response, utterance) for response, utterance in texts], dtype=float)


def _form_of(response: str, utterance: str) -> list[float]:
    return [
        len(response.split()) / 10,
        response.count("?"),
        response.count("!"),
        len(re.findall(r"\b(i|i'm|my|me)\b", response, re.IGNORECASE)),
        len(re.findall(r"\b(you|your|you're)\b", response, re.IGNORECASE)),
        len(utterance.split()) / 10,
    ]


class Source:
    """Who wrote the response, and nothing else: a baseline that shows how much of an accuracy is style."""

    names: tuple[str, ...]

    def fit(self, rows: pd.DataFrame) -> None:
        self.names = tuple(sorted(rows["type"].unique()))

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        return one_hot([[source] for source in rows["type"]], self.names)


class Words:
    """TF-IDF of the response's words and pairs of words."""

    names: tuple[str, ...]
    words: list[str]
    vectorizer: Any

    @classmethod
    def from_idf(cls, idf: Mapping[str, float]) -> Words:
        """A block that was fitted before, from the inverse document frequency of each word."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        block = cls()
        block._set_words(list(idf))
        block.vectorizer = TfidfVectorizer(vocabulary=block.words, ngram_range=(1, 2), sublinear_tf=True)
        block.vectorizer.idf_ = np.array(list(idf.values()))
        return block

    def fit(self, rows: pd.DataFrame) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        self.vectorizer.fit(rows["response"])
        self._set_words(list(self.vectorizer.get_feature_names_out()))

    def _set_words(self, words: list[str]) -> None:
        self.words = words
        self.names = tuple(f"“{word}”" for word in words)

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        return np.asarray(self.vectorizer.transform(rows["response"]).toarray())


class Subfactors:
    """The explicit subfactors that a large model scored, 1–10, by row id (`score subfactors` writes them)."""

    def __init__(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        self._scores = scores
        self.names = tuple(sorted(set[str]().union(*scores.values())))

    def fit(self, rows: pd.DataFrame) -> None:
        pass

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        ids = list(rows["unified_dialog_id"])
        missing = [name for name in ids if name not in self._scores]
        if missing:
            raise EmpathyEdgeError(f"{len(missing)} responses have no subfactors (first: {missing[0]}).")
        return np.array([self._row(self._scores[name]) for name in ids])

    def _row(self, scores: Mapping[str, float]) -> list[float]:
        return [scores[name] / 10 for name in self.names]


class Embedded:
    """Sentence embeddings of all texts of some rows, computed once."""

    def __init__(self, rows: pd.DataFrame, model: str) -> None:
        texts = sorted(set[str]().union(*(rows[name].fillna("") for name in TEXTS)))
        self._place_of = {text: place for place, text in enumerate(texts)}
        self._vectors = embed(texts, model)
        self.size = self._vectors.shape[1]

    def __call__(self, texts: pd.Series) -> np.ndarray:
        """float64 [texts, size]; each text must be among the rows'."""
        places = [self._place_of[text] for text in texts.fillna("")]
        return np.asarray(self._vectors[places], dtype=float)


def blocks_for(
    name: str,
    embedded: Callable[[], Embedded],
    subfactors: Mapping[str, Mapping[str, float]] | None = None,
) -> list[Block]:
    """The blocks of a name such as `miti`, `embeddings`, `words+form+nearness`.

    Args:
        name: the blocks' names, joined by +.
        embedded: gives the embeddings, for the blocks that need them.
        subfactors: row id → subfactor → score, for the block `subfactors`.
    """
    makers: dict[str, Callable[[], Block]] = {
        "miti": Miti,
        "form": Form,
        "source": Source,
        "words": Words,
        "embeddings": lambda: Embeddings(embedded()),
        "nearness": lambda: Nearness(embedded()),
        "subfactors": lambda: Subfactors(subfactors or {}),
    }
    unknown = [part for part in name.split("+") if part not in makers]
    if unknown:
        raise EmpathyEdgeError(f"no such features: {', '.join(unknown)}; there are {', '.join(makers)}.")
    return [makers[part]() for part in name.split("+")]
