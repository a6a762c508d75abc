"""How long a run will still take: what its stages took elsewhere, corrected by what they take here."""

from __future__ import annotations

import time

from empathy_edge.runs.recipe import Recipe

SECONDS = {
    "sft row": 0.52,
    "dpo pair": 0.9,
    "dpo probe": 0.9,
    "own sample": 0.3,
    "export": 25.0,
    "artifact": 11.0,
    "bench run": 2.9,
    "response": 0.93,
    "safety reply": 0.62,
    "gate": 1.0,
    "report": 5.0,
}
"""SmolLM2-135M on two AVX2 cores (docs/results/quickstart.md); only their proportions matter."""

SAFETY_PROMPTS = 18
"""As many as prompts/safety.yaml has."""


class RunClock:
    """Seconds left of a run, stage by stage."""

    def __init__(self, expected: dict[str, float]) -> None:
        self._expected = {stage: max(seconds, 1.0) for stage, seconds in expected.items()}
        self._left = dict(self._expected)
        self._worked: list[tuple[float, float]] = []
        self._stage, self._began = "", 0.0

    def begin(self, stage: str) -> None:
        """A stage starts."""
        self._stage, self._began = stage, time.monotonic()

    def end(self, *, skipped: bool = False) -> float:
        """The stage is done; returns its seconds. One that was skipped tells nothing of the machine."""
        spent = time.monotonic() - self._began
        if not skipped:
            self._worked.append((self._expected[self._stage], spent))
        self._left.pop(self._stage, None)
        return spent

    def left(self, stage_left: float | None) -> float:
        """Seconds until the run ends; `stage_left` is what a progress bar of the whole current stage says."""
        spent = time.monotonic() - self._began
        expected = self._expected[self._stage]
        if self._worked:
            factor = sum(taken for _, taken in self._worked) / sum(wanted for wanted, _ in self._worked)
        elif stage_left is not None:
            factor = (spent + stage_left) / expected
        else:
            factor = max(1.0, spent / expected)
        later = factor * (sum(self._left.values()) - expected)
        return max(stage_left or 0.0, factor * expected - spent) + later


def expected_seconds(recipe: Recipe, sft_rows: int, pairs: int, test_prompts: int) -> dict[str, float]:
    """What each stage took on the reference machine, by the amount of work it has."""
    artifacts = len(recipe.export.artifacts)
    prompts = min(test_prompts, recipe.winrate.max_prompts or test_prompts)
    own = recipe.own_pairs.prompts * recipe.own_pairs.samples if "own" in recipe.dpo.pairs else 0
    tokens = recipe.winrate.max_new_tokens / 160
    return {
        "distill": 1.0,
        "sft": SECONDS["sft row"] * sft_rows * recipe.sft.epochs if "sft" in recipe.steps else 0.0,
        "dpo": (
            SECONDS["own sample"] * own
            + SECONDS["dpo pair"] * pairs * recipe.dpo.epochs
            + 3 * SECONDS["dpo probe"] * recipe.dpo.length_probes
            if "dpo" in recipe.steps
            else 0.0
        ),
        "export": SECONDS["export"] + SECONDS["artifact"] * artifacts,
        "bench": SECONDS["bench run"] * artifacts * recipe.bench.repetitions,
        "winrate": (
            SECONDS["response"]
            * (artifacts + 3)
            * prompts
            * tokens  # base, fine-tuned and known-bad beside them
            + SECONDS["safety reply"] * (artifacts + 2) * SAFETY_PROMPTS
        ),
        "gate": SECONDS["gate"],
        "report": SECONDS["report"],
    }
