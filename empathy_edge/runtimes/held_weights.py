"""A checkpoint that answers in fp32, also where a copy of its weights in fp32 does not fit into memory.

There the weights stay as they are stored (bf16, mapped from the file), and each layer's are converted while
it computes. The answers are the same; each pass takes longer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from empathy_edge.console import say
from empathy_edge.formats.tensor_files import stored_tensors
from empathy_edge.models.merging import merge_into
from empathy_edge.system.device import free_on
from empathy_edge.system.machine import require_memory

LIBRARIES_MB = 700
"""torch, transformers, a tokenizer, and what is computed."""

Buffers = dict[tuple[str, tuple[int, ...]], Any]
"""Memory in fp32 by a parameter's own name, as `weight`, and its shape."""

MAX_BUFFER_BYTES = 256 * 2**20
"""Larger copies, of embeddings as the output, are freed after each use."""

SHARE_FOR_WEIGHTS = 0.7
"""Of the free memory, at most this share is taken by weights in fp32: other parts need memory, too."""


def load_in_fp32(folder: Path, device: str = "cpu", adapters: Sequence[Path] = ()) -> Any:
    """A causal language model of transformers whose products are computed in fp32.

    Args:
        folder: a full-precision checkpoint.
        device: as torch names it.
        adapters: PEFT folders, which are merged into weights in fp32.

    Raises:
        PrerequisiteError: not even one layer's weights in fp32 fit beside the libraries.
    """
    import torch
    from transformers import AutoModelForCausalLM

    is_converted = not adapters and converts_by_layer(folder, device)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype="auto" if is_converted else torch.float32,
        local_files_only=True,
        trust_remote_code=False,
    )
    model = merge_into(model, adapters).eval()
    if is_converted:
        compute_in_fp32(model)
    return model if device == "cpu" else model.to(device)


def fp32_size_mb(folder: Path) -> float:
    """The size of a checkpoint's weights in fp32, in MB (10^6 bytes)."""
    tensors = stored_tensors(folder).values()
    return sum(4 * math.prod(tensor.shape) for tensor in tensors if tensor.is_float) / 1e6


def converts_by_layer(folder: Path, device: str = "cpu") -> bool:
    """Whether the weights stay as they are stored, for a copy in fp32 does not fit; says so.

    Weights that are stored in fp32 are mapped from the file, and the system drops their pages when it needs
    memory.
    """
    tensors = [tensor for tensor in stored_tensors(folder).values() if tensor.is_float]
    fp32_mb = fp32_size_mb(folder)
    stored_mb = sum(tensor.nbytes for tensor in tensors) / 1e6
    if stored_mb >= fp32_mb:
        return False
    free_mb = free_on(device)
    if fp32_mb + LIBRARIES_MB <= SHARE_FOR_WEIGHTS * free_mb:
        return False
    largest_mb = max(4 * math.prod(tensor.shape) for tensor in tensors) / 1e6
    if device == "cpu":
        needed_mb = LIBRARIES_MB + 2 * largest_mb
        require_memory(needed_mb, needed_mb, f"running {folder.name}", "take a smaller model")
    say(
        f"  The checkpoint {folder.name}: its weights need {fp32_mb / 1e3:.1f} GB in fp32, and "
        f"{free_mb / 1e3:.1f} GB are free; they stay as they are stored ({stored_mb / 1e3:.1f} GB), "
        "which takes longer."
    )
    return True


def compute_in_fp32(model: Any) -> None:
    """Convert each module's half-precision weights to fp32 while it runs, and no longer."""
    import torch

    buffers: Buffers = {}
    for module in model.modules():
        halves = [item for item in module.parameters(recurse=False) if _is_half(item)]
        if not halves:
            continue
        if type(module) is torch.nn.Embedding:  # its rows are exact in either format
            module.register_forward_hook(lambda _module, _inputs, output: output.float())
        else:
            # A module inside another one would overwrite the other's weights of the same shape.
            is_leaf = not any(module.children())
            module.register_forward_pre_hook(partial(_widen, buffers if is_leaf else None))
            module.register_forward_hook(_narrow, always_call=True)


def _is_half(parameter: Any) -> bool:
    import torch

    return parameter.dtype in (torch.bfloat16, torch.float16)


def _widen(buffers: Buffers | None, module: Any, _inputs: Any) -> None:
    module.stored_weights = {}
    for name, parameter in module.named_parameters(recurse=False):
        if _is_half(parameter):
            module.stored_weights[name] = parameter.data
            parameter.data = _in_fp32(name, parameter.data, buffers)


def _in_fp32(name: str, weight: Any, buffers: Buffers | None) -> Any:
    """A copy in fp32; in memory that is used again, since new memory costs more than the conversion."""
    import torch

    if buffers is None or 4 * weight.numel() > MAX_BUFFER_BYTES:
        return weight.float()
    key = (name, tuple(weight.shape))
    if key not in buffers:
        buffers[key] = torch.empty_like(weight, dtype=torch.float32)
    return buffers[key].copy_(weight)


def _narrow(module: Any, _inputs: Any, _output: Any) -> None:
    for name, stored in module.__dict__.pop("stored_weights", {}).items():
        getattr(module, name).data = stored
