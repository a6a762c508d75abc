"""Whether a step of fine-tuning fits into this machine's memory, said before anything is loaded or written."""

from __future__ import annotations

from pathlib import Path

from empathy_edge.console import say
from empathy_edge.runs.recipe import TrainSettings
from empathy_edge.system.files import MANIFEST, read_json
from empathy_edge.system.machine import require_memory

LIBRARIES_MB = 500
STEP_MB = 1500
"""What a step keeps for its backward pass: 1024 tokens of SmolLM2-135M (30 layers of 576), measured."""

HOPELESS = 0.6
"""Below this share of the estimate a step is refused; between this and the whole it is warned about."""


def check_memory(checkpoint: Path, settings: TrainSettings, out: Path, update: bool) -> None:
    """Refuse, or warn, where training would not fit; nothing where `out` is finished and stays so.

    Raises:
        PrerequisiteError: far less memory is free than the step needs.
    """
    if (out / MANIFEST).is_file() and not update:
        return
    needed = memory_needed_mb(checkpoint, settings)
    advice = "set a lower micro_batch_size in the recipe"
    free = require_memory(HOPELESS * needed, needed, "fine-tuning", advice)
    if free < needed:
        say(
            f"  [yellow]Warning:[/] fine-tuning needs about {needed / 1e3:.1f} GB of memory, {free / 1e3:.1f} GB are "
            f"free. Close other programs, or {advice}."
        )


def memory_needed_mb(checkpoint: Path, settings: TrainSettings) -> float:
    """An estimate: the fp32 weights (read first, whatever they are held in later), a step, and the libraries."""
    content = read_json(checkpoint / "config.json")
    config = content.get("text_config", content)
    stored = str(config.get("dtype") or config.get("torch_dtype") or content.get("dtype") or "float32")
    weights_mb = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors")) / 1e6
    if settings.weights == "nf4":
        weights_mb *= 0.5
    elif stored in ("bfloat16", "float16"):
        weights_mb *= 2
    size = config.get("num_hidden_layers", 30) * config.get("hidden_size", 576) / (30 * 576)
    return LIBRARIES_MB + weights_mb + STEP_MB * size * settings.tokens_at_once / 1024
