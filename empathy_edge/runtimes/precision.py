"""Which number format a model's weights are held in: the requested one, or the faster one on this machine.

Half the CPUs in use have no bf16 units. There a product in bf16 takes 8 to 60 times as long as in fp32; with
such units it takes about half as long. No flag of a CPU says so reliably, so `auto` measures it.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from empathy_edge.console import say
from empathy_edge.runs.settings import Weights
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.device import chosen_device
from empathy_edge.system.files import sha256_json, write_json
from empathy_edge.system.machine import machine

if TYPE_CHECKING:
    import torch

MIN_GAIN = 1.1
"""`auto` takes bf16 if it is at least this many times as fast; otherwise fp32, which rounds less."""

CLEARLY_SLOWER = 3.0
"""If the first, short measurement finds bf16 this many times slower, there is no second one."""

FIRST_TOKENS = 64
"""Tokens of the first measurement."""

MAX_TOKENS = 1024
"""The largest number of tokens of the second one."""

MAX_SIZE = 1536
"""Larger matrices are cut to this size, so that the measurement for an 8B model takes less than 3 s too."""

LayerShapes = Counter[tuple[int, int]]
"""How often each shape (out, in) of a linear layer occurs in a block."""


@dataclass(frozen=True)
class Precision:
    """A decision and its reason; both go into manifests.

    Attributes:
        weights: `fp32`, `bf16`, `fp16` (on GPUs without bf16) or `nf4`.
        compute: the format of products; it differs from `weights` for `nf4` only.
        reason: one sentence, with the measurement if there was one.
        warning: what a user should know before the work begins; usually empty.
    """

    weights: Literal["fp32", "bf16", "fp16", "nf4"]
    compute: Literal["fp32", "bf16", "fp16"]
    reason: str
    warning: str = ""

    def record(self) -> dict[str, str]:
        """The decision without the warning, for a manifest."""
        return {"weights": self.weights, "compute": self.compute, "reason": self.reason}


@dataclass(frozen=True)
class Probe:
    """A measurement: one forward and backward pass through the linear layers of a block.

    Attributes:
        fp32_s: seconds in fp32.
        bf16_s: seconds in bf16.
        tokens: how many tokens were computed at a time.
    """

    fp32_s: float
    bf16_s: float
    tokens: int

    @property
    def bf16_speed(self) -> float:
        """How many times as fast as fp32 bf16 is; below 1 it is slower."""
        return self.fp32_s / self.bf16_s

    def __str__(self) -> str:
        speed = self.bf16_speed
        rate = f"{speed:.1f} times as fast as" if speed >= 1 else f"{1 / speed:.1f} times slower than"
        times = f"{self.bf16_s * 1e3:.1f} against {self.fp32_s * 1e3:.1f} ms a block"
        return f"bf16 is {rate} fp32 on this processor ({times}, {self.tokens} tokens)"


def choose_precision(requested: Weights, checkpoint: Path, *, tokens: int = 1024) -> Precision:
    """Decide in which format a checkpoint's weights are held.

    Args:
        requested: `auto` takes the faster of fp32 and bf16; any other format is used as requested, with a
            warning if bf16 is slow on this machine.
        checkpoint: a folder with `config.json`; the measurement uses the shapes of its linear layers.
        tokens: how many tokens are computed at a time.
    """
    import torch

    if requested == "fp32":
        return Precision("fp32", "fp32", "asked for")
    device = chosen_device()
    if device == "mps" and requested == "auto":
        return Precision("fp32", "fp32", "auto: fp32 on Apple's GPU")
    if device == "cuda":
        return gpu_precision(requested, torch.cuda.is_bf16_supported(including_emulation=False))
    measured = measure(checkpoint, min(tokens, MAX_TOKENS))
    faster: Literal["fp32", "bf16"] = "bf16" if measured.bf16_speed >= MIN_GAIN else "fp32"
    if requested == "auto":
        return Precision(faster, faster, f"auto: {measured}")
    if requested == "nf4":
        return Precision("nf4", faster, f"nf4 was asked for; products in {faster}: {measured}")
    warning = ""
    if measured.bf16_speed < 1 / MIN_GAIN:
        warning = f"weights: bf16 was asked for, but {measured}. Set weights: auto, or fp32."
    return Precision("bf16", "bf16", f"asked for; {measured}", warning)


def gpu_precision(requested: Weights, has_bf16: bool) -> Precision:
    """The decision on a GPU, without a measurement: bf16 if it has that, else fp16 with scaled gradients."""
    compute: Literal["bf16", "fp16"] = "bf16" if has_bf16 else "fp16"
    reason = f"the GPU has {'' if has_bf16 else 'no '}bf16"
    if requested == "auto":
        return Precision(compute, compute, f"auto: {reason}")
    if requested == "nf4":
        return Precision("nf4", compute, f"nf4 was asked for; products in {compute}: {reason}")
    warning = ""
    if not has_bf16:
        warning = "weights: bf16 was asked for, but the GPU only emulates it. Set weights: auto."
    return Precision("bf16", "bf16", "asked for", warning)


@cache
def measure(checkpoint: Path, tokens: int) -> Probe:
    """The measurement for this checkpoint's shapes on this machine, kept in the model cache."""
    shapes = linear_shapes(checkpoint)
    key = _cache_key(shapes, tokens)
    file = cache_folder() / "precision.json"
    known = _read_cache(file)
    try:
        return Probe(**known[key])
    except (KeyError, TypeError):
        pass
    measured = probe(shapes, tokens)
    try:
        write_json(file, {**known, key: asdict(measured)})
    except OSError:
        say(f"[dim]{file} cannot be written; the measurement of fp32 and bf16 is not kept.[/]")
    return measured


