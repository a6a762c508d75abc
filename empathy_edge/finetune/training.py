"""What SFT and DPO share: the model and its LoRA, progress and curves, checkpoints, the allocator."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import PrinterCallback, TrainerCallback

from empathy_edge.console import progress, say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.finetune.fused_lora import fuse_lora
from empathy_edge.formats.dialogue import read_unfinished_jsonl
from empathy_edge.runs.recipe import TrainSettings
from empathy_edge.runs.stage import Stage
from empathy_edge.runtimes.packed import can_pack, pack_batches
from empathy_edge.runtimes.precision import Precision
from empathy_edge.system.files import MANIFEST, read_json
from empathy_edge.system.memory import keep_freed_memory
from empathy_edge.system.processes import is_main, main_first, process_count, wait_for_everyone

CHECKPOINTS = "checkpoints"
CURVES = "curves.jsonl"


def lora_config(settings: TrainSettings) -> LoraConfig:
    """LoRA on every linear layer of the blocks, or on those that the recipe names."""
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=0.0,
        target_modules=settings.lora_targets
        if isinstance(settings.lora_targets, str)
        else list(settings.lora_targets),
        task_type="CAUSAL_LM",
    )


def trainer_arguments(folder: Path, settings: TrainSettings, precision: Precision) -> dict[str, Any]:
    """The arguments that TRL's SFTConfig and DPOConfig have in common."""
    return {
        "output_dir": str(folder / CHECKPOINTS),
        "per_device_train_batch_size": _rows_at_once(settings),
        "gradient_accumulation_steps": settings.batch_size // (_rows_at_once(settings) * process_count()),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 5,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": settings.save_every_steps,
        "save_total_limit": 1,
        "bf16": False,  # the weights already are; no autocast on top
        "fp16": precision.weights == "fp16",  # its gradients must be scaled
        "gradient_checkpointing": False,
        "max_length": settings.max_length,
        "seed": settings.seed,
        "eval_strategy": "epoch" if settings.held_out else "no",
        "per_device_eval_batch_size": _rows_at_once(settings),
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "use_cpu": not torch.cuda.is_available(),
    }


def _rows_at_once(settings: TrainSettings) -> int:
    """The rows of a batch that one process has in memory at a time; the same batch whatever the number of processes."""
    processes = process_count()
    share, rest = divmod(settings.batch_size, processes)
    rows = min(settings.micro_batch, share)
    if rest or share % rows:
        raise EmpathyEdgeError(
            f"A batch of {settings.batch_size} cannot be shared by {processes} processes in parts of {rows} rows; "
            "change batch_size or micro_batch_size in the recipe."
        )
    return rows


