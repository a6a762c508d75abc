"""What SFT and DPO share: arguments, the training run, checkpoints, the best epoch."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from transformers import PrinterCallback, TrainerCallback, TrainerState

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.finetune.before_and_after import before_and_after
from empathy_edge.finetune.curves import CURVES, Curves
from empathy_edge.finetune.fused_lora import fuse_lora
from empathy_edge.finetune.length_drift import LengthProbe
from empathy_edge.finetune.training_results import BEST, CHECKPOINTS, Example, TrainingResults
from empathy_edge.runs.settings import TrainSettings
from empathy_edge.runs.stage import Stage
from empathy_edge.runtimes.packed import can_pack, pack_batches
from empathy_edge.runtimes.precision import Precision
from empathy_edge.system.device import chosen_device
from empathy_edge.system.memory import keep_freed_memory
from empathy_edge.system.processes import is_main, main_first, process_count, wait_for_everyone

if TYPE_CHECKING:
    from empathy_edge.finetune.rows_on_disk import Split

ADAPTER = "adapter"
STATE = "trainer_state.json"
"""Of a checkpoint: what transformers writes last."""

WARM_UP = 5
"""Steps in which the learning rate rises; in a short training it is a quarter of the steps."""

FEW_STEPS = 10
"""With fewer steps than this there is a word."""


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


def require_targets(model: Any, settings: TrainSettings) -> None:
    """Refuse names of layers that the model does not have.

    Raises:
        EmpathyEdgeError: names them, and the layers that there are.
    """
    if isinstance(settings.lora_targets, str):
        return
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.dim() > 1 and module is not head:
            found[f".{name}"] = module
    for target in settings.lora_targets:
        if not any(name.endswith(f".{target}") for name in found):
            linear = {name.rpartition(".")[2] for name, module in found.items() if module is not embeddings}
            raise EmpathyEdgeError(
                f"lora_targets: the model has no layer {target!r} that LoRA can change. "
                f"Its linear layers are: {', '.join(sorted(linear))}."
            )


def on_one_gpu(arguments: Any) -> Any:
    """A trainer's arguments, which take one GPU where no launcher has started a process for each."""
    if arguments.n_gpu > 1:
        say(
            f"  1 of {arguments.n_gpu} GPUs is used. To use all: "
            f"accelerate launch --num_processes {arguments.n_gpu} -m empathy_edge finetune …"
        )
        arguments._n_gpu = 1  # as transformers itself does for models that are split
    return arguments


def steps_of_epoch(rows: int, settings: TrainSettings) -> int:
    """Optimizer steps in a pass over the rows; the processes share each batch."""
    return math.ceil(rows / settings.batch_size)


def steps_of(rows: int, settings: TrainSettings) -> int:
    """Optimizer steps of the whole training."""
    return math.ceil(settings.epochs * steps_of_epoch(rows, settings))


