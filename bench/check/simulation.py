"""Does the check keep its promise? Simulated artifacts whose win rate is known.

`python -m empathy_edge.bench.check.simulation` prints the table of docs/results/gate-simulation.md.

Each prompt has K replies of the reference with a quality u ~ N(0, 1). The artifact draws a reply with the
weight w = exp(s z − s² / 2), z ~ N(0, 1) correlated with u by r. Among its replies u is shifted by s r, so
that its win rate is W = Φ(s r / √2). The judge sees c u + √(1 − c²) e; it agrees with u on a share a of pairs
where c = sin(π (a − ½)). Its certificate is drawn, and the check gets the bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from math import pi, sin, sqrt
from statistics import NormalDist

import numpy as np

from empathy_edge.bench.check.certificate import agreement_bound, agreement_upper_bound
from empathy_edge.bench.check.prompts import FEWEST
from empathy_edge.bench.check.steps.ladder import LOOK_EVERY, OWN_REPLIES
from empathy_edge.bench.check.steps.win_rate import (
    ENOUGH,
    MONEY,
    SMALLEST_EFFECTIVE_SHARE,
    as_judge_sees,
    as_judge_sees_at_most,
)
from empathy_edge.judging.evidence import evidence_path

RUNS = 2000
PROMPTS, SAMPLES = 640, 4
BOUND = 0.45
WIN_RATES = (0.35, 0.45, 0.5)
AGREEMENTS = (0.6, 0.7, 0.8, 0.9)
CERTIFICATES = (100, 200, 400)
DISTANCES = (0.3, 0.6, 1.2)
"""The standard deviation of log w; total variation of 0.12, 0.24 and 0.45."""

WORST = -4.0
"""The quality of a reply that the reference never gives."""

MISSING = 0.2
"""The share of such replies, where there are any."""


@dataclass(frozen=True)
class Cell:
    """What is simulated.

    Attributes:
        win_rate: of the artifact, in truth.
        agreement: of the judge with the truth.
        certificate: the pairs from which its agreement is known.
        distance: the standard deviation of the log weights.
        missing: the share of the artifact's replies that the reference never gives; they always lose.
    """

    win_rate: float
    agreement: float
    certificate: int
    distance: float
    missing: float = 0.0

    @property
    def correlation(self) -> float:
        """Of the log weights with the quality; outside of −1 to 1 where there is no such artifact."""
        of_others = self.win_rate / (1 - self.missing)
        return sqrt(2) * NormalDist().inv_cdf(of_others) / self.distance


@dataclass(frozen=True)
class Rates:
    """Of all runs of a cell, the shares that pass and fail, by the likelihood step alone and by the ladder.

    Attributes:
        likelihood_pass: step 3 alone, with all of the evidence's weight.
        likelihood_fail: the same.
        judge_pass: step 4 alone.
        judge_fail: the same.
        ladder_pass: all steps as `check` takes them.
        ladder_fail: the same.
        prompts: used until the decision, in the mean.
    """

    likelihood_pass: float
    likelihood_fail: float
    judge_pass: float
    judge_fail: float
    ladder_pass: float
    ladder_fail: float
    prompts: float


def simulate(cell: Cell, runs: int, seed: int) -> Rates:
    """Run the check on so many artifacts of a cell."""
    generator = np.random.default_rng(seed)
    found = np.array([_one_run(cell, generator) for _ in range(runs)])
    return Rates(*found.mean(axis=0))


def _one_run(cell: Cell, generator: np.random.Generator) -> tuple[float, ...]:
    """Pass and fail of each step and the ladder (0 or 1), and the prompts used."""
    right = generator.binomial(cell.certificate, cell.agreement)
    seen = as_judge_sees(BOUND, max(0.5, agreement_bound(right, cell.certificate)))
    lost = 1 - as_judge_sees_at_most(BOUND, agreement_upper_bound(right, cell.certificate))
    quality = generator.standard_normal((PROMPTS, SAMPLES))
    r = cell.correlation
    z = r * quality + sqrt(1 - r * r) * generator.standard_normal(quality.shape)
    weights = (1 - cell.missing) * np.exp(cell.distance * z - cell.distance**2 / 2)
    ratings = _rated(quality, cell, generator)
    wins, losses = _won_and_lost(weights, ratings)
    own_quality = generator.normal(cell.distance * r, 1, (PROMPTS, OWN_REPLIES))
    own_quality[generator.random(own_quality.shape) < cell.missing] = WORST
    own = _rated(own_quality, cell, generator)
    points = (own[:, :, None] > ratings[:, None, :]).mean(axis=(1, 2))
    pairs = [np.minimum(weights[:, a], weights[:, b]) for a in range(SAMPLES) for b in range(a)]
    paths = {
        "any-judge": evidence_path(np.mean(pairs, axis=0) / 2, BOUND, LOOK_EVERY),
        "likelihood": evidence_path(wins, seen, LOOK_EVERY),
        "judge": evidence_path(points, seen, LOOK_EVERY),
    }
    against = {
        "any-judge": np.zeros(PROMPTS // LOOK_EVERY),
        "likelihood": evidence_path(losses, lost, LOOK_EVERY),
        "judge": evidence_path(1 - points, lost, LOOK_EVERY),
    }
    effective = weights.sum() ** 2 / (weights**2).sum() / weights.size
    holds = effective >= SMALLEST_EFFECTIVE_SHARE
    looks = np.arange(FEWEST // LOOK_EVERY - 1, PROMPTS // LOOK_EVERY)
    alone = []
    for step in ("likelihood", "judge"):
        counts = holds or step == "judge"
        alone += [float(counts and path[step][looks].max() >= ENOUGH) for path in (paths, against)]
    passed, failed, prompts = _ladder(paths, against, looks, holds)
    return (*alone, passed, failed, prompts)


def _ladder(
    paths: dict[str, np.ndarray], against: dict[str, np.ndarray], looks: np.ndarray, holds: bool
) -> tuple[float, float, float]:
    """The steps in their order: step 3 look by look, then step 4; the first decision counts."""
    last = looks if holds else looks[:1]  # FEWEST_FOR_WEIGHTS prompts
    states = [(place, None) for place in last]
    states += [(last[-1], place) for place in looks]
    for scored, judged in states:
        used = LOOK_EVERY * (max(scored, -1 if judged is None else judged) + 1)
        for verdict, logs in (("PASS", paths), ("FAIL", against)):
            likelihood = np.exp(min(logs["likelihood"][scored], 300)) if holds else 0.0
            judge = 1.0 if judged is None else np.exp(min(logs["judge"][judged], 300))
            any_judge = np.exp(min(logs["any-judge"][scored], 300))
            early = MONEY["any-judge"] * any_judge + MONEY["likelihood"] * likelihood
            if max(early, MONEY["judge"] * judge) >= np.exp(ENOUGH):
                return float(verdict == "PASS"), float(verdict == "FAIL"), used
    return 0.0, 0.0, PROMPTS


def _rated(quality: np.ndarray, cell: Cell, generator: np.random.Generator) -> np.ndarray:
    c = sin(pi * (cell.agreement - 0.5))
    rated: np.ndarray = c * quality + sqrt(1 - c * c) * generator.standard_normal(quality.shape)
    return rated


def _won_and_lost(weights: np.ndarray, ratings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `likelihood.prompt_evidence`, for all prompts at once, [prompts] each."""
    points = (ratings[:, :, None] > ratings[:, None, :]).sum(axis=2) / (SAMPLES - 1)
    return (weights * points).mean(axis=1), (weights * (1 - points)).mean(axis=1)


