"""Four bits for ONNX Runtime GenAI from weights that are in Q4_0 already.

The builder's default rounding (symmetric, blocks of 32, the extreme weight at the end of the longer side) is
Q4_0's own. Weights that Q4_0 can represent exactly therefore stay as they are: those that GPTQ rounded for a
GGUF, or those of a base that was trained on as deployed in Q4_0. The builder's other algorithms (rtn,
k_quant) round to other grids.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.gguf.tensor_types import type_name
from empathy_edge.formats.gguf_header import tensors_of
from empathy_edge.formats.tensor_files import write_safetensors
from empathy_edge.models.lora import join
from empathy_edge.system.files import write_json

BUILDER_OPTIONS: dict[str, object] = {
    "block_size": 32,
    "is_symmetric": True,
    "matmul_mixed_precision": "last_matmul:int8",
}
"""Q4_0's grid; the embeddings, which are the output matrix as well, in eight bits, as the GGUF has them."""


def require_q4_0(gguf: Path) -> None:
    """Refuse a base whose layers are not in Q4_0: the builder would round it once more.

    Raises:
        EmpathyEdgeError: names a tensor and its type.
    """
    for name, place in tensors_of(gguf).items():
        is_layers_matrix = name.startswith("blk.") and len(place.shape) == 2
        if is_layers_matrix and type_name(place.kind) != "q4_0":
            raise EmpathyEdgeError(
                f"{gguf}: {name} is {type_name(place.kind).upper()}, and ONNX would round it once more. An "
                "adapter beside a four-bit base in ONNX needs a base that was trained on as deployed in Q4_0 "
                "(as_deployed: gguf-q4_0 in the recipe)."
            )


def write_joint_adapter(adapters: list[Path], out: Path) -> dict[str, object]:
    """Write several PEFT adapters as one, for the builder, which takes one; returns the builder's options.

    The options keep the adapter's matrices out of the four bits, by the names that the builder gives nodes.
    """
    joined = join(adapters)
    rank = max(len(down) for down, _ in joined.values())
    tensors: dict[str, np.ndarray] = {}
    for name, (down, up) in joined.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        missing = rank - len(down)
        tensors[f"{stem}.lora_A.weight"] = np.pad(down, ((0, missing), (0, 0)))
        tensors[f"{stem}.lora_B.weight"] = np.pad(up, ((0, 0), (0, missing)))
    shapes = {name: values.shape for name, values in tensors.items()}
    write_safetensors(out / "adapter_model.safetensors", shapes, ([values] for values in tensors.values()))
    modules = [name.removesuffix(".weight") for name in joined]
    write_json(out / "adapter_config.json", _config(rank, modules))
    nodes = []
    for name in joined:
        stem = _node_stem(name)
        nodes += [f"{stem}/lora_A/MatMul", f"{stem}/lora_B/MatMul"]
    return {"adapter_path": out, "nodes_to_exclude": ",".join(nodes)}


def _config(rank: int, modules: list[str]) -> dict[str, object]:
    """PEFT's configuration of the joint adapter; its matrices hold the scales of all adapters already.

    Nothing comes from the adapters' own: their scales, and their choice of layers, would count once more.
    """
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "use_rslora": False,
        "target_modules": sorted(modules),
        "bias": "none",
        "inference_mode": True,
    }


def _node_stem(name: str) -> str:
    """model.layers.0.self_attn.q_proj.weight → /model/layers.0/attn/q_proj, as the builder names nodes."""
    stem = "/" + name.removesuffix(".weight").replace("self_attn", "attn")
    return re.sub(r"[.](?![0-9])", "/", stem)
