"""Artifacts by their KL divergence and the share of comparisons that they win, and a curve through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np

from empathy_edge.bench.check.baseline.record import Baseline
from empathy_edge.bench.kl_and_empathy.replies import Answer, read_answers
from empathy_edge.bench.own_names import require_own_names
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.judging.raters.rater import ToRate
from empathy_edge.judging.raters.sheet_rater import SheetRater
from empathy_edge.judging.statistics import Interval, bootstrap_indices, interval_of, score_interval

RESAMPLES = 4000
SEED = 0

FEWEST = 3
"""Artifacts of a curve, so that where one is left out, the others still have a spread."""


@dataclass(frozen=True)
class Point:
    """An artifact.

    Attributes:
        model: whose artifact it is.
        name: of the artifact.
        mean_kl: nats a token.
        top_1: the share of tokens with the same likeliest one.
        tokens: how many tokens these are means of.
        points: for each prompt 1 where its reply was rated above both of the reference's, 0 where below.
    """

    model: str
    name: str
    mean_kl: float
    top_1: float
    tokens: int
    points: np.ndarray

    @property
    def win_rate(self) -> Interval:
        """W with its 95 % interval over prompts."""
        return score_interval(self.points)


@dataclass(frozen=True)
class Model:
    """A model's artifacts, and the readers' controls on its prompts.

    Attributes:
        name: of its folder.
        points: its artifacts.
        misplaced: how often a reply to another prompt was rated above the reference's: a reader who reads
            has next to 0 %.
    """

    name: str
    points: list[Point]
    misplaced: Interval


def models_of(folders: Sequence[Path], sheet: Path) -> list[Model]:
    """What readers say of the artifacts in these folders.

    Raises:
        EmpathyEdgeError: two folders have the same last name, or there are too few artifacts for a curve.
        RatingsMissing: the sheet was written, or extended, and somebody must fill it in.
    """
    require_own_names(folders, "its model is called")
    read = {folder.name: read_answers(folder) for folder in folders}
    _require_enough(sum(len(answers) for _, answers in read.values()))
    rater = SheetRater(sheet, certificate=())
    items = {name: _to_rate(*found) for name, found in read.items()}
    rater.prepare([item for found in items.values() for item in found])
    models = []
    for name, (_, answers) in read.items():
        ratings = np.array(rater.rate_many(items[name]))
        first, second, misplaced, *of_artifacts = ratings.T
        reference = np.stack([first, second], axis=1)
        points = [
            _point(name, label, rows, _points(of_artifact, reference))
            for (label, rows), of_artifact in zip(answers.items(), of_artifacts, strict=True)
        ]
        models.append(Model(name, points, score_interval(_points(misplaced, reference))))
    return models


def _require_enough(artifacts: int) -> None:
    if artifacts < FEWEST:
        raise EmpathyEdgeError(
            f"A curve needs at least {FEWEST} artifacts; there are {artifacts}. Run `draw` with more of them."
        )


def _to_rate(baseline: Baseline, answers: dict[str, list[Answer]]) -> list[ToRate]:
    """For each prompt two replies of the reference, one to another prompt, and one of each artifact."""
    return [
        ToRate(
            record.messages,
            [
                record.replies[0].text,
                record.replies[1].text,
                record.misplaced_text,
                *(rows[place].text for rows in answers.values()),
            ],
        )
        for place, record in enumerate(baseline.prompts)
    ]


def _points(ratings: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Each prompt's points against the reference's replies, float64 [prompts].

    Args:
        ratings: [prompts].
        reference: [prompts, replies].
    """
    return ((ratings[:, None] > reference) + (ratings[:, None] == reference) / 2).mean(axis=1)


def _point(model: str, name: str, answers: list[Answer], points: np.ndarray) -> Point:
    tokens = sum(answer.tokens for answer in answers)
    return Point(
        model=model,
        name=name,
        mean_kl=sum(answer.kl for answer in answers) / tokens,
        top_1=sum(answer.same_top for answer in answers) / tokens,
        tokens=tokens,
        points=points,
    )


