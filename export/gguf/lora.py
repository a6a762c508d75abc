"""PEFT adapters as one GGUF LoRA for llama.cpp, to be laid on the very base that they were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.lora import adapter_deltas
from empathy_edge.run import read_json

from .families import family_of, tensor_names
from .writer import change_of, new_gguf


def write_lora(checkpoint: Path, adapters: list[Path], file: Path, kind: str = "f16") -> int:
    """Join adapters into one GGUF LoRA; returns its rank.

    The sum of several adapters on one base is exact by concatenation: [B1·s1, B2·s2] [A1; A2]. Where rank 8 and rank 8 meet,
    the joint rank is 16.

    Args:
        checkpoint: the base's checkpoint folder, for its names and shapes.
        adapters: PEFT folders, in the order of training.
        file: what is written, whole or not at all.
        kind: `f16`, or `q8_0` where the rows allow it.

    Raises:
        EmpathyEdgeError: an adapter changes something that llama.cpp does not adapt.
    """
    require_extra("gguf", "gguf", "Writing a GGUF adapter")
    import gguf

    config = read_json(checkpoint / "config.json")
    family = family_of(checkpoint, config)
    names = tensor_names(family, config)
    downs: dict[str, list[np.ndarray]] = {}
    ups: dict[str, list[np.ndarray]] = {}
    for adapter in adapters:
        for target, (down, up, scale) in adapter_deltas(adapter).items():
            downs.setdefault(target, []).append(down)
            ups.setdefault(target, []).append(up * scale)
    with new_gguf(file, family.arch) as writer:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        ranks = {target: sum(len(part) for part in parts) for target, parts in downs.items()}
        rank = max(ranks.values())
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(rank))
        for target in downs:
            name = names.get_name(target, try_suffixes=(".weight",))
            if name is None:
                raise EmpathyEdgeError(f"{adapters[0]}: changes {target}, which GGUF has no name for.")
            # llama.cpp scales by alpha / rank of each matrix; the adapters' own scales are in B already.
            up = np.concatenate(ups[target], axis=1) * np.float32(ranks[target] / rank)
            change = change_of(target, config, family)
            _add(writer, f"{name}.lora_a", np.concatenate(downs[target], axis=0), kind)
            _add(writer, f"{name}.lora_b", up if change is None else change(up), kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    return rank


def _add(writer: Any, name: str, values: np.ndarray, kind: str) -> None:
    """Add one factor; B's rows are as short as the rank, and stay in F16 where blocks of 32 do not fit."""
    import gguf

    if kind == "q8_0" and values.shape[1] % 32 == 0:
        stored = gguf.quants.quantize(values.astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, stored, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    else:
        writer.add_tensor(name, values.astype(np.float16))
