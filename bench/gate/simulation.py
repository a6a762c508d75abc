"""Does the gate keep its promises? Artificial judges and artifacts whose true loss is known, judged many times.

Run as `python -m empathy_edge.bench.gate.simulation [RUNS]`. A prompt's outcome in one order is a win, a tie or a loss with known
probabilities; a judge with a taste for the first place says "first" in a share of its verdicts whatever it sees.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from empathy_edge.bench.gate.severe import count_flips
from empathy_edge.bench.gate.verdict import Points, decide
from empathy_edge.bench.gate.winrate import BASE, FULL
from empathy_edge.judging.certify import doubts
from empathy_edge.judging.compare import PEOPLE_PREFER_LONGER, length_figures
from empathy_edge.judging.statistics import bootstrap_mean
from empathy_edge.runs.recipe import GateSettings

RESAMPLES = 400
"""Fewer than in a run, so that thousands of runs take minutes; the percentiles' noise is below a tenth of the intervals."""

WORDS = 10.0
"""By how many words the longer response is ahead."""

LEAD = 0.4
"""How far the fine-tuned model's win rate against the base lies above one half."""


@dataclass(frozen=True)
class World:
    """An artifact and a judge.

    Attributes:
        true_rate: the artifact's win rate against the fine-tuned model, by an unbiased judge.
        ties: the share of prompts that end in a tie.
        prompts: how many there are.
        first_place: the share of verdicts that are "first" whatever is shown.
        longer: the share of verdicts that go to the longer response whatever it says.
        artifact_longer: the share of prompts on which the artifact's response is the longer one.
        kept: the share of the gain over the base that the artifact keeps.
        noise: the share of prompts' outcomes that are a coin's; which, differs from prompt to prompt (uniform from none to twice that).
        severe: the share of prompts that fall from 3 to 1; None: no absolute scorer.
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


def simulate(world: World, runs: int, seed: int = 0) -> dict[str, float]:
    """Shares over `runs` runs: the verdicts, how often the 95 % interval covers the truth, how often the judge is certified."""
    chance = np.random.default_rng(seed)
    settings = GateSettings()
    counts = {"PASS": 0, "FAIL": 0, "INCONCLUSIVE": 0}
    covered = certified = 0
    for run in range(runs):
        longer = chance.random(world.prompts) < world.artifact_longer
        points = _judged(world, longer, chance)
        rate = bootstrap_mean(points.tolist(), RESAMPLES, run)
        covered += rate["low"] <= world.judged_rate <= rate["high"]
        judge = _certificate(world, chance)
        certified += not judge
        result = {
            "format": {BASE: {"ok": 0.5}, FULL: {"ok": 1.0}, "artifact": {"ok": 1.0}},
            "judge": {"certified": not judge, "doubts": judge},
            "win_rates": [
                {
                    "first": "artifact",
                    "second": FULL,
                    "win_rate": rate,
                    "only_first_well_formed": 0,
                    "only_second_well_formed": 0,
                    **length_figures(points, np.where(longer, WORDS, -WORDS)),
                }
            ],
        }
        if world.severe is not None:
            result["severe_flips"] = _severe(world, chance)
        counts[decide("artifact", result, settings, _against_base(world, chance))["verdict"]] += 1
    return {name: count / runs for name, count in counts.items()} | {
        "covered": covered / runs,
        "certified": certified / runs,
    }


def _judged(world: World, longer: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """The artifact's points on each prompt, both orders: half a point for each order that it wins."""
    win = world.true_rate - world.ties / 2
    outcome = chance.choice([1.0, 0.5, 0.0], world.prompts, p=[win, world.ties, 1 - win - world.ties])
    tossed = chance.random(world.prompts) < chance.uniform(0, 2 * world.noise, world.prompts)
    outcome = np.where(tossed, chance.integers(0, 2, world.prompts).astype(float), outcome)
    outcome = np.where(chance.random(world.prompts) < world.longer, longer.astype(float), outcome)
    orders = []
    for shown_first in (True, False):
        taken = chance.random(world.prompts) < world.first_place
        orders.append(np.where(taken, float(shown_first), outcome))
    return np.mean(orders, axis=0)


def _severe(world: World, chance: np.random.Generator) -> dict[str, Any]:
    fell = [str(place) for place in np.flatnonzero(chance.random(world.prompts) < (world.severe or 0.0))]
    return {"certified": True, "arms": {"artifact": count_flips(fell, world.prompts)}}


def _against_base(world: World, chance: np.random.Generator) -> Points:
    """Points of the fine-tuned model and of the artifact against the base; one prompt's outcomes are alike for both."""
    ids = [str(number) for number in range(world.prompts)]
    luck = chance.random(world.prompts)
    full = (luck < 0.5 + LEAD).astype(float)
    mine = np.where(chance.random(world.prompts) < 0.7, luck, chance.random(world.prompts))
    ours = (mine < 0.5 + LEAD * world.kept).astype(float)
    return {
        (FULL, BASE): dict(zip(ids, full, strict=True)),
        ("artifact", BASE): dict(zip(ids, ours, strict=True)),
    }


def _certificate(world: World, chance: np.random.Generator, pairs: int = 200) -> list[str]:
    """Why a judge that is right in 80 % of pairs, but for its taste for the first place or for length, would not be certified."""
    right = chance.random((pairs, 2)) < 0.8
    right[:, 1] = np.where(chance.random(pairs) < 0.9, right[:, 0], right[:, 1])
    tossed = chance.random(pairs) < chance.uniform(0, 2 * world.noise, pairs)
    right = np.where(tossed[:, None], chance.integers(0, 2, (pairs, 1)).astype(bool), right)
    better_is_longer = chance.random(pairs) < PEOPLE_PREFER_LONGER
    right = np.where((chance.random(pairs) < world.longer)[:, None], better_is_longer[:, None], right)
    taken = chance.random((pairs, 2)) < world.first_place
    better_first = np.array([True, False])
    says_better = np.where(taken, better_first, right)
    points = says_better.mean(1)
    figures: dict[str, Any] = {
        "win_rate": bootstrap_mean(points.tolist(), RESAMPLES, 0),
        "order_flips": float((says_better[:, 0] != says_better[:, 1]).mean()),
        "first_position_wins": {"share": float((says_better == better_first).mean())},
        "longer_wins": {"share": float(np.where(better_is_longer, points, 1 - points).mean())},
        "unparsed": 0.0,
    }
    return doubts(figures)


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
    lines = [
        f"| {runs} runs each | true win rate | prompts | PASS | FAIL | INCONCLUSIVE | interval covers | judge certified |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, world in WORLDS.items():
        found = simulate(world, runs)
        shares = [f"{found[key]:.1%}" for key in ("PASS", "FAIL", "INCONCLUSIVE")]
        cover = f"{found['covered']:.1%}" if not (world.first_place or world.longer) else "–"
        lines.append(
            f"| {name} | {world.true_rate:.0%} | {world.prompts} | {' | '.join(shares)} | {cover} | {found['certified']:.0%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
