"""The judge that needs no other model: it learns from the run's own preference pairs, and from nothing else.

It is a Bradley–Terry model on words: P(a beats b) = sigmoid(w · (f(a) − f(b))), with f the TF-IDF vector of
the response and how much of the utterance the response repeats. The vectors have length 1, so length alone
does not win. The judge only knows what separated chosen from rejected responses in that data; therefore its
accuracy on held-out pairs is shown with every figure that it makes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.judging.classifiers import fit
from empathy_edge.judging.statistics import score_interval
from empathy_edge.judging.verdicts import POINTS, PREFERENCE_TIE_MARGIN

FOLDS = 5

FEWEST_PAIRS = 2 * FOLDS
"""With fewer training pairs the judge cannot be tested."""

MIN_PAIRS = 40
MIN_CONTROL_PAIRS = 20


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


class LearnedJudge:
    """The judge itself; `prefer` gives the probability that the first response is the better one."""

    name = "pairwise-scorer"

    def __init__(self, pairs: Sequence[TrainingPair], seed: int = 0) -> None:
        require_extra("sklearn", "judge", "The offline judge")
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        self._words = TfidfVectorizer(
            ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"[\w'’]+|[?!]"
        )
        texts = []
        for pair in pairs:
            texts += [pair.chosen, pair.rejected]
        self._words.fit(texts)
        leads = np.array([self._lead(pair.utterance, pair.chosen, pair.rejected) for pair in pairs])
        self._model = LogisticRegression(fit_intercept=False, C=3.0, max_iter=2000, random_state=seed)
        fit(self._model, np.vstack([leads, -leads]), [1] * len(pairs) + [0] * len(pairs))

    def prefer(self, utterance: str, first: str, second: str) -> float:
        """The probability that `first` is the better response to `utterance`."""
        lead = self._lead(utterance, first, second)
        return float(self._model.predict_proba(lead[None])[0, 1])

    def _lead(self, utterance: str, first: str, second: str) -> np.ndarray:
        """f(first) − f(second), float64 [features]."""
        difference: np.ndarray = self._features(utterance, first) - self._features(utterance, second)
        return difference

    def _features(self, utterance: str, response: str) -> np.ndarray:
        asked, answered = _content_words(utterance), _content_words(response)
        overlap = len(asked & answered) / max(1, len(answered))
        return np.concatenate([self._words.transform([response]).toarray()[0], [overlap]])


def _content_words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.lower()) if len(word) > 3}


def verdict_of_probability(probability: float) -> str:
    """`first`, `second` or `tie` from the probability that the first response is better."""
    if abs(probability - 0.5) <= PREFERENCE_TIE_MARGIN:
        return "tie"
    return "first" if probability > 0.5 else "second"


class Accuracy(TypedDict):
    """How often a judge is right: of how many pairs, the share (ties count half), 95 % over dialogues."""

    pairs: int
    accuracy: float | None
    interval: list[float]


class LearnedJudgeTest(TypedDict):
    """The learned judge's test.

    `held_out`: by cross-validation over the training pairs, with `folds` folds. `control`: on the control
    pairs. `longer_wins_by_judge`, `longer_wins_by_data`: of held-out pairs of two lengths, how often the
    longer response wins. `certified`: whether the judge passes; `doubts`: why not.
    """

    judge: str
    held_out: Accuracy
    folds: int
    control: Accuracy
    longer_wins_by_judge: float | None
    longer_wins_by_data: float | None
    certified: bool
    doubts: list[str]


def cross_validate(
    pairs: list[TrainingPair], control: list[TrainingPair], minimum: float, seed: int
) -> LearnedJudgeTest:
    """Test the judge on pairs that it was not trained on, and decide whether its verdicts count.

    There are two tests, both with a 95 % interval over dialogues and with ties counted half. *Held out*:
    cross-validation over the training pairs, grouped by dialogue; the interval's lower end must reach
    `minimum`. *Control*: pairs of the training split in which the style that usually loses was rated better;
    the lower end must be above one half. Otherwise the judge may only recognize the style.
    """
    if len(pairs) < FEWEST_PAIRS:
        raise EmpathyEdgeError(
            f"The judge needs at least {FEWEST_PAIRS} preference pairs; there are {len(pairs)}."
        )
    held_out = _held_out_points(pairs, seed)
    judge = LearnedJudge(pairs, seed)
    accuracy = _accuracy(held_out)
    control_accuracy = _accuracy([(pair, _points(judge, pair)) for pair in control])
    by_judge, by_data = _longer_wins(held_out)
    doubts = _doubts(accuracy, control_accuracy, minimum)
    return {
        "judge": LearnedJudge.name,
        "held_out": accuracy,
        "folds": FOLDS,
        "control": control_accuracy,
        "longer_wins_by_judge": by_judge,
        "longer_wins_by_data": by_data,
        "certified": not doubts,
        "doubts": doubts,
    }


def _held_out_points(pairs: list[TrainingPair], seed: int) -> list[tuple[TrainingPair, float]]:
    """Each pair with its points by a judge that saw no pair of the same dialogue."""
    ids = sorted({pair.id for pair in pairs})
    order = np.random.default_rng(seed).permutation(len(ids))
    fold_of = {ids[index]: place % FOLDS for place, index in enumerate(order)}
    found = []
    for fold in range(FOLDS):
        judge = LearnedJudge([pair for pair in pairs if fold_of[pair.id] != fold], seed)
        held_out = [pair for pair in pairs if fold_of[pair.id] == fold]
        found += [(pair, _points(judge, pair)) for pair in held_out]
    return found


def _points(judge: LearnedJudge, pair: TrainingPair) -> float:
    """1 where the judge prefers the chosen response, 0.5 for a tie, else 0."""
    return POINTS[verdict_of_probability(judge.prefer(pair.utterance, pair.chosen, pair.rejected))]


def _longer_wins(held_out: list[tuple[TrainingPair, float]]) -> tuple[float | None, float | None]:
    """How often the longer response wins, by the judge and by the data, of pairs of two lengths."""
    by_judge, by_data = [], []
    for pair, points in held_out:
        lead = len(pair.chosen.split()) - len(pair.rejected.split())
        if lead:
            by_judge.append(points if lead > 0 else 1 - points)
            by_data.append(float(lead > 0))
    return _mean(by_judge), _mean(by_data)


def _doubts(held_out: Accuracy, control: Accuracy, minimum: float) -> list[str]:
    doubts = []
    if held_out["pairs"] < MIN_PAIRS:
        doubts.append(f"only {held_out['pairs']} held-out pairs (needed: {MIN_PAIRS})")
    low = held_out["interval"][0]
    if low < minimum:
        doubts.append(f"its held-out accuracy may be as low as {low:.1%} (needed: {minimum:.0%})")
    if control["pairs"] < MIN_CONTROL_PAIRS:
        doubts.append(
            f"only {control['pairs']} control pairs (needed: {MIN_CONTROL_PAIRS}), "
            "so it may only know whose style it is"
        )
    elif control["interval"][0] <= 0.5:
        doubts.append(
            f"on {control['pairs']} control pairs, where the usual loser is better, it is right in "
            f"{control['accuracy']:.1%}: it mostly knows whose style it is"
        )
    return doubts


def _accuracy(judged: list[tuple[TrainingPair, float]]) -> Accuracy:
    points = [value for _, value in judged]
    found = score_interval(points, clusters=[pair.id for pair, _ in judged])
    interval = [round(found.low, 4), round(found.high, 4)]
    return {"pairs": len(points), "accuracy": _mean(points), "interval": interval}


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
