"""A checkpoint whose layers' matrices are rounded already, for converters that keep such weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from empathy_edge.export.gguf.families import family_of, read_config, tensor_names
from empathy_edge.export.gguf.quantize import PackedTensor
from empathy_edge.export.gguf.tensor_types import type_number
from empathy_edge.export.gguf.writer import Transform, name_in_language_model, transform_of
from empathy_edge.formats.gguf_header import tensors_of
from empathy_edge.formats.tensor_files import StoredTensor, stored_tensors, write_safetensors
from empathy_edge.system.files import own_file

Matrices = Callable[[str], np.ndarray | None]
"""The GGUF name of a matrix → its rounded weights, float32 [rows, columns]; None where it stays as it is."""


def write_rounded(checkpoint: Path, matrices: Matrices, out: Path) -> None:
    """Write a checkpoint folder like `checkpoint`, with rounded matrices in its layers.

    Args:
        checkpoint: a folder of safetensors.
        matrices: the rounded ones, by their GGUF names.
        out: the folder; it exists.
    """
    config = read_config(checkpoint)
    family = family_of(checkpoint, config)
    names = tensor_names(family, config)

    def values(stored_name: str, tensor: StoredTensor) -> Iterator[np.ndarray]:
        key = name_in_language_model(stored_name) or ""
        is_matrix = key.startswith("model.layers.") and len(tensor.shape) == 2
        name = names.get_name(key, try_suffixes=(".weight", ".bias")) or ""
        rounded = matrices(name) if is_matrix else None
        if rounded is None:
            yield from tensor.chunks()
        else:
            yield _original_order(rounded, transform_of(key, config, family))

    tensors = stored_tensors(checkpoint)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    chunks = (values(name, tensor) for name, tensor in tensors.items())
    write_safetensors(out / "model.safetensors", shapes, chunks)
    for file in checkpoint.iterdir():
        if file.suffix in (".json", ".jinja") and not file.name.endswith(".index.json"):
            shutil.copyfile(own_file(file), out / file.name)


def matrices_of_gguf(file: Path) -> Matrices:
    """The matrices of a GGUF, read when they are asked for."""
    places = tensors_of(file)

    def matrix(name: str) -> np.ndarray | None:
        place = places.get(name)
        if place is None:
            return None
        with open(file, "rb") as handle:
            handle.seek(place.begin)
            data = np.frombuffer(handle.read(place.nbytes), np.uint8)
        rows = place.shape[1]  # GGUF counts columns first
        return _dequantized(data.reshape(rows, -1), place.kind)

    return matrix


def matrices_of_packed(packed: Mapping[str, PackedTensor]) -> Matrices:
    """Matrices that were rounded in memory."""

    def matrix(name: str) -> np.ndarray | None:
        found = packed.get(name)
        return None if found is None else _dequantized(found.data, type_number(found.kind))

    return matrix


def _dequantized(data: np.ndarray, kind: int) -> np.ndarray:
    """The weights of a matrix of a GGUF, float32 [rows, columns]; `data` is uint8 [rows, bytes]."""
    import gguf

    weights: np.ndarray = gguf.quants.dequantize(data, gguf.GGMLQuantizationType(kind))
    return weights


def _original_order(weights: np.ndarray, transform: Transform | None) -> np.ndarray:
    """Undo the reordering of rows that a GGUF has for llama.cpp's rope."""
    if transform is None:
        return weights
    row_numbers = np.arange(len(weights))[:, None]
    return weights[np.argsort(transform(row_numbers)[:, 0])]
