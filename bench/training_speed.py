"""What our lean training steps give: examples per second beside plain TRL's, same rows, batch and settings.

Run as `python -m empathy_edge.bench.training_speed ROWS [BASE]`, ROWS being a folder that `distill` made.
Each arm is a process of its own, because the allocator's settings cannot be taken back. The arms take
turns, so that the machine's noise hits all.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from empathy_edge.models.find import checkpoint_of
from empathy_edge.runs.settings import DpoSettings, TrainSettings
from empathy_edge.runtimes.precision import CLEARLY_SLOWER, measure

if TYPE_CHECKING:
    from empathy_edge.runs.settings import Weights
    from empathy_edge.runtimes.torch_loading import LoadedBase

ARMS = {
    "fp32 trl": "plain TRL, fp32 weights",
    "fp32 lean": "lean, fp32 weights",
    "bf16 trl": "plain TRL, bf16 weights",
    "bf16 allocator": "+ freed memory is kept",
    "bf16 packed": "+ packed batches, each logit computed once",
    "bf16 lean": "+ LoRA in bf16: lean, what `finetune` does",
}
"""Weights and change → words for the table."""
STEPS, WARM_UP, TURNS = 20, 4, 2


@dataclass(frozen=True)
class ArmSpeed:
    """What one arm's training gave.

    Attributes:
        examples_per_s: without the first WARM_UP steps.
        losses: of each step.
        peak_rss_mb: the highest resident memory, MB (10^6 bytes).
    """

    examples_per_s: float
    losses: list[float]
    peak_rss_mb: float


def arms(base: str) -> list[str]:
    """All of ARMS; without the bf16 ones where a step in bf16 would take minutes."""
    probe = measure(checkpoint_of(base).path, 1024)
    if probe.bf16_speed >= 1 / CLEARLY_SLOWER:
        return list(ARMS)
    print(f"bf16 is left out: {probe}\n")
    return [arm for arm in ARMS if arm.startswith("fp32")]


def compare(rows: Path, step: str, base: str) -> dict[str, ArmSpeed]:
    """The speed of each arm, mean of its turns; `step` is sft or dpo."""
    runs: dict[str, list[ArmSpeed]] = {arm: [] for arm in arms(base)}
    for turn in range(TURNS):
        for arm in runs if turn % 2 == 0 else reversed(runs):
            command = [sys.executable, "-m", "empathy_edge.bench.training_speed", str(rows), step, arm, base]
            done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
            runs[arm].append(ArmSpeed(**json.loads(done.stdout.splitlines()[-1])))
    return {arm: _mean_of_turns(of_arm) for arm, of_arm in runs.items()}


def _mean_of_turns(runs: list[ArmSpeed]) -> ArmSpeed:
    return ArmSpeed(
        examples_per_s=statistics.mean(run.examples_per_s for run in runs),
        losses=runs[0].losses,
        peak_rss_mb=max(run.peak_rss_mb for run in runs),
    )


def train(rows: Path, step: str, arm: str, base: str) -> ArmSpeed:
    """Train STEPS steps in this process; the rate leaves the first WARM_UP steps out."""
    from empathy_edge.console import quiet_libraries
    from empathy_edge.runtimes.torch_loading import load_base
    from empathy_edge.system.memory import memory_mb

    quiet_libraries()
    weights, change = arm.split()
    settings = _settings(step, "bf16" if weights == "bf16" else "fp32")
    step_ends: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        loaded = load_base(checkpoint_of(base).path, settings.weights, [], Path(scratch) / "model")
        trainer = _trainer(rows, step, settings, loaded, Path(scratch), step_ends)
        _apply_change(change, trainer.model)
        trainer.train()
    examples = (STEPS - WARM_UP) * settings.batch_size
    return ArmSpeed(
        examples_per_s=examples / (step_ends[-1] - step_ends[WARM_UP - 1]),
        losses=[row["loss"] for row in trainer.state.log_history if "loss" in row],
        peak_rss_mb=memory_mb()["peak_rss"],
    )


def _settings(step: str, weights: Weights) -> TrainSettings:
    return TrainSettings(weights=weights) if step == "sft" else DpoSettings(weights=weights)


def _trainer(
    rows: Path, step: str, settings: TrainSettings, loaded: LoadedBase, scratch: Path, step_ends: list[float]
) -> Any:
    """TRL's trainer as it comes, for STEPS steps; adds the time at which each step ends to `step_ends`."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    from empathy_edge.finetune.training import lora_config, trainer_arguments
    from empathy_edge.formats.training_rows import load_rows

    class Clock(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            step_ends.append(time.perf_counter())

    model, tokenizer, precision = loaded
    arguments = trainer_arguments(scratch, settings, precision)
    arguments |= {"max_steps": STEPS, "save_strategy": "no"}
    common = {
        "model": model,
        "processing_class": tokenizer,
        "peft_config": lora_config(settings),
        "callbacks": [Clock()],
    }
    if step == "sft":
        data = Dataset.from_list(load_rows(rows / "sft.jsonl", ("prompt", "completion")))
        return SFTTrainer(args=SFTConfig(**arguments), train_dataset=data, **common)
    data = Dataset.from_list(load_rows(rows / "preference.jsonl", ("prompt", "chosen", "rejected")))
    return DPOTrainer(args=DPOConfig(**arguments), train_dataset=data, **common)


def _apply_change(change: str, model: Any) -> None:
    """What an arm has beyond plain TRL; each includes those before it."""
    from empathy_edge.finetune.training import make_lean
    from empathy_edge.runtimes.packed import pack_batches
    from empathy_edge.system.memory import keep_freed_memory

    if change in ("allocator", "packed"):
        keep_freed_memory()
    if change == "packed":
        pack_batches(model.get_base_model())
    if change == "lean":
        make_lean(model)


def table(step: str, found: dict[str, ArmSpeed]) -> str:
    """A Markdown table; ratio and loss stand against plain TRL with the same weights."""
    columns = [
        f"{step}, {STEPS} steps, {TURNS} turns",
        "examples/s",
        "against TRL, same weights",
        "loss: largest, mean difference",
        "peak RSS, MB",
    ]
    lines = [f"| {' | '.join(columns)} |", "|---|---|---|---|---|"]
    for arm, item in found.items():
        plain = found[f"{arm.split()[0]} trl"]
        changes = [abs(loss - other) / other for loss, other in zip(item.losses, plain.losses, strict=True)]
        lines.append(
            f"| {ARMS[arm]} | {item.examples_per_s:.2f} | {item.examples_per_s / plain.examples_per_s:.2f} × "
            f"| {max(changes):.2%}, {statistics.mean(changes):.2%} | {item.peak_rss_mb:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) == 5:
        print(json.dumps(asdict(train(Path(sys.argv[1]), *sys.argv[2:]))))
    else:
        chosen_base = sys.argv[2] if len(sys.argv) > 2 else "smollm2-135m"
        for name in ("sft", "dpo"):
            print(table(name, compare(Path(sys.argv[1]), name, chosen_base)), flush=True)
            print()
