"""Whether fine-tuning fits into memory and on the disk, checked before anything is loaded or written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from empathy_edge.console import say
from empathy_edge.runs.settings import TrainSettings
from empathy_edge.system.device import chosen_device, free_on
from empathy_edge.system.files import MANIFEST, read_json
from empathy_edge.system.machine import require_memory

LIBRARIES_MB = 500

BACKWARD_MB = 1500
"""What the backward pass of 1024 tokens needs, measured with SmolLM2-135M (30 layers, hidden size 576)."""

ADAPTER_MB = 200
"""The adapter and its checkpoints, about."""

ROWS_AND_TOKENS = 13
"""As many times as large as the training files are the rows and tokens in `scratch/` (docs/scale.md)."""

ADVICE = "set a lower micro_batch_size in the recipe"

MIN_SHARE = 0.6
"""Training is refused if less than this share of the estimate is free; above it there is a warning."""


def space_needed_mb(files: Sequence[Path], merged_mb: float = 0) -> float:
    """What a step of training needs on the disk, in MB (10^6 bytes).

    Args:
        files: the training files.
        merged_mb: a base that is written with adapters merged into it, and read again.
    """
    return ADAPTER_MB + merged_mb + ROWS_AND_TOKENS * sum(file.stat().st_size for file in files) / 1e6


def check_memory(
    checkpoint: Path, settings: TrainSettings, out: Path, update: bool, *, merges: bool = False
) -> None:
    """Warn or refuse if training would not fit; no check if `out` is finished and stays so.

    With an NVIDIA GPU the machine's own memory has to hold the base while it is loaded. Too little memory of
    the GPU gives a warning alone, since the estimate was measured on CPUs.

    Args:
        checkpoint: the base's folder.
        settings: the step's.
        out: the step's folder.
        update: whether what is finished there may be made again.
        merges: whether adapters are merged into the base before.

    Raises:
        PrerequisiteError: far less memory is free than training needs, or the chosen device is not there.
    """
    if (out / MANIFEST).is_file() and not update:
        return
    device = chosen_device()
    load_mb, train_mb = memory_needed_mb(checkpoint, settings, device, merges=merges)
    if device == "cuda":
        needed_mb = LIBRARIES_MB + load_mb
        require_memory(MIN_SHARE * needed_mb, needed_mb, "loading the base", "take a smaller base")
        _warn_of_little(train_mb, free_on(device), "memory of the GPU")
        return
    needed_mb = LIBRARIES_MB + max(load_mb, train_mb)
    free_mb = require_memory(MIN_SHARE * needed_mb, needed_mb, "fine-tuning", ADVICE)
    _warn_of_little(needed_mb, free_mb, "memory")


def _warn_of_little(needed_mb: float, free_mb: float, what: str) -> None:
    if free_mb < needed_mb:
        say(
            f"  [yellow]Warning:[/] fine-tuning needs about {needed_mb / 1e3:.1f} GB of {what}, "
            f"{free_mb / 1e3:.1f} GB are free. Close other programs, or {ADVICE}."
        )


def memory_needed_mb(
    checkpoint: Path, settings: TrainSettings, device: str, *, merges: bool = False
) -> tuple[float, float]:
    """Estimates in MB (10^6 bytes), without the libraries: to load the base; and to train it on `device`.

    The base is loaded in fp32, whatever it is held in later, but for `nf4` without anything to merge.
    Training needs the weights and the backward pass of a step.
    """
    content = read_json(checkpoint / "config.json")
    config = content.get("text_config", content)
    relative_size = config.get("num_hidden_layers", 30) * config.get("hidden_size", 576) / (30 * 576)
    backward_mb = BACKWARD_MB * relative_size * settings.tokens_at_once / 1024
    load_mb = held_mb = fp32_weights_mb(checkpoint)
    if settings.weights == "nf4":
        held_mb = 0.5 * _stored_mb(checkpoint)
        load_mb = load_mb if merges else held_mb
    elif device == "cuda" and settings.weights != "fp32":
        held_mb /= 2
    return load_mb, held_mb + backward_mb


def fp32_weights_mb(checkpoint: Path) -> float:
    """A checkpoint's weights in fp32, in memory or on the disk, in MB (10^6 bytes)."""
    content = read_json(checkpoint / "config.json")
    config = content.get("text_config", content)
    stored = str(config.get("dtype") or config.get("torch_dtype") or content.get("dtype") or "float32")
    return _stored_mb(checkpoint) * (2 if stored in ("bfloat16", "float16") else 1)


def _stored_mb(checkpoint: Path) -> float:
    return sum(file.stat().st_size for file in checkpoint.glob("*.safetensors")) / 1e6
