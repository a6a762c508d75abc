"""Step 3: how likely the artifact finds the reference's replies, and what follows for the win rate.

With the weight w = q(y) / p(y) of a reply y that was drawn from the reference p, the artifact's win rate is
an expectation over the reference's own replies: nothing has to be generated or judged anew.

- For every judge: W ≥ E[min(w, w')] / 2, over two replies y, y' to one prompt. W − ½ is half the integral of
  (q(y) p(y') − q(y') p(y)) g(y, y') with |g| ≤ ½, and the positive part of the difference integrates to
  1 − E[min(w, w')].
- For the judge of the baseline, with h its points of y against the other replies: W = E[w h] and
  1 − W = E[w (1 − h)]. Both are of numbers of at least 0, which evidence by betting needs: replies that the
  artifact gives and the reference does not are missing in the mean, so that they count as lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import exp, isnan

import numpy as np

from empathy_edge.bench.check.baseline.record import PromptRecord, ReferenceReply
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.judging.raters.rater import better
from empathy_edge.runtimes import Runtime

LARGEST_LOG_WEIGHT = 30.0
"""Weights above e³⁰ are taken as that: they decide everything in either case."""


@dataclass(frozen=True)
class PromptEvidence:
    """One prompt's part, from the weights of its replies.

    Attributes:
        weights: of the replies, 1 in expectation.
        any_judge: at most W in expectation, whatever the judge; at least 0.
        wins: at most W in expectation, by the baseline's judge; at least 0.
        losses: at most 1 − W in expectation; at least 0.
    """

    weights: tuple[float, ...]
    any_judge: float
    wins: float
    losses: float


def prompt_evidence(record: PromptRecord, runtime: Runtime, temperature: float) -> PromptEvidence:
    """Score the reference's replies to a prompt under the artifact, by teacher forcing."""
    weights = _weights(record, runtime, temperature)
    points = points_among([reply.rating for reply in record.replies])
    won = [weight * point for weight, point in zip(weights, points, strict=True)]
    smaller = [min(pair) for pair in combinations(weights, 2)]
    return PromptEvidence(
        weights=tuple(weights),
        any_judge=float(np.mean(smaller)) / 2,
        wins=float(np.mean(won)),
        losses=float(np.mean(weights) - np.mean(won)),
    )


def _weights(record: PromptRecord, runtime: Runtime, temperature: float) -> list[float]:
    """q(y) / p(y) of each reply; 0 where the artifact would end it earlier, or not at its end.

    Raises:
        EmpathyEdgeError: the artifact's log-probabilities are not numbers.
    """
    possible = [reply for reply in record.replies if ends_the_same(reply, runtime.stop_ids)]
    scored = runtime.reply_log_probs(record.token_ids, [reply.token_ids for reply in possible], temperature)
    found = {}
    for reply, log_probs in zip(possible, scored, strict=True):
        under_artifact = float(log_probs.sum())
        if isnan(under_artifact) or under_artifact > 1e-3:
            raise EmpathyEdgeError(f"the log-probability of a reply to '{record.id}' is {under_artifact}")
        found[id(reply)] = exp(min(under_artifact - sum(reply.log_probs), LARGEST_LOG_WEIGHT))
    return [found.get(id(reply), 0.0) for reply in record.replies]


def ends_the_same(reply: ReferenceReply, stop_ids: frozenset[int]) -> bool:
    """Whether an artifact with these stop tokens would end a reply where the reference did."""
    inner = reply.token_ids[:-1] if reply.stopped else reply.token_ids
    ends = not reply.stopped or reply.token_ids[-1] in stop_ids
    return ends and not stop_ids.intersection(inner)


def points_among(ratings: Sequence[float]) -> list[float]:
    """Each reply's mean points against the other ones to its prompt."""
    points = []
    for place, rating in enumerate(ratings):
        others = [other for index, other in enumerate(ratings) if index != place]
        points.append(float(np.mean([better(rating, other) for other in others])))
    return points


@dataclass(frozen=True)
class WeightFigures:
    """Whether the weights tell anything.

    Attributes:
        effective_share: the effective sample size as a share of the replies.
        mean: of the weights, 1 in expectation; less where replies that the artifact gives are missing.
        total_variation: of the two distributions of replies, estimated from the weights.
        sequence_kl: KL(reference ‖ artifact) of a whole reply in nats.
    """

    effective_share: float
    mean: float
    total_variation: float
    sequence_kl: float


def weight_figures(evidence: Sequence[PromptEvidence]) -> WeightFigures:
    """Of all weights so far; there must be some."""
    weights = np.array([weight for item in evidence for weight in item.weights])
    return WeightFigures(
        effective_share=float(weights.sum() ** 2 / max(1e-300, (weights**2).sum()) / len(weights)),
        mean=float(weights.mean()),
        total_variation=float(np.maximum(0, 1 - weights).mean()),
        sequence_kl=float(-np.log(np.maximum(weights, 1e-300)).mean()),
    )
