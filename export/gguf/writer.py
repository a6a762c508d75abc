"""A checkpoint as GGUF, streamed: tensors go from safetensors into the file a few megabytes at a time, without torch.

The layout is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; names and constants come from the package `gguf`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.export.gguf.families import Family, family_of, tensor_names, write_config
from empathy_edge.export.gguf.vocabulary import name_for_llama_cpp, write_vocabulary
from empathy_edge.formats.tensor_files import StoredTensor, stored_tensors
from empathy_edge.system.files import read_json

FLOATS = ("f16", "f32", "bf16")
"""What a checkpoint is written as; every other type is quantized from the first."""

Change = Callable[[np.ndarray], np.ndarray]


def write_float(checkpoint: Path, file: Path, kind: str = "f16") -> None:
    """Write `checkpoint` (a folder of safetensors) as GGUF; vectors (norms, biases) stay in F32.

    Raises:
        EmpathyEdgeError: an architecture, tokenizer or rope scaling that is not supported, or weights beyond F16's range.
    """
    require_extra("gguf", "gguf", "Writing a GGUF file")
    import gguf

    config = read_json(checkpoint / "config.json")
    family = family_of(checkpoint, config)
    with new_gguf(file, family.arch) as writer:
        writer.add_type(gguf.GGUFType.MODEL)
        writer.add_name(name_for_llama_cpp(checkpoint))
        writer.add_file_type(_file_type(kind))
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        extra = write_config(writer, checkpoint, config, family)
        write_vocabulary(writer, checkpoint, config)
        tensors = [*_tensors(checkpoint, config, family, kind), *_settings(extra)]
        for name, shape, stored, _ in tensors:
            writer.add_tensor_info(name, shape, np.dtype(np.float32), _size(shape, stored), raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, _, stored, chunks in tensors:
            _write_chunks(writer, stored, chunks)


@contextmanager
def new_gguf(file: Path, arch: str) -> Iterator[Any]:
    """A GGUFWriter whose file appears whole or not at all."""
    import gguf

    temporary = file.with_suffix(".tmp")
    writer = gguf.GGUFWriter(temporary, arch)
    try:
        yield writer
        writer.close()
        os.replace(temporary, file)
    finally:
        writer.close()
        temporary.unlink(missing_ok=True)


def _file_type(kind: str) -> int:
    import gguf

    names = {"f16": "MOSTLY_F16", "f32": "ALL_F32", "bf16": "MOSTLY_BF16"}
    return int(gguf.LlamaFileType[names[kind]])


def _size(shape: tuple[int, ...], stored: Any) -> int:
    import gguf

    block, block_bytes = gguf.GGML_QUANT_SIZES[stored]
    return int(np.prod(shape)) // block * block_bytes


def _tensors(
    checkpoint: Path, config: dict[str, Any], family: Family, kind: str
) -> Iterator[tuple[Any, ...]]:
    """Each tensor's GGUF name, shape, type, and a function that gives its values in chunks."""
    import gguf

    names = tensor_names(family, config)
    matrix = gguf.GGMLQuantizationType[kind.upper()]
    for key, tensor in stored_tensors(checkpoint).items():
        if key == "lm_head.weight" and config.get("tie_word_embeddings", family.arch == "gemma3"):
            continue
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise EmpathyEdgeError(f"{tensor.file}: no GGUF name for the tensor {key} in {family.arch}.")
        stored = matrix if len(tensor.shape) > 1 else gguf.GGMLQuantizationType.F32
        yield name, tensor.shape, stored, partial(_values, tensor, change_of(key, config, family))


def _settings(extra: dict[str, np.ndarray]) -> Iterator[tuple[Any, ...]]:
    import gguf

    for name, values in extra.items():
        yield name, values.shape, gguf.GGMLQuantizationType.F32, partial(iter, [values])


def change_of(key: str, config: dict[str, Any], family: Family) -> Change | None:
    """What happens to a tensor's values on the way; None: nothing, and they need not be read at once."""
    if family.norm_offset and key.endswith("norm.weight"):
        return lambda values: values + np.float32(family.norm_offset)
    heads = config["num_attention_heads"]
    rotated = {"q_proj": heads, "k_proj": config.get("num_key_value_heads") or heads}
    part = key.rsplit(".", 2)[-2]
    if family.permuted and part in rotated:
        return partial(interleave_rope, heads=rotated[part])
    return None


def _values(tensor: StoredTensor, change: Change | None) -> Iterator[np.ndarray]:
    if change is None:
        yield from tensor.chunks()
    else:
        yield change(tensor.load())


def _write_chunks(writer: Any, stored: Any, chunks: Callable[[], Iterator[np.ndarray]]) -> None:
    """One tensor's data; GGUFWriter takes whole tensors only, so this writes behind what it wrote."""
    out = writer.fout[0]
    writer.write_padding(out, out.tell())
    for chunk in chunks():
        _as_stored(chunk, stored).tofile(out)
    writer.write_padding(out, out.tell())


def _as_stored(values: np.ndarray, stored: Any) -> np.ndarray:
    import gguf

    if stored == gguf.GGMLQuantizationType.F32:
        return values
    if stored == gguf.GGMLQuantizationType.F16:
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if not np.isfinite(halves).all():
            raise EmpathyEdgeError(
                "A weight is beyond what F16 holds (65504), or no number; export to bf16 or f32."
            )
        return halves
    return gguf.quants.quantize(values, stored)


def interleave_rope(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder a query or key matrix (or bias) from Hugging Face's split-half rope to llama.cpp's interleaved one."""
    rows, *columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, *columns).swapaxes(1, 2).reshape(weight.shape)
