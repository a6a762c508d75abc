"""What all formats of quantized weights share: a matrix in packed parts, and integers of a few bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

CHUNK_VALUES = 4 * 2**20
"""About how many weights are unpacked at a time."""


@dataclass(frozen=True)
class PackedWeight:
    """A matrix that a checkpoint holds in packed parts.

    Attributes:
        name: the parameter's, as `model.layers.0.mlp.up_proj.weight`.
        shape: of the unpacked matrix, [out, in].
        parts: the names of the stored tensors that it is read from.
        stored_in: the part that decides where it stands in the checkpoint.
        chunks: gives its values, float32, in the order of its rows.
    """

    name: str
    shape: tuple[int, ...]
    parts: frozenset[str]
    stored_in: str
    chunks: Callable[[], Iterator[np.ndarray]]


def unpack_integers(words: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Integers that stand one after the other in 32-bit words, the lowest bits first.

    Args:
        words: int32 [rows, words].
        bits: of an integer, 2 to 8; one may begin in a word and end in the next.
        count: how many integers a row has.

    Returns:
        int16 [rows, count].
    """
    starts = np.arange(count) * bits
    place, offset = starts // 32, (starts % 32).astype(np.uint32)
    unsigned = words.view(np.uint32)
    values = unsigned[:, place] >> offset
    if 32 % bits:
        following = np.minimum(place + 1, words.shape[1] - 1)
        rest = np.where(offset > 32 - bits, 32 - offset, 31).astype(np.uint32)  # where one ends in the next
        values |= np.where(offset > 32 - bits, unsigned[:, following] << rest, 0)
    return (values & np.uint32(2**bits - 1)).astype(np.int16)


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 values as a type of safetensors (`F32`, `F16`, `BF16`) can hold them, to nearest even.

    A library that trains on packed weights unpacks them into this type; what is not rounded so is another
    model.
    """
    if dtype == "F16":
        return values.astype(np.float16).astype(np.float32)
    if dtype == "BF16":
        numbers = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        nearest = numbers + np.uint32(0x7FFF) + ((numbers >> 16) & np.uint32(1))
        return (nearest & np.uint32(0xFFFF0000)).view(np.float32)
    return values


def rows_at_once(columns: int, multiple: int = 1) -> int:
    """How many rows of so many columns are unpacked at a time; a multiple of `multiple`."""
    return max(1, math.ceil(CHUNK_VALUES / max(1, columns) / multiple)) * multiple
