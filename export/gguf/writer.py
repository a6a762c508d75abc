"""A checkpoint as GGUF, streamed: tensors go into the file a few megabytes at a time, without torch.

The layout is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Names and constants come from the
package `gguf`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.export.gguf.families import (
    Family,
    NotWritten,
    family_of,
    read_config,
    tensor_names,
    write_config,
)
from empathy_edge.export.gguf.vocabulary import name_for_llama_cpp, write_vocabulary
from empathy_edge.formats.tensor_files import StoredTensor, stored_tensors
from empathy_edge.system.files import part_of

Transform = Callable[[np.ndarray], np.ndarray]
"""From a tensor's values in the checkpoint to those in the GGUF."""


OTHER_PARTS = (
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
)
"""Of a model that also sees: what is left out of the GGUF of its language model."""

ROPE_FREQUENCIES = ".rotary_emb.inv_freq"
"""How the names of tensors end that older checkpoints hold, as Llama 2's; llama.cpp computes them itself."""


class _GgufTensor(NamedTuple):
    """A tensor to be written.

    Attributes:
        name: in the GGUF.
        shape: rows first.
        kind: gguf's GGMLQuantizationType.
        chunks: gives its values, float32, some whole rows at a time.
    """

    name: str
    shape: tuple[int, ...]
    kind: Any
    chunks: Callable[[], Iterator[np.ndarray]]


