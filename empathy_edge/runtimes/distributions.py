"""Next-token distributions as log-probabilities (nats), and how far two of them are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities in nats, always float64: float32 loses what a comparison of two models is about.

    Args:
        logits: of any float type, [..., vocabulary].

    Returns:
        float64 [..., vocabulary]; `exp` of it sums to 1 over the last axis.
    """
    import numpy as np

    # The largest logit is subtracted first, so that `exp` cannot overflow.
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    log_probs: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return log_probs


def log_sum_exp(values: np.ndarray) -> float:
    """The logarithm of the sum of exponentials."""
    import numpy as np

    largest = float(values.max())
    return largest + float(np.log(np.exp(values.astype(float) - largest).sum()))


def kl_divergence(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """The Kullback-Leibler divergence KL(p ‖ q) in nats, computed in the precision of the arguments.

    Args:
        log_p: log-probabilities of the reference, [..., vocabulary].
        log_q: log-probabilities of what is compared with it, the same shape.

    Returns:
        One figure for each distribution, [...]; 0 where the two are the same.
    """
    import numpy as np

    divergence: np.ndarray = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    return divergence
