"""What SFT and DPO share: the model and its LoRA, progress and curves, checkpoints, the allocator."""

from __future__ import annotations

import contextlib
import ctypes
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback

from empathy_edge.console import progress, say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.lora import add_adapters
from empathy_edge.recipe import TrainSettings
from empathy_edge.run import Stage

CHECKPOINTS = "checkpoints"
CURVES = "curves.jsonl"
SCRATCH = "scratch"


def load_base(folder: Path, weights: str, adapters: list[Path], scratch: Path) -> tuple[Any, Any]:
    """The base with `adapters` merged into its full precision, then held in `weights`; and its tokenizer.

    Args:
        folder: a checkpoint.
        weights: `fp32`, `bf16`, or `nf4` (QLoRA: bitsandbytes' 4-bit NormalFloat, Dettmers et al., arXiv 2305.14314).
        adapters: PEFT adapter folders of earlier steps.
        scratch: where the merged model may lie for a moment, when it has to be read again in four bits.
    """
    if weights == "nf4":
        model = _load_nf4(folder, adapters, scratch)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        add_adapters(model, adapters)
        if weights == "bf16":
            # The parameters only: `model.to` would round the rope frequencies, a buffer, as well.
            for parameter in model.parameters():
                parameter.data = parameter.data.to(torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _load_nf4(folder: Path, adapters: list[Path], scratch: Path) -> Any:
    from transformers import BitsAndBytesConfig

    if adapters:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        add_adapters(model, adapters)
        model.save_pretrained(scratch)
        folder = scratch
    try:
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
        return AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=config, dtype=torch.bfloat16, local_files_only=True
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def lora_config(settings: TrainSettings) -> LoraConfig:
    """LoRA on every linear layer of the blocks."""
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def trainer_arguments(stage: Stage, settings: TrainSettings) -> dict[str, Any]:
    """The arguments that TRL's SFTConfig and DPOConfig have in common."""
    return {
        "output_dir": str(stage.folder / CHECKPOINTS),
        "per_device_train_batch_size": settings.micro_batch_size,
        "gradient_accumulation_steps": settings.batch_size // settings.micro_batch_size,
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 5,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": settings.save_every_steps,
        "save_total_limit": 1,
        "bf16": False,  # the weights already are; no autocast on top
        "gradient_checkpointing": False,
        "max_length": settings.max_length,
        "seed": settings.seed,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "use_cpu": not torch.cuda.is_available(),
    }


def train(trainer: Any, stage: Stage, label: str) -> dict[str, Any]:
    """Train, or go on from the last checkpoint; leaves `adapter/` and the curves, drops the checkpoints.

    Returns:
        Figures of the step: steps, seconds, first and last loss.
    """
    keep_freed_memory()
    last = _last_checkpoint(stage.folder / CHECKPOINTS)
    if last:
        say(f"[dim]{label}: going on from step {last.name.removeprefix('checkpoint-')}[/]")
    curves = _Curves(stage.folder / CURVES, label)
    trainer.add_callback(curves)
    trainer.remove_callback(PrinterCallback)
    with contextlib.redirect_stdout(sys.stderr):
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    losses = curves.losses()
    if any(loss != loss for loss in losses):
        raise EmpathyEdgeError(f"{label}: the loss became NaN; lower learning_rate in the recipe.")
    trainer.model.save_pretrained(stage.folder / "adapter")
    (stage.folder / "adapter" / "README.md").unlink(missing_ok=True)
    shutil.rmtree(stage.folder / CHECKPOINTS, ignore_errors=True)
    few = max(1, len(losses) // 10)
    return {
        "steps": trainer.state.global_step,
        "train_seconds": round(curves.seconds, 1),
        "loss_first": round(sum(losses[:few]) / few, 4),
        "loss_last": round(sum(losses[-few:]) / few, 4),
    }


def keep_freed_memory() -> None:
    """Tell glibc to keep what torch frees: taking it again from the system costs a third of a CPU step."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
        libc.mallopt(m_mmap_threshold, 32 * 2**20)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_top_pad, 64 * 2**20)


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; one that a kill cut short has no trainer state yet and is dropped."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if (path / "trainer_state.json").is_file() and (path / "scheduler.pt").is_file():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return max(whole, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)


class _Curves(TrainerCallback):
    """Shows step, loss and time left; writes every logged figure to a JSONL file."""

    def __init__(self, path: Path, label: str) -> None:
        self.path, self.label = path, label
        self.bar = progress()
        self.seconds = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.monotonic()
        kept = [row for row in self._rows() if row["step"] <= state.global_step]
        self.path.write_text("".join(json.dumps(row) + "\n" for row in kept))
        self.bar.start()
        self.task = self.bar.add_task(self.label, total=state.max_steps, completed=state.global_step, note="")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" not in (logs or {}):
            return
        with open(self.path, "a") as handle:
            handle.write(json.dumps({"step": state.global_step, **logs}) + "\n")
        self.bar.update(self.task, completed=state.global_step, note=f"loss {logs['loss']:.3f}")
        spent = time.monotonic() - self.started
        if not self.bar.console.is_terminal and state.global_step % 20 == 0:
            left = spent / state.global_step * (state.max_steps - state.global_step)
            say(f"  step {state.global_step}/{state.max_steps}, loss {logs['loss']:.3f}, {left:.0f} s left")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds = time.monotonic() - self.started
        self.bar.stop()

    def losses(self) -> list[float]:
        """The loss of each step, in order."""
        return [float(row["loss"]) for row in self._rows()]

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                with contextlib.suppress(ValueError):  # a line that a kill cut short
                    rows.append(json.loads(line))
        return rows
