"""What SFT and DPO share: arguments, the training run, checkpoints, the best epoch."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft import LoraConfig, load_peft_weights, set_peft_model_state_dict
from transformers import PrinterCallback, TrainerCallback

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.finetune.before_and_after import before_and_after
from empathy_edge.finetune.curves import CURVES, Curves
from empathy_edge.finetune.fused_lora import fuse_lora
from empathy_edge.finetune.length_drift import LengthProbe
from empathy_edge.finetune.training_results import Example, TrainingResults
from empathy_edge.runs.settings import TrainSettings
from empathy_edge.runs.stage import Stage
from empathy_edge.runtimes.packed import can_pack, pack_batches
from empathy_edge.runtimes.precision import Precision
from empathy_edge.runtimes.torch_loading import SCRATCH
from empathy_edge.system.device import chosen_device
from empathy_edge.system.memory import keep_freed_memory
from empathy_edge.system.processes import is_main, main_first, process_count, wait_for_everyone

CHECKPOINTS = "checkpoints"
ADAPTER = "adapter"
BEST = "best"
"""The adapter of the best epoch so far, while training goes on."""


def lora_config(settings: TrainSettings) -> LoraConfig:
    """LoRA on every linear layer of the blocks, or only on the layers named in the recipe."""
    targets = settings.lora_targets
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=0.0,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )


def trainer_arguments(folder: Path, settings: TrainSettings, precision: Precision) -> dict[str, Any]:
    """The arguments that TRL's SFTConfig and DPOConfig have in common."""
    rows = _rows_at_once(settings)
    return {
        "output_dir": str(folder / CHECKPOINTS),
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": settings.batch_size // (rows * process_count()),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 5,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": settings.save_every_steps,
        "save_total_limit": 1,
        "bf16": False,  # autocast; the weights themselves are in bf16 already
        "fp16": precision.weights == "fp16",  # gradients in fp16 must be scaled
        "gradient_checkpointing": False,
        "max_length": settings.max_length,
        "seed": settings.seed,
        "eval_strategy": "epoch" if settings.held_out else "no",
        "per_device_eval_batch_size": rows,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "use_cpu": chosen_device() == "cpu",
    }


def _rows_at_once(settings: TrainSettings) -> int:
    """The rows of a batch that one process computes at a time.

    The processes share a batch, so that its size does not depend on how many there are.
    """
    processes = process_count()
    share, remainder = divmod(settings.batch_size, processes)
    rows = min(settings.micro_batch, share)
    if remainder or share % rows:
        raise EmpathyEdgeError(
            f"A batch of {settings.batch_size} cannot be shared by {processes} processes "
            f"in parts of {rows} rows; change batch_size or micro_batch_size in the recipe."
        )
    return rows


def train(
    trainer: Any,
    stage: Stage,
    label: str,
    settings: TrainSettings,
    precision: Precision,
    probe: Callable[[Curves], LengthProbe] | None = None,
) -> TrainingResults:
    """Train, or resume from the last checkpoint; leaves `adapter/` and the curves, deletes the checkpoints.

    Args:
        trainer: TRL's.
        stage: the step's.
        label: the step's name, for the progress bar.
        settings: the step's.
        precision: what the base's weights are held in.
        probe: makes what measures the length of replies before, halfway and after.

    Raises:
        EmpathyEdgeError: the loss became NaN.
    """
    # PEFT would write the folder that the base was loaded from, which only this machine has.
    trainer.model.peft_config["default"].base_model_name_or_path = stage.settings["base"]
    make_lean(trainer.model)
    with main_first():
        checkpoint = last_checkpoint(stage.folder / CHECKPOINTS)
    if checkpoint:
        say(f"[dim]{label}: going on from step {checkpoint.name.removeprefix('checkpoint-')}[/]")
    curves = Curves(stage.folder / CURVES, label)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(curves)
    if settings.held_out:
        trainer.add_callback(_BestEpoch(stage.folder / BEST, curves, settings.patience))
    length_probe = probe(curves) if probe else None
    if length_probe:
        trainer.add_callback(length_probe)
    with contextlib.redirect_stdout(sys.stderr):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if any(math.isnan(loss) for loss in curves.losses()):
        raise EmpathyEdgeError(f"{label}: the loss became NaN; lower learning_rate in the recipe.")
    wait_for_everyone()
    examples: tuple[Example, ...] = ()
    if is_main():
        _keep_adapter(trainer.model, stage.folder)
        if length_probe:
            length_probe.after(trainer.state.global_step, trainer.model)
        examples = before_and_after(trainer.model, trainer.processing_class)
    found = _results(curves, trainer.state.global_step, settings, precision)
    return found.model_copy(update={"examples": examples})


def _results(curves: Curves, steps: int, settings: TrainSettings, precision: Precision) -> TrainingResults:
    losses = curves.losses()
    tenth = max(1, len(losses) // 10)
    results = TrainingResults(
        weights=precision.record(),
        steps=steps,
        train_seconds=round(curves.seconds, 1),
        loss_first=round(sum(losses[:tenth]) / tenth, 4),
        loss_last=round(sum(losses[-tenth:]) / tenth, 4),
    )
    if not settings.held_out:
        return results
    return results.model_copy(
        update={"held_out_loss": tuple(curves.held_out()), "kept_epoch": curves.best_epoch()}
    )


def _keep_adapter(model: Any, folder: Path) -> None:
    """Leave `adapter/`, of the best epoch or else of the last step, and delete the checkpoints.

    The model has the kept adapter then.
    """
    if (folder / BEST).is_dir():
        shutil.rmtree(folder / ADAPTER, ignore_errors=True)
        os.rename(folder / BEST, folder / ADAPTER)
        set_peft_model_state_dict(model, load_peft_weights(str(folder / ADAPTER), device="cpu"))
    else:
        model.save_pretrained(folder / ADAPTER)
    (folder / ADAPTER / "README.md").unlink(missing_ok=True)
    for made in (CHECKPOINTS, SCRATCH):
        shutil.rmtree(folder / made, ignore_errors=True)


def make_lean(model: Any) -> None:
    """Make a PEFT model's training steps faster on a CPU, with the same results.

    How much faster is in docs/results/training-speed.md.
    """
    keep_freed_memory()
    base = model.get_base_model()
    if can_pack(base):
        pack_batches(base)
        fuse_lora(model)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; incomplete ones, of a process that was killed, are deleted."""
    complete = []
    for path in folder.glob("checkpoint-*"):
        if _is_complete(path):
            complete.append(path)
        else:
            shutil.rmtree(path)
    return max(complete, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)


def _is_complete(checkpoint: Path) -> bool:
    """Whether transformers finished writing: the trainer's state comes last, and may be cut off."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (checkpoint / "scheduler.pt").is_file()


class _BestEpoch(TrainerCallback):
    """Saves the adapter of the epoch with the lowest held-out loss.

    Training stops after `patience` epochs that were no better.
    """

    def __init__(self, folder: Path, curves: Curves, patience: int | None) -> None:
        self.folder = folder
        self.curves = curves
        self.patience = patience

    def on_evaluate(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """After each epoch."""
        losses = self.curves.held_out()
        epochs_since = len(losses) - 1 - losses.index(min(losses))
        if epochs_since == 0 and is_main():
            shutil.rmtree(self.folder, ignore_errors=True)
            model.save_pretrained(self.folder)
        if self.patience is not None and epochs_since >= self.patience:
            control.should_training_stop = True
