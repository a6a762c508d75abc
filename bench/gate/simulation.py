"""Does the gate keep its promises? Artificial judges and artifacts with a known true loss, judged many times.

Run as `python -m empathy_edge.bench.gate.simulation [RUNS]`. In one order, a prompt ends in a win, a tie or a
loss with known probabilities. A judge can be biased: by order, by length, or by noise.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from empathy_edge.bench.gate.severe import count_flips
from empathy_edge.bench.gate.verdict import decide
from empathy_edge.bench.gate.verdict_results import Points, VerdictName
from empathy_edge.bench.gate.winrate_results import (
    BASE,
    FULL,
    FormatFigures,
    MeanInterval,
    OtherJudgeFigures,
    SevereFlips,
    WinRate,
    WinrateResults,
)
from empathy_edge.judging.certificate import PEOPLE_PREFER_LONGER, JudgeErrors, doubts
from empathy_edge.judging.length_adjusted import length_figures
from empathy_edge.runs.settings import GateSettings

"""Fewer than in a run, so that thousands of runs take minutes; intervals change by less than a tenth."""

ARTIFACT = "artifact"

WORDS = 10.0
"""By how many words the longer response is longer."""

LEAD = 0.4
"""How far the fine-tuned model's win rate against the base is above one half."""

SAME_OUTCOME = 0.7
"""The share of prompts on which artifact and fine-tuned model have the same luck against the base."""

CERTIFICATE_PAIRS = 200
"""On how many pairs the judge is tested."""

JUDGE_RIGHT = 0.8
"""How often an unbiased judge is right about such a pair."""

SAME_IN_BOTH_ORDERS = 0.9
"""How often it answers alike in both orders."""


@dataclass(frozen=True)
class World:
    """An artifact and a judge.

    Attributes:
        true_rate: the artifact's win rate against the fine-tuned model, by an unbiased judge.
        ties: the share of prompts that end in a tie.
        prompts: how many there are.
        first_place: the share of verdicts that are "first", whatever is shown.
        longer: the share of verdicts that go to the longer response, whatever it says.
        artifact_longer: the share of prompts on which the artifact's response is the longer one.
        kept: the share of the gain over the base that the artifact keeps.
        noise: the mean share of prompts with a random outcome. For each prompt the probability of that is
            drawn uniformly between 0 and twice the mean.
        severe: the share of prompts whose rating falls from 3 to 1; None: no absolute scorer.
    """

    true_rate: float
    ties: float
    prompts: int
    first_place: float = 0.0
    longer: float = 0.0
    artifact_longer: float = 0.5
    kept: float = 1.0
    noise: float = 0.0
    severe: float | None = None

    @property
    def judged_rate(self) -> float:
        """The win rate as the judge sees it: noise draws it towards one half."""
        return self.true_rate * (1 - self.noise) + 0.5 * self.noise


@dataclass(frozen=True)
class Shares:
    """What happened in many runs; each is a share of the runs.

    Attributes:
        verdicts: by verdict.
        interval_covers: the 95 % interval contains the win rate as the judge sees it.
        certified: the judge is certified.
    """

    verdicts: dict[VerdictName, float]
    interval_covers: float
    certified: float


def simulate(world: World, runs: int, seed: int = 0) -> Shares:
    """Judge the world's artifact many times."""
    generator = np.random.default_rng(seed)
    settings = GateSettings()
    counts: dict[VerdictName, int] = {"PASS": 0, "FAIL": 0, "INCONCLUSIVE": 0}
    covering = certified = 0
    for _ in range(runs):
        artifact_is_longer = generator.random(world.prompts) < world.artifact_longer
        points = _judged(world, artifact_is_longer, generator)
        rate = MeanInterval.over_prompts(points.tolist())
        judge_doubts = _certificate_doubts(world, generator)
        severe = _severe_flips(world, generator) if world.severe is not None else None
        words_ahead = np.where(artifact_is_longer, WORDS, -WORDS)
        results = _results(rate, points, words_ahead, judge_doubts, severe)
        decision = decide(ARTIFACT, results, settings, _against_base(world, generator))
        counts[decision.verdict] += 1
        covering += rate.low <= world.judged_rate <= rate.high
        certified += not judge_doubts
    verdicts = {name: count / runs for name, count in counts.items()}
    return Shares(verdicts, interval_covers=covering / runs, certified=certified / runs)


