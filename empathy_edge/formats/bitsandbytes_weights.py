"""Weights that bitsandbytes packed: NF4 and FP4 (Dettmers et al., arXiv 2305.14314), int8 (2208.07339).

Read without the library. A 4-bit matrix is a row of blocks. Each block has a scale (`absmax`), and a weight
is the scale times one of 16 numbers (`quant_map`). With double quantization the scales are packed as well,
in eight bits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.packed_weights import CHUNK_VALUES, PackedWeight, rounded, rows_at_once
from empathy_edge.formats.tensor_files import StoredTensor

_STATE = ".quant_state.bitsandbytes__"
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_PARTS = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")


@dataclass(frozen=True)
class _Blocks:
    """A 4-bit matrix.

    Attributes:
        packed: two weights in a byte, the first in the upper half.
        scales: of each block, float32 [blocks].
        codes: the 16 numbers, float32.
        block: weights in a block.
        dtype: the type that bitsandbytes unpacks into.
        shape: of the matrix.
    """

    packed: StoredTensor
    scales: np.ndarray
    codes: np.ndarray
    block: int
    dtype: str
    shape: tuple[int, ...]

    def chunks(self) -> Iterator[np.ndarray]:
        """The weights, float32, some at a time."""
        total = math.prod(self.shape)
        step = self.block * max(1, CHUNK_VALUES // self.block)
        for begin in range(0, total, step):
            count = min(step, total - begin)
            pairs = self.packed.raw(begin // 2, math.ceil(count / 2))
            indices = np.stack((pairs >> 4, pairs & 15), axis=1).reshape(-1)[:count]
            blocks = begin // self.block
            scales = self.scales[blocks : blocks + math.ceil(count / self.block)]
            values = self.codes[indices] * np.repeat(scales, self.block)[:count]
            yield rounded(values, self.dtype)


def bitsandbytes_weights(tensors: Mapping[str, StoredTensor]) -> list[PackedWeight]:
    """Every 4-bit and int8 matrix of a checkpoint.

    Raises:
        EmpathyEdgeError: a part is missing or damaged, or int8 is stored in an order other than by rows.
    """
    found = []
    for name, tensor in tensors.items():
        if _STATE in name:
            found.append(_four_bits(name.partition(_STATE)[0], tensor, tensors))
        elif name.endswith(".SCB"):
            found.append(_eight_bits(name.removesuffix("SCB"), tensor, tensors))
    return found


def _four_bits(name: str, state: StoredTensor, tensors: Mapping[str, StoredTensor]) -> PackedWeight:
    try:
        settings = json.loads(state.raw(0, state.nbytes).tobytes())
        shape = tuple(int(size) for size in settings["shape"])
        dtype, block = _DTYPES[settings["dtype"]], int(settings["blocksize"])
        packed, codes = tensors[name], tensors[f"{name}.quant_map"].load()
        scales = _scales(name, settings, tensors)
    except (ValueError, KeyError, TypeError, IndexError):
        raise EmpathyEdgeError(
            f"{state.file}: {name} is packed in four bits, but its parts are damaged or missing; get the "
            "checkpoint again."
        ) from None
    total = math.prod(shape)
    whole = packed.nbytes == math.ceil(total / 2) and len(scales) == math.ceil(total / max(1, block))
    if not whole or len(codes) != 16 or min(block, *shape) <= 0:
        raise EmpathyEdgeError(
            f"{state.file}: the parts of {name} do not fit its shape {shape}; get the checkpoint again."
        )
    parts = [name, state.name, *(f"{name}.{part}" for part in _PARTS)]
    blocks = _Blocks(packed, scales, codes, block, dtype, shape)
    return PackedWeight(name, shape, frozenset(parts) & set(tensors), name, blocks.chunks)


def _scales(name: str, settings: dict[str, Any], tensors: Mapping[str, StoredTensor]) -> np.ndarray:
    """The scale of each block, float32 [blocks]."""
    scales = tensors[f"{name}.absmax"]
    if f"{name}.nested_absmax" not in tensors:
        return scales.load()
    outer = tensors[f"{name}.nested_absmax"].load()
    codes = tensors[f"{name}.nested_quant_map"].load()
    indices = scales.integers().reshape(-1)
    each = np.repeat(outer, int(settings["nested_blocksize"]))[: len(indices)]
    return codes[indices] * each + np.float32(settings["nested_offset"])


def _eight_bits(module: str, scales: StoredTensor, tensors: Mapping[str, StoredTensor]) -> PackedWeight:
    packed = tensors.get(f"{module}weight")
    if packed is None or packed.dtype != "I8" or scales.shape != packed.shape[:1]:
        raise EmpathyEdgeError(f"{scales.file}: {scales.name} has no int8 matrix that fits it.")
    order = tensors.get(f"{module}weight_format")
    if order and order.integers().any():
        raise EmpathyEdgeError(
            f"{packed.file}: {packed.name} is not stored by rows. Load it with the bitsandbytes that wrote "
            "it, and save it again."
        )

    def chunks() -> Iterator[np.ndarray]:
        # In the order of bitsandbytes' own int8_vectorwise_dequant.
        factors = scales.load()[:, None]
        values = packed.integers()
        step = rows_at_once(packed.shape[1])
        for begin in range(0, packed.shape[0], step):
            rows = values[begin : begin + step].astype(np.float32)
            yield rows * factors[begin : begin + step] * np.float32(7.874015718698502e-3)

    parts = frozenset({packed.name, scales.name, f"{module}weight_format"}) & set(tensors)
    return PackedWeight(packed.name, packed.shape, parts, packed.name, chunks)