def _cache_key(shapes: LayerShapes, tokens: int) -> str:
    """A hash of everything that changes the result."""
    import torch

    settings = {
        "cpu": machine()["cpu"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "isa": torch.backends.cpu.get_cpu_capability(),
        "onednn": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "shapes": sorted((*shape, count) for shape, count in shapes.items()),
        "tokens": tokens,
    }
    return sha256_json(settings)[:16]


def _read_cache(file: Path) -> dict[str, Any]:
    """The measurements by key; none where the file is missing or damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def linear_shapes(checkpoint: Path) -> LayerShapes:
    """The shapes of the linear layers of one block; no weight is read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(checkpoint, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    layers = [
        module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head
    ]
    counts = Counter((layer.out_features, layer.in_features) for layer in layers)
    blocks = min(counts.values(), default=1)  # the rarest shape occurs once in each block
    return Counter({shape: round(count / blocks) for shape, count in counts.items()})


def probe(shapes: LayerShapes, tokens: int) -> Probe:
    """Time forward and backward products of these shapes in fp32 and bf16; takes less than 3 s."""
    if not shapes:  # GPT-2, whose layers are of another class: the result is fp32
        return Probe(1.0, 1.0, 0)
    first = _time_both(shapes, FIRST_TOKENS)
    if tokens <= FIRST_TOKENS or first.bf16_speed < 1 / CLEARLY_SLOWER:
        return first
    return _time_both(shapes, tokens)


def _time_both(shapes: LayerShapes, tokens: int) -> Probe:
    import torch

    fp32_s = _seconds(shapes, tokens, torch.float32)
    bf16_s = _seconds(shapes, tokens, torch.bfloat16)
    return Probe(fp32_s, bf16_s, tokens)


def _seconds(shapes: LayerShapes, tokens: int, dtype: torch.dtype) -> float:
    """Seconds of one pass through all layers of a block: for each shape the shorter of two measurements.

    Matrices larger than MAX_SIZE are cut, and their time is scaled to the whole size.
    """
    import torch

    seconds_of: dict[tuple[int, int], float] = {}
    total = 0.0
    for (size_out, size_in), count in shapes.items():
        cut_out, cut_in = min(size_out, MAX_SIZE), min(size_in, MAX_SIZE)
        if (cut_out, cut_in) not in seconds_of:
            x = torch.randn(tokens, cut_in).to(dtype)
            weight = torch.randn(cut_out, cut_in).to(dtype)
            seconds_of[cut_out, cut_in] = min(_one_pass(x, weight), _one_pass(x, weight))
        scale = (size_out * size_in) / (cut_out * cut_in)
        total += count * seconds_of[cut_out, cut_in] * scale
    return total


def _one_pass(x: torch.Tensor, weight: torch.Tensor) -> float:
    """Seconds of y = x Wᵀ and of the gradient of x: what LoRA training computes with a frozen weight."""
    start = time.perf_counter()
    y = x @ weight.T
    y @ weight
    return time.perf_counter() - start