def trainer_arguments(
    folder: Path, settings: TrainSettings, precision: Precision, split: Split | None = None
) -> dict[str, Any]:
    """The arguments that TRL's SFTConfig and DPOConfig have in common.

    Args:
        folder: the step's.
        settings: the step's.
        precision: what the base's weights are held in.
        split: the rows. Without them the warm-up is that of a long training, and nothing is held out.
    """
    rows = _rows_at_once(settings)
    warm_up, is_measured = WARM_UP, False
    if split is not None:
        warm_up = min(WARM_UP, steps_of(len(split.trained), settings) // 4)
        is_measured = split.held_out is not None
    return {
        "output_dir": str(folder / CHECKPOINTS),
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": settings.batch_size // (rows * process_count()),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": warm_up,
        "logging_steps": 1,
        # It would hide what `_Finite` looks for. In fp16 steps that overflow are left out, and do no harm.
        "logging_nan_inf_filter": precision.weights == "fp16",
        "save_strategy": "steps",
        "save_steps": settings.save_every_steps,
        "save_total_limit": 1,
        "bf16": False,  # autocast; the weights themselves are in bf16 already
        "fp16": precision.weights == "fp16",  # gradients in fp16 must be scaled
        "gradient_checkpointing": False,
        "max_length": settings.max_length,
        "seed": settings.seed,
        "eval_strategy": "epoch" if is_measured else "no",
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
    """Train, or resume from the last checkpoint; leaves `adapter/` and the curves.

    The checkpoints stay: `finish_stage` deletes them.

    Args:
        trainer: TRL's.
        stage: the step's.
        label: the step's name, for the progress bar.
        settings: the step's.
        precision: what the base's weights are held in.
        probe: makes what measures the length of replies before, halfway and after.

    Raises:
        EmpathyEdgeError: the loss or the adapter's weights became NaN or infinite.
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
    trainer.add_callback(_Finite(label))
    if trainer.eval_dataset is not None:
        trainer.add_callback(_BestEpoch(stage.folder / BEST, curves, settings.patience))
    length_probe = probe(curves) if probe else None
    if length_probe:
        trainer.add_callback(length_probe)
    steps = steps_of(len(trainer.train_dataset), settings)
    if steps < FEW_STEPS:
        say(f"  {label}: few steps ({steps}). More rows, more epochs or a smaller batch_size give more.")
    with contextlib.redirect_stdout(sys.stderr):
        try:
            if checkpoint is None:
                trainer.train()
            elif not _load_checkpoint(trainer, checkpoint, curves, settings):
                trainer.train(resume_from_checkpoint=str(checkpoint))
        finally:
            curves.hide()
    wait_for_everyone()
    if precision.weights == "fp16" and not any(curves.losses()[-FEW_STEPS:]):  # each one overflowed
        raise _diverged(label, "the last losses have")
    examples: tuple[Example, ...] = ()
    if is_main():
        _keep_adapter(trainer.model, stage.folder, label)
        if length_probe:
            length_probe.after(trainer.state.global_step, trainer.model)
        examples = before_and_after(trainer.model, trainer.processing_class)
    found = _results(curves, trainer.state.global_step, precision)
    return found.model_copy(update={"examples": examples})


def _load_checkpoint(trainer: Any, checkpoint: Path, curves: Curves, settings: TrainSettings) -> bool:
    """Load a checkpoint; whether nothing is left to train from there.

    At the end of an epoch the held-out loss is measured again: a checkpoint is written before that, so that
    the process may have been killed between the two.
    """
    trainer.state = TrainerState.load_from_json(str(checkpoint / STATE))
    set_peft_model_state_dict(trainer.model, load_peft_weights(str(checkpoint), device="cpu"))
    rows, step = len(trainer.train_dataset), trainer.state.global_step
    is_last = step >= steps_of(rows, settings)
    curves.go_back_to(step)
    if trainer.eval_dataset is not None and (is_last or step % steps_of_epoch(rows, settings) == 0):
        trainer.evaluate()
        # It marks the model as prepared, without what keeps the gradients of several processes together.
        trainer.accelerator.free_memory()
        trainer.model._is_accelerate_prepared = False
    return is_last or trainer.control.should_training_stop


def _results(curves: Curves, steps: int, precision: Precision) -> TrainingResults:
    losses = curves.losses()
    tenth = max(1, len(losses) // 10)
    results = TrainingResults(
        weights=precision.record(),
        steps=steps,
        train_seconds=round(curves.seconds, 1),
        loss_first=round(sum(losses[:tenth]) / tenth, 4),
        loss_last=round(sum(losses[-tenth:]) / tenth, 4),
    )
    held_out_loss = tuple(curves.held_out())
    if not held_out_loss:
        return results
    return results.model_copy(update={"held_out_loss": held_out_loss, "kept_epoch": curves.best_epoch()})


def _keep_adapter(model: Any, folder: Path, label: str) -> None:
    """Leave `adapter/`, of the best epoch or else of the last step; the model has that adapter then.

    Raises:
        EmpathyEdgeError: a weight is NaN or infinite.
    """
    if (folder / BEST).is_dir():
        best = load_peft_weights(str(folder / BEST), device="cpu")
        require_finite(best, label)
        shutil.rmtree(folder / ADAPTER, ignore_errors=True)
        shutil.copytree(folder / BEST, folder / ADAPTER)
        set_peft_model_state_dict(model, best)
    else:
        require_finite(get_peft_model_state_dict(model), label)
        model.save_pretrained(folder / ADAPTER)
    (folder / ADAPTER / "README.md").unlink(missing_ok=True)


def require_finite(weights: dict[str, torch.Tensor], label: str) -> None:
    """Refuse an adapter that cannot be used.

    Raises:
        EmpathyEdgeError: a weight is NaN or infinite.
    """
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise _diverged(label, f"{name} of the adapter has")


def _diverged(label: str, what: str) -> EmpathyEdgeError:
    return EmpathyEdgeError(
        f"{label}: {what} become NaN or infinite: training diverged, and no adapter was written.\n"
        "  Lower learning_rate in the recipe, and train again with --update."
    )


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
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (checkpoint / "scheduler.pt").is_file()


class _Finite(TrainerCallback):
    """Ends a training whose loss is no number any more: every later step would be the same."""

    def __init__(self, label: str) -> None:
        self.label = label

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """After each step and each measurement."""
        for name in ("loss", "eval_loss"):
            if not math.isfinite((logs or {}).get(name, 0.0)):
                raise _diverged(self.label, f"the {'held-out ' if name == 'eval_loss' else ''}loss has")


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
