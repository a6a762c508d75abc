"""LoRA adapters in PEFT's format: reading them, and adding them to a full-precision base.

W' = W + (alpha / r) · B A for each adapted matrix (Hu et al., arXiv 2106.09685, section 4.1). The changes of
several adapters on one base add up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.tensor_files import stored_tensors
from empathy_edge.models.find import ModelRef
from empathy_edge.system.files import read_json, read_json_object

_PREFIX = "base_model.model."


class Factors(NamedTuple):
    """One adapter's change of one matrix: scale · up @ down.

    Attributes:
        down: A, float32 [r, in].
        up: B, float32 [out, r].
        scale: alpha / r; with rsLoRA (arXiv 2312.03732) alpha / √r.
    """

    down: np.ndarray
    up: np.ndarray
    scale: float


class JointFactors(NamedTuple):
    """The change of one matrix by several adapters: up @ down, the scales included.

    Attributes:
        down: float32 [sum of the ranks, in].
        up: float32 [out, sum of the ranks].
    """

    down: np.ndarray
    up: np.ndarray


def adapter_deltas(adapter: Path) -> dict[str, Factors]:
    """What a PEFT adapter folder changes, by the name of the parameter.

    Raises:
        EmpathyEdgeError: not a plain LoRA adapter in safetensors.
    """
    scale = _scale_of(adapter)
    if not (adapter / "adapter_model.safetensors").is_file():
        raise EmpathyEdgeError(f"{adapter}: no adapter_model.safetensors in it.")
    tensors = stored_tensors(adapter)
    deltas = {}
    used = set()
    for name, down in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        up = tensors.get(name.replace(".lora_A.", ".lora_B."))
        if up is None or len(up.shape) != 2 or len(down.shape) != 2 or up.shape[1] != down.shape[0]:
            raise EmpathyEdgeError(f"{adapter}: {name} has no B matrix that fits it.")
        target = name.removeprefix(_PREFIX).replace(".lora_A.weight", ".weight")
        deltas[target] = Factors(down.load(), up.load(), scale)
        used |= {name, name.replace(".lora_A.", ".lora_B.")}
    unused = sorted(set(tensors) - used)
    if unused:
        raise EmpathyEdgeError(
            f"{adapter}: holds {len(unused)} tensors that are no LoRA of a matrix (the first: {unused[0]}).\n"
            "  Merge it with PEFT (merge_and_unload) and give the merged checkpoint."
        )
    return deltas


def _scale_of(adapter: Path) -> float:
    """The scale of B A, from the adapter's configuration.

    Raises:
        EmpathyEdgeError: an adapter of another kind, or with options that are not supported.
    """
    config = read_json_object(adapter / "adapter_config.json")
    unsupported = [key for key in ("use_dora", "rank_pattern", "alpha_pattern") if config.get(key)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or unsupported:
        raise EmpathyEdgeError(
            f"{adapter}: is not a plain LoRA adapter ({', '.join(unsupported) or 'type'})."
        )
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not (_is_positive(rank) and isinstance(alpha, int | float) and math.isfinite(alpha)):
        raise EmpathyEdgeError(
            f"{adapter}: adapter_config.json needs a rank r above 0 and a number lora_alpha "
            f"(found: {rank!r} and {alpha!r})."
        )
    return alpha / rank**0.5 if config.get("use_rslora") else alpha / rank


def _is_positive(rank: Any) -> TypeGuard[int]:
    return isinstance(rank, int) and not isinstance(rank, bool) and 0 < rank < 2**31


def change_of_weights(
    adapters: list[Path], shapes: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, list[Factors]]:
    """What several adapters change together, by the name of the parameter.

    Args:
        adapters: PEFT folders.
        shapes: the base's parameters; None leaves the check out.

    Returns:
        For each parameter the factors of each adapter that changes it, in the order of `adapters`.

    Raises:
        EmpathyEdgeError: an adapter names a matrix that the base lacks, or has in another shape.
    """
    together: dict[str, list[Factors]] = {}
    for adapter in adapters:
        for name, factors in adapter_deltas(adapter).items():
            down, up, _ = factors
            if shapes is not None and shapes.get(name) != (up.shape[0], down.shape[1]):
                raise EmpathyEdgeError(
                    f"{adapter}: changes {name}, which the base does not have in this shape."
                )
            together.setdefault(name, []).append(factors)
    return together


def join(adapters: list[Path]) -> dict[str, JointFactors]:
    """Several adapters as one, by the name of the parameter.

    Concatenation makes the sum exact: [B1·s1, B2·s2] [A1; A2]. Two adapters of rank 8 become one of rank 16.
    """
    joined = {}
    for name, factors in change_of_weights(adapters).items():
        all_down = [down for down, _, _ in factors]
        all_scaled_up = [up * np.float32(scale) for _, up, scale in factors]
        joined[name] = JointFactors(np.concatenate(all_down, axis=0), np.concatenate(all_scaled_up, axis=1))
    return joined


def add_adapters(model: Any, adapters: list[Path]) -> None:
    """Add each adapter's change to the fp32 weights of `model` (a torch module), in place.

    Raises:
        EmpathyEdgeError: the model is not fp32, or an adapter names a matrix that the model lacks.
    """
    import torch

    parameters = dict(model.named_parameters())
    shapes = {name: tuple(weight.shape) for name, weight in parameters.items()}
    changes = change_of_weights(adapters, shapes)
    for name, factors in changes.items():
        weight = parameters[name]
        if weight.dtype != torch.float32:
            raise EmpathyEdgeError("Adapters are merged into a full-precision base only (fp32).")
        with torch.no_grad():
            for down, up, scale in factors:
                weight += scale * (torch.from_numpy(up) @ torch.from_numpy(down))


def require_same_base(adapters: list[Path], base: ModelRef) -> None:
    """Refuse adapters that `finetune` made for another base; others have no record of it and pass.

    Raises:
        EmpathyEdgeError: names the adapter and both bases.
    """
    for adapter in adapters:
        record = adapter.parent / "manifest.json"
        trained_on = read_json(record).get("settings", {}).get("base_sha256") if record.is_file() else None
        if trained_on not in (None, base.sha256):
            raise EmpathyEdgeError(
                f"{adapter}: was trained on another base than {base.name} "
                f"({trained_on[:12]}, not {base.sha256[:12]}); give the one it was trained on."
            )


def adapter_model(base: Path, adapters: list[Path]) -> Any:
    """The base in fp32 with its adapters unmerged, by PEFT: what a merge is compared with."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    names = [f"step{index}" for index in range(len(adapters))]
    wrapped = PeftModel.from_pretrained(model, adapters[0], adapter_name=names[0])
    for name, adapter in zip(names[1:], adapters[1:], strict=True):
        wrapped.load_adapter(adapter, adapter_name=name)
    wrapped.base_model.set_adapter(names)
    return wrapped.eval()
