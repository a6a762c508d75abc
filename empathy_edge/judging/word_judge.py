"""The first offline judge: a pairwise scorer that learns from the run's own training pairs, and from nothing else.

It is a Bradley–Terry model on words: P(a beats b) = sigmoid(w · (f(a) − f(b))), with f the TF-IDF of the response and
how much of the utterance it takes up. The vectors have length 1, so that mere length does not win. It can only tell
what told the chosen from the rejected responses in that data; its accuracy on held-out pairs stands beside every
figure it makes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.judging.statistics import wilson

FOLDS = 5
FEWEST_PAIRS = 40
FEWEST_CONTROL = 20
TIE_MARGIN = 0.05
"""A probability within 0.5 ± this is a tie."""


@dataclass(frozen=True)
class TrainingPair:
    """An utterance with the response that people preferred and the one they did not."""

    id: str
    utterance: str
    chosen: str
    rejected: str


def pairs_from_rows(rows: list[dict[str, Any]]) -> list[TrainingPair]:
    """Training pairs from the rows of `preference.jsonl`."""
    return [
        TrainingPair(
            row["id"],
            row["prompt"][-1]["content"],
            row["chosen"][0]["content"],
            row["rejected"][0]["content"],
        )
        for row in rows
    ]


class PairwiseScorer:
    """The judge itself; `prefer` gives the probability that the first response is the better one."""

    name = "pairwise-scorer"

    def __init__(self, pairs: list[TrainingPair], seed: int = 0) -> None:
        require_extra("sklearn", "judge", "The offline judge")
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        self._words = TfidfVectorizer(
            ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"[\w'’]+|[?!]"
        )
        self._words.fit([text for pair in pairs for text in (pair.chosen, pair.rejected)])
        difference = np.array(
            [
                self._features(pair.utterance, pair.chosen) - self._features(pair.utterance, pair.rejected)
                for pair in pairs
            ]
        )
        self._model = LogisticRegression(fit_intercept=False, C=3.0, max_iter=2000, random_state=seed)
        self._model.fit(np.vstack([difference, -difference]), [1] * len(pairs) + [0] * len(pairs))

    def prefer(self, utterance: str, first: str, second: str) -> float:
        """The probability that `first` is the better response to `utterance`."""
        difference = self._features(utterance, first) - self._features(utterance, second)
        return float(self._model.predict_proba(difference[None])[0, 1])

    def _features(self, utterance: str, response: str) -> np.ndarray:
        said, answered = _content_words(utterance), _content_words(response)
        overlap = len(said & answered) / max(1, len(answered))
        return np.concatenate([self._words.transform([response]).toarray()[0], [overlap]])


def verdict(probability: float) -> str:
    """`first`, `second` or `tie` from the probability that the first one is better."""
    if abs(probability - 0.5) <= TIE_MARGIN:
        return "tie"
    return "first" if probability > 0.5 else "second"


def certify(
    pairs: list[TrainingPair], control: list[TrainingPair], minimum: float, seed: int
) -> dict[str, Any]:
    """Test the judge on pairs it was not fitted on, and decide whether it may judge.

    Two tests, both with a 95 % Wilson interval and ties counted half. *Held out*: cross-validation over the training
    pairs, grouped by dialogue; the lower end must reach `minimum`. *Control*: pairs from the same training split in
    which the style that usually loses was rated better; the lower end must be above one half, or the judge only knows
    whose style it is.

    Returns:
        Both accuracies, how often the longer response wins by the judge and by the data, `certified`, and why not.
    """
    if len(pairs) < 2 * FOLDS:
        raise EmpathyEdgeError(
            f"The judge needs at least {2 * FOLDS} preference pairs; there are {len(pairs)}."
        )
    ids = sorted({pair.id for pair in pairs})
    order = np.random.default_rng(seed).permutation(len(ids))
    fold_of = {ids[index]: place % FOLDS for place, index in enumerate(order)}
    points: list[float] = []
    longer: list[tuple[bool, float]] = []
    for fold in range(FOLDS):
        judge = PairwiseScorer([pair for pair in pairs if fold_of[pair.id] != fold], seed)
        for pair in (pair for pair in pairs if fold_of[pair.id] == fold):
            points.append(_point(judge, pair))
            lengths = len(pair.chosen.split()), len(pair.rejected.split())
            if lengths[0] != lengths[1]:
                chosen_longer = lengths[0] > lengths[1]
                longer.append((chosen_longer, points[-1] if chosen_longer else 1 - points[-1]))
    judge = PairwiseScorer(pairs, seed)
    control_points = [_point(judge, pair) for pair in control]
    held_out, on_control = _accuracy(points), _accuracy(control_points)
    doubts = []
    if len(pairs) < FEWEST_PAIRS:
        doubts.append(f"only {len(pairs)} held-out pairs (needed: {FEWEST_PAIRS})")
    if held_out["interval"][0] < minimum:
        doubts.append(
            f"its held-out accuracy may be as low as {held_out['interval'][0]:.1%} (needed: {minimum:.0%})"
        )
    if len(control) < FEWEST_CONTROL:
        doubts.append(
            f"only {len(control)} control pairs (needed: {FEWEST_CONTROL}), so it may only know whose style it is"
        )
    elif on_control["interval"][0] <= 0.5:
        doubts.append(
            f"on {len(control)} control pairs, where the usual loser is better, it is right in "
            f"{on_control['accuracy']:.1%}: it mostly knows whose style it is"
        )
    return {
        "judge": PairwiseScorer.name,
        "held_out": held_out,
        "folds": FOLDS,
        "control": on_control,
        "longer_wins_by_judge": _share([point for _, point in longer]),
        "longer_wins_by_data": _share([float(by_data) for by_data, _ in longer]),
        "certified": not doubts,
        "doubts": doubts,
    }


def _point(judge: PairwiseScorer, pair: TrainingPair) -> float:
    """1 when the judge prefers the chosen response, 0.5 for a tie, 0 else."""
    return {"first": 1.0, "tie": 0.5, "second": 0.0}[
        verdict(judge.prefer(pair.utterance, pair.chosen, pair.rejected))
    ]


def _accuracy(points: list[float]) -> dict[str, Any]:
    low, high = wilson(sum(points), len(points))
    return {"pairs": len(points), "accuracy": _share(points), "interval": [round(low, 4), round(high, 4)]}


def _share(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _content_words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.lower()) if len(word) > 3}
