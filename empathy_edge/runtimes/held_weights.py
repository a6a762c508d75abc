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
from empathy_edge.errors import PrerequisiteError
from empathy_edge.formats.tensor_files import stored_tensors
from empathy_edge.models.merging import merge_into
from empathy_edge.system.device import free_on
from empathy_edge.system.free_memory import free_memory_mb
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

    held = None if adapters else held_dtype(folder, device)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=held or torch.float32,
        local_files_only=True,
        trust_remote_code=False,
    )
    model = merge_into(model, adapters).eval()
    if device != "cpu":
        model = model.to(device)
    if held:
        compute_in_fp32(model)  # after the move: copies in fp32 are made where the weights are
    return model


def load_whole_in_fp32(folder: Path, device: str, what: str, advice: str) -> Any:
    """As `load_in_fp32`, but with all weights in fp32: for what reads or changes them.

    Args:
        folder: a full-precision checkpoint.
        device: as torch names it.
        what: the work, and
        advice: what else a user can do, both for the message of `require_memory`.

    Raises:
        PrerequisiteError: they do not fit into memory.
    """
    import torch
    from transformers import AutoModelForCausalLM

    require_fp32(folder, what, advice)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    return model.eval().to(device)


def require_fp32(folder: Path, what: str, advice: str) -> None:
    """Refuse work for which a checkpoint's weights in fp32 do not fit; arguments as for `require_memory`.

    Raises:
        PrerequisiteError: says how much is needed, and how much is free.
    """
    needed_mb = fp32_size_mb(folder) + LIBRARIES_MB
    require_memory(needed_mb, needed_mb, what, advice)


def fp32_size_mb(folder: Path) -> float:
    """The size of a checkpoint's weights in fp32, in MB (10^6 bytes)."""
    tensors = stored_tensors(folder).values()
    return sum(4 * math.prod(tensor.shape) for tensor in tensors if tensor.is_float) / 1e6


def held_dtype(folder: Path, device: str = "cpu") -> Any:
    """torch's bf16 or fp16, where weights stay as they are stored since a copy in fp32 does not fit; or None.

    Weights that are stored in fp32 are mapped from the file, and the system drops their pages when it needs
    memory. Says so where they stay.
    """
    import torch

    tensors = [tensor for tensor in stored_tensors(folder).values() if tensor.is_float]
    kinds = {tensor.dtype for tensor in tensors}
    fp32_mb = fp32_size_mb(folder)
    free_mb = min(free_on(device), free_memory_mb())
    if kinds not in ({"BF16"}, {"F16"}) or fp32_mb + LIBRARIES_MB <= SHARE_FOR_WEIGHTS * free_mb:
        return None
    largest_mb = max(4 * math.prod(tensor.shape) for tensor in tensors) / 1e6
    needed_mb = LIBRARIES_MB + 2 * largest_mb
    require_memory(needed_mb, needed_mb, f"running {folder.name}", "take a smaller model")
    stored_mb = sum(tensor.nbytes for tensor in tensors) / 1e6
    say(
        f"  The checkpoint {folder.name}: its weights need {fp32_mb / 1e3:.1f} GB in fp32, and "
        f"{free_mb / 1e3:.1f} GB are free; they stay as they are stored ({stored_mb / 1e3:.1f} GB), "
        "which takes longer."
    )
    return torch.bfloat16 if kinds == {"BF16"} else torch.float16


def compute_in_fp32(model: Any) -> None:
    """Let a model in half precision compute in fp32.

    The weights of linear layers and experts, nearly all there are, are converted while their module runs, and
    no longer. All others are converted for good, and so are those of a module that its parent does not call
    but reads, as the convolution of LFM2. Buffers are made again in fp32.
    """
    _make_buffers_again(model)
    hooks: dict[Any, list[Any]] = {}
    buffers: Buffers = {}
    for module in model.modules():
        if not _has_half(module):
            continue
        if type(module).__name__ == "Embedding":  # its rows are exact in either format
            hooks[module] = [module.register_forward_hook(lambda _module, _inputs, output: output.float())]
        elif _is_large(module):
            # A module inside another one would overwrite the other's weights of the same shape.
            is_leaf = not any(module.children())
            before = module.register_forward_pre_hook(partial(_widen, buffers if is_leaf else None))
            hooks[module] = [before, module.register_forward_hook(_narrow, always_call=True)]
        else:
            _convert(module)
    for module in _not_called(model, list(hooks)):
        for hook in hooks[module]:
            hook.remove()
        _convert(module)


def _has_half(module: Any) -> bool:
    return any(_is_half(parameter) for parameter in module.parameters(recurse=False))


def _is_large(module: Any) -> bool:
    """Whether it is a linear layer, or has the matrices of several experts."""
    import torch

    experts = any(parameter.dim() == 3 for parameter in module.parameters(recurse=False))
    return isinstance(module, torch.nn.Linear) or (experts and not isinstance(module, torch.nn.Conv1d))


def _convert(module: Any) -> None:
    for parameter in module.parameters(recurse=False):
        if _is_half(parameter):
            parameter.data = parameter.data.float()


def _make_buffers_again(model: Any) -> None:
    """Replace buffers that were rounded to half precision, as the scale of Gemma's embeddings."""
    import torch
    from accelerate import init_empty_weights

    halves = {name: buffer for name, buffer in model.named_buffers() if _is_half(buffer)}
    if not halves:
        return
    with init_empty_weights(include_buffers=False):
        exact = dict(type(model)._from_config(model.config, dtype=torch.float32).named_buffers())
    for name, buffer in halves.items():
        parent, _, own = name.rpartition(".")
        made = exact.get(name)
        value = buffer.float() if made is None or made.device.type == "meta" else made
        setattr(model.get_submodule(parent), own, value.to(buffer.device))


def _not_called(model: Any, modules: list[Any]) -> list[Any]:
    """The modules that a pass through the model does not call.

    Raises:
        PrerequisiteError: the model cannot compute so; it needs its weights in fp32.
    """
    import torch

    called: set[Any] = set()
    marks = [
        module.register_forward_pre_hook(lambda module, _inputs: called.add(module)) for module in modules
    ]
    try:
        with torch.inference_mode():
            model(input_ids=torch.tensor([[0, 1]], device=model.device), use_cache=False)
    except RuntimeError as error:
        raise PrerequisiteError(
            f"{type(model).__name__} computes only with all its weights in fp32, for which there is too "
            f"little memory ({str(error)[:80]}).",
            "Close other programs, or take a machine with more memory.",
        ) from None
    finally:
        for mark in marks:
            mark.remove()
    return [module for module in modules if module not in called]


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
