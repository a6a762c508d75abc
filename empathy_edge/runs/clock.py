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
    "drawn reply": 0.25,
    "scored reply": 0.2,
    "answer": 0.35,
    "report": 5.0,
}
"""SmolLM2-135M on two AVX2 cores (docs/results/quickstart.md); only their proportions matter."""

SAFETY_PROMPTS = 18
"""As many as prompts/safety.yaml has."""

CHECK_PROMPTS = 640
"""As many as ship for the check."""

SCORED_PROMPTS = 64
"""How many of them an artifact takes without a certified judge."""


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
        """The stage is done; returns its seconds. One that was skipped says nothing about the machine."""
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
    prompts = min(test_prompts, recipe.release.max_prompts or test_prompts)
    checked = min(CHECK_PROMPTS, recipe.check.max_prompts or CHECK_PROMPTS)
    own = recipe.own_pairs.prompts * recipe.own_pairs.samples if "own" in recipe.dpo.pairs else 0
    tokens = recipe.release.max_new_tokens / 160
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
        "release": 2 * (SECONDS["response"] * prompts * tokens + SECONDS["safety reply"] * SAFETY_PROMPTS),
        "check": (
            SECONDS["drawn reply"] * checked * (recipe.check.samples + 1)
            + artifacts * SECONDS["scored reply"] * min(checked, SCORED_PROMPTS) * recipe.check.samples
            + artifacts * SECONDS["answer"] * min(checked, recipe.check.health_prompts)
        ),
        "report": SECONDS["report"],
    }