def split_held_out(
    rows: list[dict[str, Any]], settings: TrainSettings
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows to train on, and those to measure on, drawn with the step's seed."""
    count = round(settings.held_out * len(rows))
    chosen = set(random.Random(settings.seed).sample(range(len(rows)), count))
    return (
        [row for place, row in enumerate(rows) if place not in chosen],
        [row for place, row in enumerate(rows) if place in chosen],
    )


def train(
    trainer: Any,
    stage: Stage,
    label: str,
    settings: TrainSettings,
    probe: Callable[[Curves], TrainerCallback] | None = None,
) -> dict[str, Any]:
    """Train, or go on from the last checkpoint; leaves `adapter/` and the curves, drops the checkpoints.

    Returns:
        Figures of the step: steps, seconds, first and last loss, and the held-out loss where there is one.
    """
    make_lean(trainer.model)
    with main_first():
        last = last_checkpoint(stage.folder / CHECKPOINTS)
    if last:
        say(f"[dim]{label}: going on from step {last.name.removeprefix('checkpoint-')}[/]")
    curves = Curves(stage.folder / CURVES, label)
    trainer.add_callback(curves)
    trainer.remove_callback(PrinterCallback)
    best = _BestEpoch(stage.folder / "best", curves, settings.patience) if settings.held_out else None
    for callback in (best, probe(curves) if probe else None):
        if callback:
            trainer.add_callback(callback)
    with contextlib.redirect_stdout(sys.stderr):
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    losses = curves.losses()
    if any(loss != loss for loss in losses):
        raise EmpathyEdgeError(f"{label}: the loss became NaN; lower learning_rate in the recipe.")
    wait_for_everyone()
    if is_main():
        _keep_adapter(trainer.model, stage.folder)
    few = max(1, len(losses) // 10)
    return {
        "steps": trainer.state.global_step,
        "train_seconds": round(curves.seconds, 1),
        "loss_first": round(sum(losses[:few]) / few, 4),
        "loss_last": round(sum(losses[-few:]) / few, 4),
        **({"held_out_loss": curves.held_out(), "kept_epoch": curves.best_epoch()} if best else {}),
    }


def _keep_adapter(model: Any, folder: Path) -> None:
    """Leave `adapter/`: the best epoch's, or the last state; the checkpoints go."""
    if (folder / "best").is_dir():
        shutil.rmtree(folder / "adapter", ignore_errors=True)
        os.rename(folder / "best", folder / "adapter")
    else:
        model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def make_lean(model: Any) -> None:
    """Make a PEFT model's steps cheaper on a CPU, with the same results; measured in docs/results/training-speed.md."""
    keep_freed_memory()
    base = model.get_base_model()
    if can_pack(base):
        pack_batches(base)
        fuse_lora(model)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; one that a kill cut short is deleted."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if _is_whole(path):
            whole.append(path)
        else:
            shutil.rmtree(path)
    return max(whole, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)


def _is_whole(checkpoint: Path) -> bool:
    """Whether transformers wrote all of it: the trainer state comes last, and a kill may have left it empty."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (checkpoint / "scheduler.pt").is_file()


class _BestEpoch(TrainerCallback):
    """Keeps the adapter of the epoch with the lowest held-out loss; stops when `patience` epochs were no better."""

    def __init__(self, folder: Path, curves: Curves, patience: int | None) -> None:
        self.folder, self.curves, self.patience = folder, curves, patience

    def on_evaluate(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        losses = self.curves.held_out()
        epochs_since = len(losses) - 1 - losses.index(min(losses))
        if epochs_since == 0 and is_main():
            shutil.rmtree(self.folder, ignore_errors=True)
            model.save_pretrained(self.folder)
        if self.patience is not None and epochs_since >= self.patience:
            control.should_training_stop = True


class Curves(TrainerCallback):
    """Shows step, loss and time left; keeps every logged figure, and writes it to a JSONL file (the main process)."""

    def __init__(self, path: Path, label: str) -> None:
        self.path, self.label = path, label
        self.bar = progress(whole_stage=True)
        self.seconds = 0.0
        self.rows = read_unfinished_jsonl(path)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.monotonic()
        self.rows = [row for row in self.rows if row["step"] <= state.global_step]
        if is_main():
            self.path.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")
            self.bar.start()
            self.task = self.bar.add_task(
                self.label, total=state.max_steps, completed=state.global_step, note=""
            )

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if {"loss", "eval_loss"} & set(logs or {}):
            self.add({"step": state.global_step, **logs})
            if is_main():
                self._show(state, logs)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds = time.monotonic() - self.started
        if is_main():
            self.bar.stop()

    def add(self, row: dict[str, Any]) -> None:
        """One more row of figures."""
        self.rows.append(row)
        if is_main():
            with open(self.path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(row) + "\n")

    def _show(self, state: Any, logs: dict[str, Any]) -> None:
        if "eval_loss" in logs:
            say(f"  epoch {logs.get('epoch', 0):.0f}: held-out loss {logs['eval_loss']:.4f}")
            return
        self.bar.update(self.task, completed=state.global_step, note=f"loss {logs['loss']:.3f}")

    def losses(self) -> list[float]:
        """The loss of each step, in order."""
        return [float(row["loss"]) for row in self.rows if "loss" in row]

    def held_out(self) -> list[float]:
        """The held-out loss of each epoch, in order."""
        return [float(row["eval_loss"]) for row in self.rows if "eval_loss" in row]

    def best_epoch(self) -> int:
        """The epoch with the lowest held-out loss, counted from 1."""
        losses = self.held_out()
        return losses.index(min(losses)) + 1 if losses else 0


def finish(stage: Stage, **results: Any) -> dict[str, Any]:
    """`Stage.finish`, by the main process alone; every process has the manifest."""
    if is_main():
        stage.finish(**results)
    wait_for_everyone()
    manifest: dict[str, Any] = read_json(stage.folder / MANIFEST)
    return manifest
