"""Adding LoRA adapters into their full-precision base, and proving that the sum says what the adapters said.

W' = W + (alpha / r) · B A for each adapted matrix (Hu et al., arXiv 2106.09685, section 4.1). Several adapters
on one base add up exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.tensor_files import stored_tensors
from empathy_edge.models.find import ModelRef
from empathy_edge.system.files import read_json

_PREFIX = "base_model.model."

Factors = tuple[np.ndarray, np.ndarray, float]
"""A [r, in], B [out, r] and the scale of their product."""


def adapter_deltas(adapter: Path) -> dict[str, Factors]:
    """What a PEFT adapter folder changes: parameter name → (A [r, in], B [out, r], scale), in float32.

    Raises:
        EmpathyEdgeError: not a plain LoRA adapter in safetensors.
    """
    config = read_json(adapter / "adapter_config.json")
    unsupported = [key for key in ("use_dora", "rank_pattern", "alpha_pattern") if config.get(key)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or unsupported:
        raise EmpathyEdgeError(
            f"{adapter}: is not a plain LoRA adapter ({', '.join(unsupported) or 'type'})."
        )
    if not (adapter / "adapter_model.safetensors").is_file():
        raise EmpathyEdgeError(f"{adapter}: no adapter_model.safetensors in it.")
    rank = config["r"] ** 0.5 if config.get("use_rslora") else config["r"]
    scale = config["lora_alpha"] / rank
    tensors = stored_tensors(adapter)
    deltas = {}
    for name, down in tensors.items():
        if name.endswith(".lora_A.weight"):
            up = tensors.get(name.replace(".lora_A.", ".lora_B."))
            if up is None or len(up.shape) != 2 or len(down.shape) != 2 or up.shape[1] != down.shape[0]:
                raise EmpathyEdgeError(f"{adapter}: {name} has no B matrix that fits it.")
            target = name.removeprefix(_PREFIX).replace(".lora_A.weight", ".weight")
            deltas[target] = (down.load(), up.load(), scale)
    return deltas


def join(adapters: list[Path]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Several adapters as one: parameter name → A [ranks, in], B [out, ranks], whose product is the sum of all changes.

    The sum of adapters on one base is exact by concatenation: [B1·s1, B2·s2] [A1; A2]. Where rank 8 and rank 8 meet, the joint
    rank is 16.
    """
    parts: dict[str, list[Factors]] = {}
    for adapter in adapters:
        for name, factors in adapter_deltas(adapter).items():
            parts.setdefault(name, []).append(factors)
    return {
        name: (
            np.concatenate([down for down, _, _ in factors], axis=0),
            np.concatenate([up * np.float32(scale) for _, up, scale in factors], axis=1),
        )
        for name, factors in parts.items()
    }


def change_of_weights(
    adapters: list[Path], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, list[Factors]]:
    """What several adapters change together: parameter name → their factors, in order.

    Raises:
        EmpathyEdgeError: an adapter names a matrix that the base lacks, or has in another shape.
    """
    together: dict[str, list[Factors]] = {}
    for adapter in adapters:
        for name, (down, up, scale) in adapter_deltas(adapter).items():
            if shapes.get(name) != (up.shape[0], down.shape[1]):
                raise EmpathyEdgeError(
                    f"{adapter}: changes {name}, which the base does not have in this shape."
                )
            together.setdefault(name, []).append((down, up, scale))
    return together


def add_adapters(model: Any, adapters: list[Path]) -> None:
    """Add each adapter's change to `model`'s fp32 weights, in place.

    Raises:
        EmpathyEdgeError: the model is not fp32, or an adapter names a matrix that the model lacks.
    """
    import torch

    parameters = dict(model.named_parameters())
    changes = change_of_weights(adapters, {name: tuple(weight.shape) for name, weight in parameters.items()})
    for name, factors in changes.items():
        weight = parameters[name]
        if weight.dtype != torch.float32:
            raise EmpathyEdgeError("Adapters are merged into a full-precision base only (fp32).")
        with torch.no_grad():
            for down, up, scale in factors:
                weight += scale * (torch.from_numpy(up) @ torch.from_numpy(down))


def require_same_base(adapters: list[Path], base: ModelRef) -> None:
    """Refuse adapters that our own `finetune` made for another base; one from elsewhere has no record and passes.

    Raises:
        EmpathyEdgeError: names the adapter and both bases.
    """
    for adapter in adapters:
        record = adapter.parent / "manifest.json"
        trained_on = read_json(record).get("settings", {}).get("base_sha256") if record.is_file() else None
        if trained_on not in (None, base.sha256):
            raise EmpathyEdgeError(
                f"{adapter}: was trained on another base than {base.name} ({trained_on[:12]}, not {base.sha256[:12]}); "
                "give the one it was trained on."
            )


def adapter_model(base: Path, adapters: list[Path]) -> Any:
    """The base with its adapters beside it, unmerged, in fp32: what a merge is compared with (PEFT)."""
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
