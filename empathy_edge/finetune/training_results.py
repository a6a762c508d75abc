"""What a training step writes into its manifest."""

from __future__ import annotations

import shutil
from typing import Any, TypeVar

from pydantic import field_serializer, field_validator

from empathy_edge.runs.stage import SCRATCH, Results, Stage, results_of
from empathy_edge.system.processes import is_main, wait_for_everyone

CHECKPOINTS = "checkpoints"
BEST = "best"
"""The adapter of the best epoch so far, while training goes on."""


class Example(Results):
    """A prompt with the model's greedy replies before and after the step; one that was cut off ends in …."""

    prompt: str
    before: str
    after: str


class TrainingResults(Results):
    """What every training step found.

    Attributes:
        weights: the format of the base's weights, of products, and the reason (`Precision.record`).
        steps: optimizer steps.
        train_seconds: of all sessions, if training was interrupted and went on; steps that were computed
            twice count once.
        loss_first: mean training loss of the first tenth of the steps.
        loss_last: mean training loss of the last tenth of the steps.
        held_out_loss: loss on the held-out rows after each epoch; only with held-out rows.
        kept_epoch: the epoch whose adapter was kept, counted from 1; only with held-out rows.
        examples: replies before and after; none in results of earlier versions.
    """

    weights: dict[str, str]
    steps: int
    train_seconds: float
    loss_first: float
    loss_last: float
    held_out_loss: tuple[float, ...] | None = None
    kept_epoch: int | None = None
    examples: tuple[Example, ...] = ()


class SftResults(TrainingResults):
    """What the SFT step found.

    Attributes:
        rows: how many rows the training file has.
    """

    rows: int


class LengthDrift(Results):
    """The length of replies before and after DPO.

    Attributes:
        prompts: how many prompts were answered.
        median_words_before: median words of a reply before training.
        median_words_after: the same after training.
        stopped_before: share of replies that ended with a stop token before training, 0 to 1.
        stopped_after: the same after training.
    """

    prompts: int
    median_words_before: int | float
    median_words_after: int | float
    stopped_before: float
    stopped_after: float


class DpoResults(TrainingResults):
    """What the DPO step found.

    Attributes:
        pairs: how many pairs the training files have together.
        reward_accuracy_last: share of pairs whose chosen response has the higher reward, mean of the last 10
            steps.
        reward_margin_last: reward of the chosen response minus that of the rejected one, mean of the last 10
            steps.
        length_drift: None if there were not two measurements; the manifest has an empty record then.
        warnings: what a user should know about the result.
    """

    pairs: int
    reward_accuracy_last: float
    reward_margin_last: float
    length_drift: LengthDrift | None
    warnings: tuple[str, ...]

    @field_validator("length_drift", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None

    @field_serializer("length_drift")
    def _none_is_empty(self, value: LengthDrift | None) -> dict[str, Any]:
        return {} if value is None else value.model_dump(mode="json")


FILES = ("checkpoints/*", "adapter/*", "best/*", "scratch/*", "curves.jsonl")
"""What a step of training writes."""

R = TypeVar("R", bound=Results)


def finish_stage(stage: Stage, results: R) -> R:
    """As `Stage.finish`, by the main process alone; every process returns the main process's results.

    What training is resumed from is deleted only here: a stop before that costs no step.
    """
    if is_main():
        for made in (SCRATCH, BEST, CHECKPOINTS):
            shutil.rmtree(stage.folder / made, ignore_errors=True)
        stage.finish(results)
    wait_for_everyone()
    return results_of(stage.folder, type(results))