def cells() -> Iterator[Cell]:
    """All cells for which there is an artifact."""
    for values in product(WIN_RATES, AGREEMENTS, CERTIFICATES, DISTANCES):
        cell = Cell(*values)
        if abs(cell.correlation) < 1:
            yield cell
    for agreement, distance in product(AGREEMENTS, DISTANCES):
        yield Cell(0.5 * (1 - MISSING), agreement, CERTIFICATES[-1], distance, MISSING)


HEAD = """# Simulation of the check

`python -m empathy_edge.bench.check.simulation`: {runs} runs a row, {prompts} prompts with {samples}
replies of the reference, bound {bound:.0%}. W is the true win rate, agreement the judge's with the
truth, pairs those of its certificate, s the standard deviation of the log weights. How replies,
weights and ratings are drawn: `bench/check/simulation.py`. "missing" is the share of the artifact's
replies that the reference never gives, and that lose to all others. Step 3 is likelihood, step 4 the
judge; both are shown as if taken alone, and then all together.

A PASS at W = 35 % or 40 % and a FAIL at W = 50 % are false. At W = 45 %, the bound itself, each should stay
below 5 %.

| W | agreement | pairs | s | missing | step 3 PASS | FAIL | step 4 PASS | FAIL | all PASS | FAIL | prompts |
|---|---|---|---|---|---|---|---|---|---|---|---|"""


def page(runs: int) -> str:
    """The page of results, in Markdown."""
    lines = [HEAD.format(runs=runs, prompts=PROMPTS, samples=SAMPLES, bound=BOUND)]
    simulated = list(cells())
    with ProcessPoolExecutor() as workers:
        found = list(workers.map(simulate, simulated, [runs] * len(simulated), range(len(simulated))))
    for cell, rates in zip(simulated, found, strict=True):
        shares = [
            rates.likelihood_pass,
            rates.likelihood_fail,
            rates.judge_pass,
            rates.judge_fail,
            rates.ladder_pass,
            rates.ladder_fail,
        ]
        shown = " | ".join(f"{share:.1%}" for share in shares)
        row = (
            f"| {cell.win_rate:.0%} | {cell.agreement:.0%} | {cell.certificate} | {cell.distance:g} | "
            f"{cell.missing:.0%} | "
            f"{shown} | {rates.prompts:.0f} |"
        )
        lines.append(row)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(RUNS), end="")
