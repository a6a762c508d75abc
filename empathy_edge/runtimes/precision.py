"""Which number format a model's weights are held in: the one asked for, or the faster one on this machine.

Half the CPUs in use have no bf16 units. There a product in bf16 takes 8 to 60 times as long as in fp32; with such units
it takes about half as long. No flag of a CPU says so reliably, so `auto` measures it.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from empathy_edge.console import say
from empathy_edge.models.find import cache_folder
from empathy_edge.runs.recipe import Weights
from empathy_edge.system.files import sha256_json, write_json
from empathy_edge.system.machine import machine

MIN_GAIN = 1.1
"""bf16 is taken where it is this many times as fast; below, fp32 is as good and rounds less."""

CLEARLY_SLOWER = 3.0
"""Where a first look at a few tokens finds bf16 this many times slower, that is enough."""

FIRST_TOKENS, MAX_TOKENS = 64, 1024
MAX_SIZE = 1536
"""Matrices larger than this are cut, so that the probe of an 8B model stays below 3 s too."""


@dataclass(frozen=True)
class Precision:
    """A decision and its reason; both go into manifests.

    Attributes:
        weights: `fp32`, `bf16`, `fp16` (GPUs without bf16 only) or `nf4`.
        compute: what products are computed in; it differs from `weights` for `nf4` alone.
        reason: one sentence, with the measurement where there was one.
        warning: what a person should know before the work begins; mostly nothing.
    """

    weights: Literal["fp32", "bf16", "fp16", "nf4"]
    compute: Literal["fp32", "bf16", "fp16"]
    reason: str
    warning: str = ""

    def record(self) -> dict[str, str]:
        """For a manifest."""
        return {"weights": self.weights, "compute": self.compute, "reason": self.reason}


@dataclass(frozen=True)
class Probe:
    """Seconds of one forward and backward pass through the linear layers of a block, in both formats."""

    fp32_s: float
    bf16_s: float
    tokens: int

    @property
    def bf16_speed(self) -> float:
        """How many times as fast bf16 is; below 1 it is slower."""
        return self.fp32_s / self.bf16_s

    def __str__(self) -> str:
        speed = self.bf16_speed
        rate = f"{speed:.1f} times as fast as" if speed >= 1 else f"{1 / speed:.1f} times slower than"
        times = f"{self.bf16_s * 1e3:.1f} against {self.fp32_s * 1e3:.1f} ms a block"
        return f"bf16 is {rate} fp32 on this processor ({times}, {self.tokens} tokens)"


def choose_precision(requested: Weights, checkpoint: Path, *, tokens: int = 1024) -> Precision:
    """Decide what a checkpoint's weights are held in.

    Args:
        requested: `auto` takes the faster of fp32 and bf16. Anything else is obeyed; a `bf16` that is slow here
            has a warning.
        checkpoint: a folder with `config.json`; the shapes of its linear layers are what is measured.
        tokens: how many tokens are computed at a time.
    """
    import torch

    if requested == "fp32":
        return Precision("fp32", "fp32", "asked for")
    if torch.cuda.is_available():
        return gpu_precision(requested, torch.cuda.is_bf16_supported(including_emulation=False))
    found = measure(checkpoint, min(tokens, MAX_TOKENS))
    faster: Literal["fp32", "bf16"] = "bf16" if found.bf16_speed >= MIN_GAIN else "fp32"
    if requested == "auto":
        return Precision(faster, faster, f"auto: {found}")
    if requested == "nf4":
        return Precision("nf4", faster, f"nf4 was asked for; products in {faster}: {found}")
    slow = f"weights: bf16 was asked for, but {found}. Set weights: auto, or fp32."
    return Precision("bf16", "bf16", f"asked for; {found}", slow if found.bf16_speed < 1 / MIN_GAIN else "")


def gpu_precision(requested: Weights, has_bf16: bool) -> Precision:
    """The same on a GPU, where nothing needs measuring: bf16 if it has it, else fp16 with scaled gradients."""
    compute: Literal["bf16", "fp16"] = "bf16" if has_bf16 else "fp16"
    reason = f"the GPU has {'' if has_bf16 else 'no '}bf16"
    if requested == "auto":
        return Precision(compute, compute, f"auto: {reason}")
    if requested == "nf4":
        return Precision("nf4", compute, f"nf4 was asked for; products in {compute}: {reason}")
    emulated = "weights: bf16 was asked for, but the GPU only emulates it. Set weights: auto."
    return Precision("bf16", "bf16", "asked for", "" if has_bf16 else emulated)


@cache
def measure(checkpoint: Path, tokens: int) -> Probe:
    """The probe of this checkpoint's shapes on this machine; once, then it is kept in the model cache."""
    import torch

    shapes = linear_shapes(checkpoint)
    key = sha256_json(
        {
            "cpu": machine()["cpu"],
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "isa": torch.backends.cpu.get_cpu_capability(),
            "onednn": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
            "shapes": sorted((*shape, count) for shape, count in shapes.items()),
            "tokens": tokens,
        }
    )[:16]
    file = cache_folder() / "precision.json"
    known = _read(file)
    try:
        return Probe(**known[key])
    except (KeyError, TypeError):
        pass
    found = probe(shapes, tokens)
    try:
        write_json(file, {**known, key: asdict(found)})
    except OSError:
        say(f"[dim]{file} cannot be written; the measurement of fp32 and bf16 is not kept.[/]")
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def linear_shapes(checkpoint: Path) -> Counter[tuple[int, int]]:
    """(out, in) of every linear layer of one block, with how often it occurs; no weight is read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    layers = [
        module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head
    ]
    counts = Counter((layer.out_features, layer.in_features) for layer in layers)
    fewest = min(counts.values(), default=1)
    return Counter({shape: round(count / fewest) for shape, count in counts.items()})


def probe(shapes: Counter[tuple[int, int]], tokens: int) -> Probe:
    """Time forward and backward products of these shapes in fp32 and bf16; takes less than 3 s."""
    if not shapes:  # GPT-2 has none: fp32 it is
        return Probe(1.0, 1.0, 0)
    first = Probe(
        _seconds(shapes, FIRST_TOKENS, "float32"), _seconds(shapes, FIRST_TOKENS, "bfloat16"), FIRST_TOKENS
    )
    if tokens <= FIRST_TOKENS or first.bf16_speed < 1 / CLEARLY_SLOWER:
        return first
    return Probe(_seconds(shapes, tokens, "float32"), _seconds(shapes, tokens, "bfloat16"), tokens)


def _seconds(shapes: Counter[tuple[int, int]], tokens: int, dtype: str) -> float:
    """The shorter of two passes through each shape, added up; larger matrices are cut to MAX_SIZE and scaled."""
    import torch

    kind = getattr(torch, dtype)
    seconds: dict[tuple[int, int], float] = {}
    total = 0.0
    for (size_out, size_in), count in shapes.items():
        cut = min(size_out, MAX_SIZE), min(size_in, MAX_SIZE)
        if cut not in seconds:
            x, weight = torch.randn(tokens, cut[1]).to(kind), torch.randn(cut).to(kind)
            seconds[cut] = min(_one_pass(x, weight), _one_pass(x, weight))
        total += count * seconds[cut] * (size_out * size_in) / (cut[0] * cut[1])
    return total


def _one_pass(x: Any, weight: Any) -> float:
    """Seconds of y = x Wᵀ, and of the gradient of x, which is all that LoRA asks of a frozen weight."""
    start = time.perf_counter()
    y = x @ weight.T
    y @ weight
    return time.perf_counter() - start
