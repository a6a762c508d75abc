"""Whether fine-tuning fits into memory and on the disk, checked before anything is loaded or written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from empathy_edge.console import say
from empathy_edge.runs.settings import TrainSettings
from empathy_edge.system.files import MANIFEST, read_json
from empathy_edge.system.machine import require_memory

LIBRARIES_MB = 500

BACKWARD_MB = 1500
"""What the backward pass of 1024 tokens needs, measured with SmolLM2-135M (30 layers, hidden size 576)."""

ADAPTER_MB = 200
"""The adapter and its checkpoints, about."""

ROWS_AND_TOKENS = 13
"""As many times as large as the training files are the rows and tokens in `scratch/` (docs/scale.md)."""

MIN_SHARE = 0.6
"""Training is refused if less than this share of the estimate is free; above it there is a warning."""


def space_needed_mb(files: Sequence[Path]) -> float:
    """What a step of training needs on the disk, in MB (10^6 bytes), with these training files."""
    return ADAPTER_MB + ROWS_AND_TOKENS * sum(file.stat().st_size for file in files) / 1e6


def check_memory(checkpoint: Path, settings: TrainSettings, out: Path, update: bool) -> None:
    """Warn or refuse if training would not fit; no check if `out` is finished and stays so.

    Raises:
        PrerequisiteError: far less memory is free than training needs.
    """
    if (out / MANIFEST).is_file() and not update:
        return
    needed_mb = memory_needed_mb(checkpoint, settings)
    advice = "set a lower micro_batch_size in the recipe"
    free_mb = require_memory(MIN_SHARE * needed_mb, needed_mb, "fine-tuning", advice)
    if free_mb < needed_mb:
        say(
            f"  [yellow]Warning:[/] fine-tuning needs about {needed_mb / 1e3:.1f} GB of memory, "
            f"{free_mb / 1e3:.1f} GB are free. Close other programs, or {advice}."
        )


def memory_needed_mb(checkpoint: Path, settings: TrainSettings) -> float:
    """An estimate in MB (10^6 bytes): the libraries, the weights in fp32, and the backward pass of a step.

    The weights are loaded in fp32 first, whatever format they are held in later.
    """
    content = read_json(checkpoint / "config.json")
    config = content.get("text_config", content)
    stored = str(config.get("dtype") or config.get("torch_dtype") or content.get("dtype") or "float32")
    weights_mb = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors")) / 1e6
    if settings.weights == "nf4":
        weights_mb *= 0.5
    elif stored in ("bfloat16", "float16"):
        weights_mb *= 2
    relative_size = config.get("num_hidden_layers", 30) * config.get("hidden_size", 576) / (30 * 576)
    return LIBRARIES_MB + weights_mb + BACKWARD_MB * relative_size * settings.tokens_at_once / 1024
