"""Four bits for ONNX Runtime GenAI that keep the fine-tune: weights that lie on Q4_0's grid go over as they are.

The builder's default rounding (symmetric, blocks of 32, the extreme weight at the end of the longer side) is Q4_0's own. So what was
rounded with error compensation for GGUF, or a base that was trained on as deployed in Q4_0, is the same model in ONNX. Its other
algorithms (rtn, k_quant) round to other grids.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.gguf.families import family_of, tensor_names
from empathy_edge.export.gguf.writer import change_of
from empathy_edge.formats.gguf_header import TensorPlace, tensors_of
from empathy_edge.formats.tensor_files import StoredTensor, stored_tensors, write_safetensors
from empathy_edge.models.lora import join
from empathy_edge.system.files import read_json, write_json

BUILDER_OPTIONS = {"block_size": 32, "is_symmetric": True, "matmul_mixed_precision": "last_matmul:int8"}
"""Q4_0's grid; and the embeddings, which are the output matrix as well, in eight bits, as the GGUF has them."""


def require_q4_0(gguf: Path) -> None:
    """Refuse a base whose layers are not in Q4_0: the builder would round it once more.

    Raises:
        EmpathyEdgeError: names a tensor and its type.
    """
    for name, place in tensors_of(gguf).items():
        if name.startswith("blk.") and len(place.shape) == 2 and _kind(place).name != "Q4_0":
            raise EmpathyEdgeError(
                f"{gguf}: {name} is {_kind(place).name}, and ONNX would round it once more. An adapter beside a four-bit base in "
                "ONNX needs a base that was trained on as deployed in Q4_0 (as_deployed: gguf-q4_0 in the recipe)."
            )


def write_rounded(checkpoint: Path, gguf: Path, out: Path) -> None:
    """Write `checkpoint` with its layers' matrices as `gguf` has rounded them: a folder that can be loaded."""
    import gguf as library

    config = read_json(checkpoint / "config.json")
    family = family_of(checkpoint, config)
    names, places = tensor_names(family, config), tensors_of(gguf)

    def values(key: str, tensor: StoredTensor) -> Iterator[np.ndarray]:
        place = places.get(names.get_name(key, try_suffixes=(".weight", ".bias")) or "")
        if place is None or not key.startswith("model.layers.") or len(tensor.shape) != 2:
            yield from tensor.chunks()
            return
        rows = tensor.shape[0]
        with open(gguf, "rb") as handle:
            handle.seek(place.begin)
            data = np.frombuffer(handle.read(place.nbytes), np.uint8).reshape(rows, -1)
        weights = library.quants.dequantize(data, _kind(place))
        change = change_of(key, config, family)
        yield weights if change is None else weights[np.argsort(change(np.arange(rows)[:, None])[:, 0])]

    tensors = stored_tensors(checkpoint)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    write_safetensors(out / "model.safetensors", shapes, (values(*item) for item in tensors.items()))
    for file in checkpoint.iterdir():
        if file.suffix in (".json", ".jinja") and not file.name.endswith(".index.json"):
            shutil.copyfile(file, out / file.name)


def write_joint_adapter(adapters: list[Path], out: Path) -> dict[str, Any]:
    """Write several PEFT adapters as one, for the builder, which takes one; returns the builder's options.

    The adapter's own matrices are left out of the four bits; its nodes are named as the builder names them.
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
    config: dict[str, Any] = json.loads((adapters[0] / "adapter_config.json").read_text(encoding="utf-8"))
    modules = sorted({name.removesuffix(".weight").rpartition(".")[2] for name in joined})
    settings = {"r": rank, "lora_alpha": rank, "use_rslora": False, "target_modules": modules}
    write_json(out / "adapter_config.json", config | settings)
    stems = ("/" + name.removesuffix(".weight").replace("self_attn", "attn") for name in joined)
    nodes = [
        f"{re.sub(r'[.](?![0-9])', '/', stem)}/{half}/MatMul"
        for stem in stems
        for half in ("lora_A", "lora_B")
    ]
    return {"adapter_path": out, "nodes_to_exclude": ",".join(nodes)}


def _kind(place: TensorPlace) -> Any:
    import gguf

    return gguf.GGMLQuantizationType(place.kind)