def write_float(checkpoint: Path, file: Path, kind: str = "f16", name: str = "") -> None:
    """Write a checkpoint as GGUF; vectors (norms, biases) stay in F32.

    Args:
        checkpoint: a folder of safetensors.
        file: what is written, whole or not at all.
        kind: `f16`, `f32` or `bf16`.
        name: the model's, as apps show it; by default its architecture and size.

    Raises:
        EmpathyEdgeError: an architecture, tokenizer or rope scaling that is not supported, or weights beyond
            F16's range.
    """
    require_extra("gguf", "gguf", "Writing a GGUF file")
    import gguf

    config = read_config(checkpoint)
    family = family_of(checkpoint, config)
    with new_gguf(file, family.arch) as writer:
        writer.add_type(gguf.GGUFType.MODEL)
        writer.add_name(name_for_llama_cpp(checkpoint, name or _architecture_and_size(checkpoint, config)))
        writer.add_file_type(_file_type(kind))
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        rope_factors = write_config(writer, checkpoint, config, family)
        write_vocabulary(writer, checkpoint, config)
        tensors = [*_tensors(checkpoint, config, family, kind), *_rope_tensors(rope_factors)]
        for tensor in tensors:
            nbytes = _bytes_of(tensor.shape, tensor.kind)
            writer.add_tensor_info(
                tensor.name, tensor.shape, np.dtype(np.float32), nbytes, raw_dtype=tensor.kind
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            _write_values(writer, tensor)


@contextmanager
def new_gguf(file: Path, arch: str) -> Iterator[Any]:
    """A GGUFWriter whose file appears whole or not at all."""
    import gguf

    temporary = part_of(file)
    writer = gguf.GGUFWriter(temporary, arch)
    try:
        yield writer
        writer.close()
        os.replace(temporary, file)
    finally:
        writer.close()
        temporary.unlink(missing_ok=True)


def _architecture_and_size(checkpoint: Path, config: dict[str, Any]) -> str:
    """A name that does not reveal the folders here, as `llama-135M`."""
    parameters = sum(math.prod(tensor.shape) for tensor in stored_tensors(checkpoint).values())
    return f"{config.get('model_type', 'model')}-{parameters / 1e6:.0f}M"


def _file_type(kind: str) -> int:
    import gguf

    names = {"f16": "MOSTLY_F16", "f32": "ALL_F32", "bf16": "MOSTLY_BF16"}
    return int(gguf.LlamaFileType[names[kind]])


def _bytes_of(shape: tuple[int, ...], kind: Any) -> int:
    import gguf

    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    return int(np.prod(shape)) // block * block_bytes


def _tensors(checkpoint: Path, config: dict[str, Any], family: Family, kind: str) -> Iterator[_GgufTensor]:
    """The checkpoint's tensors as they are written; a tied output matrix is left out."""
    import gguf

    names = tensor_names(family, config)
    matrix_kind = gguf.GGMLQuantizationType[kind.upper()]
    for stored_name, tensor in stored_tensors(checkpoint).items():
        key = name_in_language_model(stored_name)
        if key is None or key.endswith(ROPE_FREQUENCIES):
            continue
        if key == "lm_head.weight" and config.get("tie_word_embeddings", family.arch == "gemma3"):
            continue
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise NotWritten(f"{tensor.file}: no GGUF name for the tensor {key} in {family.arch}.")
        tensor_kind = matrix_kind if len(tensor.shape) > 1 else gguf.GGMLQuantizationType.F32
        chunks = partial(_values, tensor, transform_of(key, config, family))
        yield _GgufTensor(name, tensor.shape, tensor_kind, chunks)


def name_in_language_model(name: str) -> str | None:
    """A tensor's name without the wrapper of a model that also sees; None for a tensor of its other parts.

    >>> name_in_language_model("language_model.model.layers.0.mlp.up_proj.weight")
    'model.layers.0.mlp.up_proj.weight'
    """
    if name.startswith(OTHER_PARTS):
        return None
    name = name.replace("model.language_model.", "model.", 1)
    return name.removeprefix("language_model.")


def _rope_tensors(factors: dict[str, np.ndarray]) -> Iterator[_GgufTensor]:
    """Rope factors, which a GGUF keeps as tensors."""
    import gguf

    for name, values in factors.items():
        yield _GgufTensor(name, values.shape, gguf.GGMLQuantizationType.F32, partial(iter, [values]))


def transform_of(key: str, config: dict[str, Any], family: Family) -> Transform | None:
    """How a tensor's values change on the way to the GGUF; None where they stay as they are."""
    if family.norm_offset and key.endswith("norm.weight"):
        return lambda values: values + np.float32(family.norm_offset)
    heads = config["num_attention_heads"]
    rotated = {"q_proj": heads, "k_proj": config.get("num_key_value_heads") or heads}
    part = key.rsplit(".", 2)[-2]
    if family.permuted and part in rotated:
        return partial(interleave_rope, heads=rotated[part])
    return None


def _values(tensor: StoredTensor, transform: Transform | None) -> Iterator[np.ndarray]:
    """A tensor's values in chunks; one that is transformed is read at once."""
    if transform is None:
        yield from tensor.chunks()
    else:
        yield transform(tensor.load())


def _write_values(writer: Any, tensor: _GgufTensor) -> None:
    """Write one tensor's data into GGUFWriter's own file, as GGUFWriter itself takes whole tensors only."""
    out = writer.fout[0]
    writer.write_padding(out, out.tell())
    for chunk in tensor.chunks():
        _converted(chunk, tensor.kind).tofile(out)
    writer.write_padding(out, out.tell())


def _converted(values: np.ndarray, kind: Any) -> np.ndarray:
    """Float32 values in the type in which they are stored."""
    import gguf

    if kind == gguf.GGMLQuantizationType.F32:
        return values
    if kind == gguf.GGMLQuantizationType.F16:
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if not np.isfinite(halves).all():
            raise EmpathyEdgeError("A weight is beyond F16's range; export to gguf-bf16 or gguf-f32.")
        return halves
    quantized: np.ndarray = gguf.quants.quantize(values, kind)
    return quantized


def interleave_rope(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder the rows of a query or key matrix (or bias) for llama.cpp's rope.

    Hugging Face rotates row i together with row i + half; llama.cpp rotates neighbours.
    """
    rows, *columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, *columns).swapaxes(1, 2).reshape(weight.shape)
