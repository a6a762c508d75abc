"""What scorers have in common: each rates one response from 1 to 3, and knows its own accuracy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from empathy_edge.judging.classifiers import RATINGS
from empathy_edge.judging.evaluation import RatingFigures
from empathy_edge.system.files import sha256_json

if TYPE_CHECKING:
    import pandas as pd

FORMAT_TUNED = "empathy-edge language-model scorer, version 1"

Reasons = list[tuple[str, float]]
"""What changed a score, and by how much; the largest change first."""


class BaseScorer(ABC):
    """A scorer; `content` is what its file holds."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self._dialogues = set(content["dialogues"])

    @abstractmethod
    def probabilities(self, rows: pd.DataFrame) -> np.ndarray:
        """Probabilities of the ratings 1, 2, 3, float64 [rows, 3].

        Args:
            rows: responses, with the columns situation, speaker_uttr, response.
        """

    @abstractmethod
    def score(self, rows: pd.DataFrame) -> tuple[np.ndarray, list[Reasons]]:
        """As `probabilities`, and for each row the reasons for its score."""

    @property
    def figures(self) -> RatingFigures:
        """How good it is on dialogues that it did not see."""
        figures: RatingFigures = self.content["figures"]
        return figures

    def seen(self, dialogue_id: str) -> bool:
        """Whether it was trained on responses to this dialogue."""
        return short_hash(dialogue_id) in self._dialogues


def describe(figures: RatingFigures) -> str:
    """A scorer's figures in one line."""
    grouped, order = figures["grouped"], figures["order"]
    return (
        f"accuracy {grouped['mean']:.1f} % [{grouped['low']:.1f}, {grouped['high']:.1f}] (chance 33.3), "
        f"a 3 above a 1 in {order['mean']:.0f} % [{order['low']:.0f}, {order['high']:.0f}] "
        f"of {figures['order_pairs']} pairs"
    )


def short_hash(dialogue_id: str) -> str:
    """A dialogue in a scorer's file: enough to recognize it, and nothing of its text."""
    return sha256_json(dialogue_id)[:10]


def expected_rating(probabilities: np.ndarray) -> np.ndarray:
    """The expected rating, 1 to 3, from the probabilities of 1, 2, 3: [..., 3] gives [...]."""
    return probabilities @ np.array(RATINGS, dtype=float)


def describe_reasons(reasons: Reasons) -> str:
    """The features that changed a score, in words: raised it with +, lowered it with −."""
    return ", ".join(f"{name} {'+' if change > 0 else '−'}{abs(change):.2f}" for name, change in reasons)
