"""PEFT adapters as one GGUF LoRA for llama.cpp, for use with exactly the base that they were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.export.gguf.families import family_of, read_config, tensor_names
from empathy_edge.export.gguf.writer import name_in_language_model, new_gguf, transform_of
from empathy_edge.models.lora import join


def write_lora(checkpoint: Path, adapters: list[Path], file: Path, kind: str = "f16") -> int:
    """Write adapters, joined into one, as a GGUF LoRA; returns its rank.

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

    config = read_config(checkpoint)
    family = family_of(checkpoint, config)
    names = tensor_names(family, config)
    joined = join(adapters)
    with new_gguf(file, family.arch) as writer:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        rank = max(len(down) for down, _ in joined.values())
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(rank))
        for target, (down, up) in joined.items():
            key = name_in_language_model(target)
            name = names.get_name(key, try_suffixes=(".weight",)) if key else None
            if key is None or name is None:
                raise EmpathyEdgeError(f"{adapters[0]}: changes {target}, which GGUF has no name for.")
            # llama.cpp scales by alpha / rank of each matrix; the adapters' own scales are in B already.
            up = up * np.float32(len(down) / rank)
            transform = transform_of(key, config, family)
            _add_factor(writer, f"{name}.lora_a", down, kind)
            _add_factor(writer, f"{name}.lora_b", up if transform is None else transform(up), kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    return rank


def _add_factor(writer: Any, name: str, values: np.ndarray, kind: str) -> None:
    """Add A or B; B's rows are as long as the rank, and stay in F16 where blocks of 32 do not fit."""
    import gguf

    if kind == "q8_0" and values.shape[1] % 32 == 0:
        q8_0 = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(values.astype(np.float32), q8_0), raw_dtype=q8_0)
    else:
        writer.add_tensor(name, values.astype(np.float16))
