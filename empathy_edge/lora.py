"""Adding LoRA adapters into their full-precision base, and proving that the sum says what the adapters said.

W' = W + (alpha / r) · B A for each adapted matrix (Hu et al., arXiv 2106.09685, section 4.1). Several adapters
on one base add up exactly.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.run import read_json

if TYPE_CHECKING:
    import torch

_PREFIX = "base_model.model."


def adapter_deltas(adapter: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor, float]]:
    """What a PEFT adapter folder changes: parameter name → (A [r, in], B [out, r], scale), in fp32.

    Raises:
        EmpathyEdgeError: not a plain LoRA adapter in safetensors.
    """
    from safetensors.torch import load_file

    config = read_json(adapter / "adapter_config.json")
    unsupported = [key for key in ("use_dora", "rank_pattern", "alpha_pattern") if config.get(key)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or unsupported:
        raise EmpathyEdgeError(f"{adapter}: is not a plain LoRA adapter ({', '.join(unsupported) or 'type'}).")
    weights = adapter / "adapter_model.safetensors"
    if not weights.is_file():
        raise EmpathyEdgeError(f"{adapter}: no adapter_model.safetensors in it.")
    rank = config["r"] ** 0.5 if config.get("use_rslora") else config["r"]
    scale = config["lora_alpha"] / rank
    tensors = load_file(weights)
    deltas = {}
    for name, down in tensors.items():
        if name.endswith(".lora_A.weight"):
            up = tensors[name.replace(".lora_A.", ".lora_B.")]
            target = name.removeprefix(_PREFIX).replace(".lora_A.weight", ".weight")
            deltas[target] = (down.float(), up.float(), scale)
    return deltas


def add_adapters(model: Any, adapters: list[Path]) -> None:
    """Add each adapter's change to `model`'s fp32 weights, in place.

    Raises:
        EmpathyEdgeError: the model is not fp32, or an adapter names a matrix that the model lacks.
    """
    import torch

    parameters = dict(model.named_parameters())
    for adapter in adapters:
        for name, (down, up, scale) in adapter_deltas(adapter).items():
            weight = parameters.get(name)
            if weight is None or weight.shape != (up.shape[0], down.shape[1]):
                raise EmpathyEdgeError(f"{adapter}: changes {name}, which the base does not have in this shape.")
            if weight.dtype != torch.float32:
                raise EmpathyEdgeError("Adapters are merged into a full-precision base only (fp32).")
            with torch.no_grad():
                weight += scale * (up @ down)


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
