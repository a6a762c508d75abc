"""What our lean training steps give: examples per second beside plain TRL's, with the same rows, batch and settings.

Run as `python -m empathy_edge.bench.training_speed ROWS`, ROWS being a folder that `distill` made. Each arm is a process
of its own (the allocator's settings cannot be taken back); the arms take turns, so that the machine's noise hits all.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from empathy_edge.models.find import checkpoint_of
from empathy_edge.runtimes.precision import CLEARLY_SLOWER, measure

ARMS = {
    "fp32 trl": "plain TRL, fp32 weights",
    "fp32 lean": "lean, fp32 weights",
    "bf16 trl": "plain TRL, bf16 weights",
    "bf16 allocator": "+ freed memory is kept",
    "bf16 packed": "+ packed batches, each logit computed once",
    "bf16 lean": "+ LoRA in bf16: lean, what `finetune` does",
}
STEPS, WARM_UP, TURNS = 20, 4, 2


def arms(base: str) -> list[str]:
    """All of ARMS; without the bf16 ones where a step in bf16 would take minutes."""
    probe = measure(checkpoint_of(base).path, 1024)
    if probe.bf16_speed >= 1 / CLEARLY_SLOWER:
        return list(ARMS)
    print(f"bf16 is left out: {probe}\n")
    return [arm for arm in ARMS if arm.startswith("fp32")]


def compare(rows: Path, step: str, base: str) -> dict[str, dict[str, Any]]:
    """Examples per second and the losses of each arm, `step` being sft or dpo."""
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms(base)}
    for turn in range(TURNS):
        for arm in found if turn % 2 == 0 else reversed(found):
            command = [sys.executable, "-m", "empathy_edge.bench.training_speed", str(rows), step, arm, base]
            done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
            found[arm].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        arm: {
            "examples_per_s": statistics.mean(run["examples_per_s"] for run in runs),
            "peak_rss_mb": max(run["peak_rss_mb"] for run in runs),
            "losses": runs[0]["losses"],
        }
        for arm, runs in found.items()
    }


def train(rows: Path, step: str, arm: str, base: str) -> dict[str, Any]:
    """Train STEPS steps in this process; the rate leaves the first WARM_UP steps out."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    from empathy_edge.console import quiet_libraries
    from empathy_edge.finetune.training import lora_config, make_lean, trainer_arguments
    from empathy_edge.formats.training_rows import load_rows
    from empathy_edge.runs.recipe import DpoSettings, TrainSettings
    from empathy_edge.runtimes.packed import pack_batches
    from empathy_edge.runtimes.torch_loading import load_base
    from empathy_edge.system.memory import keep_freed_memory, memory_mb

    quiet_libraries()
    weights, change = arm.split()
    settings = (TrainSettings if step == "sft" else DpoSettings)(weights=weights)  # type: ignore[arg-type]
    ends = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as scratch:
        model, tokenizer, precision = load_base(
            checkpoint_of(base).path, settings.weights, [], Path(scratch) / "model"
        )
        arguments = trainer_arguments(Path(scratch), settings, precision) | {
            "max_steps": STEPS,
            "save_strategy": "no",
        }
        common = {
            "model": model,
            "processing_class": tokenizer,
            "peft_config": lora_config(settings),
            "callbacks": [Clock()],
        }
        if step == "sft":
            data = Dataset.from_list(load_rows(rows / "sft.jsonl", ("prompt", "completion")))
            trainer = SFTTrainer(args=SFTConfig(**arguments), train_dataset=data, **common)
        else:
            data = Dataset.from_list(load_rows(rows / "preference.jsonl", ("prompt", "chosen", "rejected")))
            trainer = DPOTrainer(args=DPOConfig(**arguments), train_dataset=data, **common)
        if change in ("allocator", "packed"):
            keep_freed_memory()
        if change == "packed":
            pack_batches(trainer.model.get_base_model())
        if change == "lean":
            make_lean(trainer.model)
        trainer.train()
    rate = (STEPS - WARM_UP) * settings.batch_size / (ends[-1] - ends[WARM_UP - 1])
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {"examples_per_s": rate, "losses": losses, "peak_rss_mb": memory_mb()["peak_rss"]}


def table(step: str, found: dict[str, dict[str, Any]]) -> str:
    """A Markdown table; ratio and loss stand against plain TRL with the same weights."""
    lines = [
        f"| {step}, {STEPS} steps, {TURNS} turns | examples/s | against TRL, same weights | loss: largest, mean difference | peak RSS, MB |",
        "|---|---|---|---|---|",
    ]
    for arm, item in found.items():
        plain = found[f"{arm.split()[0]} trl"]
        differences = [abs(a - b) / b for a, b in zip(item["losses"], plain["losses"], strict=True)]
        lines.append(
            f"| {ARMS[arm]} | {item['examples_per_s']:.2f} | {item['examples_per_s'] / plain['examples_per_s']:.2f} × "
            f"| {max(differences):.2%}, {statistics.mean(differences):.2%} | {item['peak_rss_mb']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) == 5:
        print(json.dumps(train(Path(sys.argv[1]), *sys.argv[2:])))
    else:
        for name in ("sft", "dpo"):
            print(
                table(name, compare(Path(sys.argv[1]), name, (sys.argv[2:] or ["smollm2-135m"])[0])),
                flush=True,
            )
            print()
