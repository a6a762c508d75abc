"""What every scorer knows of itself and says of a rating."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from empathy_edge.judging.classifiers import RATINGS
from empathy_edge.system.files import sha256_json

if TYPE_CHECKING:
    pass

FORMAT_TUNED = "empathy-edge language-model scorer, version 1"


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


def reason(moves: list[tuple[str, float]]) -> str:
    """The features that moved a score, in words: up with +, down with −."""
    return ", ".join(f"{name} {'+' if move > 0 else '−'}{abs(move):.2f}" for name, move in moves)