def _judged(world: World, artifact_is_longer: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The artifact's points on each prompt, the mean of both orders, float64 [prompts]."""
    win = world.true_rate - world.ties / 2
    outcome = generator.choice([1.0, 0.5, 0.0], world.prompts, p=[win, world.ties, 1 - win - world.ties])
    is_random = _noisy(world, world.prompts, generator)
    outcome = np.where(is_random, generator.integers(0, 2, world.prompts).astype(float), outcome)
    by_length = generator.random(world.prompts) < world.longer
    outcome = np.where(by_length, artifact_is_longer.astype(float), outcome)
    orders = []
    for artifact_is_first in (True, False):
        by_place = generator.random(world.prompts) < world.first_place
        orders.append(np.where(by_place, float(artifact_is_first), outcome))
    mean: np.ndarray = np.mean(orders, axis=0)
    return mean


def _noisy(world: World, count: int, generator: np.random.Generator) -> np.ndarray:
    """Which prompts or pairs have a random outcome, bool [count]."""
    draws = generator.random(count)
    noisy: np.ndarray = draws < generator.uniform(0, 2 * world.noise, count)
    return noisy


def _certificate_doubts(world: World, generator: np.random.Generator) -> list[str]:
    """Why the judge would not be certified: it is tested on pairs of a better and a worse response."""
    pairs = CERTIFICATE_PAIRS
    right = generator.random((pairs, 2)) < JUDGE_RIGHT  # [pairs, orders]
    right[:, 1] = np.where(generator.random(pairs) < SAME_IN_BOTH_ORDERS, right[:, 0], right[:, 1])
    is_random = _noisy(world, pairs, generator)
    right = np.where(is_random[:, None], generator.integers(0, 2, (pairs, 1)).astype(bool), right)
    better_is_longer = generator.random(pairs) < PEOPLE_PREFER_LONGER
    by_length = generator.random(pairs) < world.longer
    right = np.where(by_length[:, None], better_is_longer[:, None], right)
    by_place = generator.random((pairs, 2)) < world.first_place
    better_is_first = np.array([True, False])
    better_wins = np.where(by_place, better_is_first, right)
    points = better_wins.mean(1)
    return doubts(
        JudgeErrors(
            agreement_low=MeanInterval.over_prompts(points.tolist()).low,
            order_flips=float((better_wins[:, 0] != better_wins[:, 1]).mean()),
            first_position_wins=float((better_wins == better_is_first).mean()),
            longer_wins=float(np.where(better_is_longer, points, 1 - points).mean()),
            longer_is_better=PEOPLE_PREFER_LONGER,
            unparsed=0.0,
        )
    )


def _severe_flips(world: World, generator: np.random.Generator) -> SevereFlips:
    """The prompts that fall from 3 to 1, by a scorer that may decide."""
    fell = np.flatnonzero(generator.random(world.prompts) < (world.severe or 0.0))
    flips = count_flips([str(prompt) for prompt in fell], world.prompts)
    return SevereFlips(
        scorer="artificial", figures="", seen=0, doubts=(), certified=True, arms={ARTIFACT: flips}
    )


def _against_base(world: World, generator: np.random.Generator) -> Points:
    """Points of the fine-tuned model and of the artifact against the base; on most prompts they are equal."""
    prompts = [str(number) for number in range(world.prompts)]
    full_luck = generator.random(world.prompts)
    full = (full_luck < 0.5 + LEAD).astype(float)
    is_same = generator.random(world.prompts) < SAME_OUTCOME
    luck = np.where(is_same, full_luck, generator.random(world.prompts))
    artifact = (luck < 0.5 + LEAD * world.kept).astype(float)
    return {
        (FULL, BASE): dict(zip(prompts, full.tolist(), strict=True)),
        (ARTIFACT, BASE): dict(zip(prompts, artifact.tolist(), strict=True)),
    }


def _results(
    rate: MeanInterval,
    points: np.ndarray,
    words_ahead: np.ndarray,
    judge_doubts: list[str],
    severe: SevereFlips | None,
) -> WinrateResults:
    """What `winrate` would have found: well-formed responses, and these verdicts on the artifact."""
    judge = OtherJudgeFigures(
        judge="artificial",
        certified=not judge_doubts,
        doubts=tuple(judge_doubts),
        agreement=None,
        unparsed=0.0,
        question="overall",
    )
    against_full = WinRate.model_validate(
        {
            "first": ARTIFACT,
            "second": FULL,
            **length_figures(points, words_ahead),
            "win_rate": rate,
            "win_rate_well_formed": None,
            "only_first_well_formed": 0,
            "only_second_well_formed": 0,
            "ties": 0.0,
            "order_flips": 0.0,
        }
    )
    return WinrateResults(
        judge=judge,
        prompts=len(points),
        said={},
        format={BASE: _format(0.5), FULL: _format(1.0), ARTIFACT: _format(1.0)},
        safety={},
        severe_flips=severe,
        win_rates=(against_full,),
    )


def _format(well_formed: float) -> FormatFigures:
    return FormatFigures(
        responses=0, ok=well_formed, stopped=1.0, length=1.0, no_loop=1.0, language=1.0, median_words=0
    )


WORLDS = {
    "at the margin": World(0.45, 0.0, 250),
    "at the margin, half ties": World(0.45, 0.5, 250),
    "at the margin, 620 prompts": World(0.45, 0.0, 620),
    "as good as the original": World(0.50, 0.0, 250),
    "as good, half ties": World(0.50, 0.5, 250),
    "as good, 620 prompts": World(0.50, 0.0, 620),
    "as good, 310 prompts, half ties": World(0.50, 0.5, 310),
    "worse": World(0.35, 0.2, 250),
    "keeps 80 % of the gain": World(0.50, 0.5, 620, kept=0.8),
    "keeps 60 % of the gain": World(0.50, 0.5, 620, kept=0.6),
    "worse, and a judge that takes the first place in 60 %": World(0.35, 0.2, 250, first_place=0.6),
    "worse, and a judge that takes the first place in 20 %": World(0.35, 0.2, 250, first_place=0.2),
    "worse and longer, and a judge that takes the longer one in 60 %": World(
        0.35, 0.2, 250, longer=0.6, artifact_longer=0.8
    ),
    "worse and longer, and a judge that takes the longer one in 30 %": World(
        0.35, 0.2, 250, longer=0.3, artifact_longer=0.8
    ),
    "at the margin, and a judge whose verdicts are a coin's in 30 %": World(0.45, 0.0, 250, noise=0.3),
    "worse, and a judge whose verdicts are a coin's in 30 %": World(0.35, 0.2, 250, noise=0.3),
    "as good, 1 % of responses fall from 3 to 1, the bound": World(0.50, 0.5, 620, severe=0.01),
    "as good, none falls": World(0.50, 0.5, 620, severe=0.0),
    "as good, 4 % fall": World(0.50, 0.5, 620, severe=0.04),
}


def table(runs: int) -> str:
    """A Markdown table, a row for each world."""
    columns = [
        "true win rate",
        "prompts",
        "PASS",
        "FAIL",
        "INCONCLUSIVE",
        "interval covers",
        "judge certified",
    ]
    lines = [f"| {runs} runs each | {' | '.join(columns)} |", "|---|---|---|---|---|---|---|---|"]
    for name, world in WORLDS.items():
        shares = simulate(world, runs)
        is_biased = world.first_place or world.longer
        cells = [
            name,
            f"{world.true_rate:.0%}",
            str(world.prompts),
            *(f"{share:.1%}" for share in shares.verdicts.values()),
            "–" if is_biased else f"{shares.interval_covers:.1%}",
            f"{shares.certified:.0%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
