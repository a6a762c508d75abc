"""Replies drawn from a model's whole distribution, with the log-probability of each token."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Drawn(NamedTuple):
    """A reply.

    Attributes:
        token_ids: its tokens, the stop token included where it came.
        log_probs: of each token, nats; None where the runtime does not have them from drawing.
        stopped: whether it ended by itself.
    """

    token_ids: list[int]
    log_probs: list[float] | None
    stopped: bool


def choose(logits: np.ndarray, temperature: float, uniform: float) -> tuple[int, float]:
    """A token and its log-probability (nats) at that temperature.

    Args:
        logits: [vocabulary].
        temperature: logits are divided by it; 0 takes the likeliest token, and gives it at temperature 1.
        uniform: a number drawn from [0, 1), which decides.
    """
    scaled = logits / np.float32(temperature) if temperature > 0 else logits
    weights = np.exp(scaled - scaled.max())
    if temperature > 0:
        cumulative = weights.cumsum(dtype=np.float64)
        token = min(int(cumulative.searchsorted(uniform * cumulative[-1], side="right")), len(logits) - 1)
        total = float(cumulative[-1])
    else:
        token, total = int(logits.argmax()), float(weights.sum(dtype=np.float64))
    return token, float(scaled[token] - scaled.max()) - float(np.log(total))