@dataclass(frozen=True)
class Curve:
    """W = 50 % − slope × √KL, by least squares over artifacts.

    At 0 nothing is lost; by Pinsker's inequality no judge can see more than a multiple of √KL.

    Attributes:
        slope: of the curve, a share for each √nat.
        slope_interval: 95 %, over prompts: those of a model are drawn again, for all its artifacts together.
        deviation: of an artifact from the curve, standard deviation, its own sampling error included.
        sampling: the part of it that is sampling error, standard deviation.
        left_out: the root mean square error where each artifact is predicted from the others.
        without: the same where 50 % less the mean loss of the others is predicted: KL must be better.
        artifacts: how many.
        sum_of_kl: over them.
    """

    slope: float
    slope_interval: Interval
    deviation: float
    sampling: float
    left_out: float
    without: float
    artifacts: int
    sum_of_kl: float

    def at(self, mean_kl: float) -> Interval:
        """W of another artifact with this mean KL, with a 95 % prediction interval.

        It is for the W that as many prompts would show, whose sampling error is in it.
        """
        width = _student(self.artifacts - 1) * self.deviation * sqrt(1 + mean_kl / self.sum_of_kl)
        middle = 0.5 - self.slope * sqrt(mean_kl)
        return Interval(middle, middle - width, middle + width, middle - width)

    def meets(self, win_rate: float) -> Interval:
        """The mean KL at which the curve falls to a win rate below 50 %, with the 95 % interval of the slope.

        Where the slope may be 0, the upper end is infinite.
        """
        slope = self.slope_interval
        kl, high, low = (
            ((0.5 - win_rate) / value) ** 2 if value > 0 else float("inf")
            for value in (slope.mean, slope.low, slope.high)
        )
        return Interval(kl, low, high, low)


def fit(points: Sequence[Point]) -> Curve:
    """The curve through these artifacts.

    Raises:
        EmpathyEdgeError: they are fewer than three.
    """
    _require_enough(len(points))
    kl = np.array([point.mean_kl for point in points])
    lost = np.array([0.5 - point.points.mean() for point in points])
    slope = _slope(kl, lost)
    errors = lost - slope * np.sqrt(kl)
    others = [np.arange(len(kl)) != place for place in range(len(kl))]
    left_out = [
        lost[place] - _slope(kl[kept], lost[kept]) * sqrt(kl[place]) for place, kept in enumerate(others)
    ]
    without = [lost[place] - lost[kept].mean() for place, kept in enumerate(others)]
    return Curve(
        slope=slope,
        slope_interval=interval_of(slope, _resampled_slopes(points, kl)),
        deviation=float(np.sqrt((errors**2).sum() / (len(kl) - 1))),
        sampling=float(np.sqrt(np.mean([point.points.var(ddof=1) / len(point.points) for point in points]))),
        left_out=float(np.sqrt(np.mean(np.square(left_out)))),
        without=float(np.sqrt(np.mean(np.square(without)))),
        artifacts=len(kl),
        sum_of_kl=float(kl.sum()),
    )


def _slope(kl: np.ndarray, lost: np.ndarray) -> float:
    return float((np.sqrt(kl) * lost).sum() / kl.sum())


def _resampled_slopes(points: Sequence[Point], kl: np.ndarray) -> np.ndarray:
    """The slope on prompts drawn again, float64 [RESAMPLES]."""
    lost = np.empty((RESAMPLES, len(points)))
    for number, model in enumerate(sorted({point.model for point in points})):
        places = [place for place, point in enumerate(points) if point.model == model]
        won = np.stack([points[place].points for place in places])
        drawn = bootstrap_indices(won.shape[1], RESAMPLES, SEED + number)
        lost[:, places] = 0.5 - won[:, drawn].mean(axis=2).T
    slopes: np.ndarray = (np.sqrt(kl) * lost).sum(axis=1) / kl.sum()
    return slopes


def _student(degrees: int) -> float:
    """The 97.5 % quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, degrees))
