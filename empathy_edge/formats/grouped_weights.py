"""Weights as integers with a scale and a zero point for each group: GPTQ, AWQ, compressed-tensors.

W = scale · (q - zero), in the type of the scales, as each format's own library computes it. GPTQ: Frantar et
al., arXiv 2210.17323, packed as AutoGPTQ and GPTQModel do; AWQ: Lin et al., arXiv 2306.00978, packed as
AutoAWQ's "gemm"; compressed-tensors: `pack-quantized` and `int-quantized` of llm-compressor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.packed_weights import PackedWeight, rounded, rows_at_once, unpack_integers
from empathy_edge.formats.tensor_files import StoredTensor

GPTQ_FORMATS = ("gptq", "gptq_v2")
GPTQ_BITS = (2, 3, 4, 8)
COMPRESSED_FORMATS = ("pack-quantized", "int-quantized")

_AWQ_ORDER = np.array([0, 4, 1, 5, 2, 6, 3, 7])
"""Where in a word AWQ puts the first, second … of eight columns."""


def gptq_weights(tensors: Mapping[str, StoredTensor], settings: Mapping[str, Any]) -> list[PackedWeight]:
    """Every matrix of a GPTQ checkpoint.

    Args:
        tensors: of the checkpoint.
        settings: its `quantization_config`.

    Raises:
        EmpathyEdgeError: the parts of a matrix do not fit each other.
    """
    kind = settings.get("checkpoint_format") or settings.get("format") or "gptq"
    offset = 1 if kind == "gptq" else 0  # the first format stores each zero point less 1
    found = []
    for name, packed in tensors.items():
        if name.endswith(".qweight"):
            parts = _parts(name.removesuffix("qweight"), ("qweight", "scales", "qzeros", "g_idx"), tensors)
            found.append(_gptq_weight(packed, parts, offset, settings))
    return found


def _gptq_weight(
    packed: StoredTensor, parts: Mapping[str, StoredTensor], offset: int, settings: Mapping[str, Any]
) -> PackedWeight:
    scales, zeros = _need(packed, parts, "scales"), _need(packed, parts, "qzeros")
    groups, outputs = _two(packed, scales)
    bits = round(zeros.shape[-1] * 32 / max(1, outputs))  # a module may have other bits than the settings say
    inputs = parts["g_idx"].shape[0] if "g_idx" in parts else packed.shape[0] * 32 // max(1, bits)
    fits = bits in GPTQ_BITS and packed.shape == (math.ceil(inputs * bits / 32), outputs)
    if not fits or packed.dtype != "I32" or zeros.shape != (groups, math.ceil(outputs * bits / 32)):
        raise _unfit(packed)

    def chunks() -> Iterator[np.ndarray]:
        words = packed.integers()
        all_zeros = (unpack_integers(zeros.integers(), bits, outputs) + offset) & (2**bits - 1)
        all_scales = scales.load()
        group = _group_of(packed, parts.get("g_idx"), inputs, groups, int(settings.get("group_size") or -1))
        step = rows_at_once(inputs)
        for begin in range(0, outputs, step):
            here = slice(begin, begin + step)
            columns = np.ascontiguousarray(words[:, here].T)
            values = unpack_integers(columns, bits, inputs) - all_zeros[:, here].T[:, group]
            yield rounded(values * all_scales[:, here].T[:, group], scales.dtype)

    return _packed_weight(packed, "qweight", (outputs, inputs), parts, chunks)


def _group_of(
    packed: StoredTensor, stored: StoredTensor | None, inputs: int, groups: int, group_size: int
) -> np.ndarray:
    """The group of each input."""
    if stored is not None:
        group = stored.integers().reshape(-1)
        fits = group.size == inputs and group.min() >= 0 and group.max() < groups
    else:
        group = np.arange(inputs) // (group_size if group_size > 0 else inputs)
        fits = group.max() == groups - 1
    if not fits:
        raise _unfit(packed)
    return group


def awq_weights(tensors: Mapping[str, StoredTensor]) -> list[PackedWeight]:
    """Every matrix of an AWQ checkpoint, packed as "gemm" in four bits.

    Raises:
        EmpathyEdgeError: the parts of a matrix do not fit each other.
    """
    found = []
    for name, packed in tensors.items():
        if name.endswith(".qweight"):
            parts = _parts(name.removesuffix("qweight"), ("qweight", "scales", "qzeros"), tensors)
            found.append(_awq_weight(packed, parts))
    return found


def _awq_weight(packed: StoredTensor, parts: Mapping[str, StoredTensor]) -> PackedWeight:
    scales, zeros = _need(packed, parts, "scales"), _need(packed, parts, "qzeros")
    groups, outputs = _two(packed, scales)
    inputs = packed.shape[0]
    fits = packed.shape == (inputs, outputs // 8) and zeros.shape == (groups, outputs // 8)
    if not fits or packed.dtype != "I32" or outputs % 8 or inputs % groups:
        raise _unfit(packed)

    def chunks() -> Iterator[np.ndarray]:
        words, all_scales, all_zeros = packed.integers(), scales.load(), _awq_columns(zeros.integers())
        step = rows_at_once(inputs, multiple=8)
        for begin in range(0, outputs, step):
            here = slice(begin, begin + step)
            values = _awq_columns(words[:, begin // 8 : (begin + step) // 8])
            values = values.reshape(groups, inputs // groups, -1) - all_zeros[:, None, here]
            values = values * all_scales[:, None, here]
            yield rounded(values.reshape(inputs, -1).T, scales.dtype)

    return _packed_weight(packed, "qweight", (outputs, inputs), parts, chunks)


def _awq_columns(words: np.ndarray) -> np.ndarray:
    """int32 [rows, words] → int16 [rows, 8 · words], the columns in their order."""
    values = unpack_integers(np.ascontiguousarray(words), 4, 8 * words.shape[1])
    return values.reshape(len(words), -1, 8)[:, :, _AWQ_ORDER].reshape(len(words), -1)


def compressed_weights(
    tensors: Mapping[str, StoredTensor], settings: Mapping[str, Any]
) -> list[PackedWeight]:
    """Every matrix of a compressed-tensors checkpoint with integer weights.

    Raises:
        EmpathyEdgeError: the parts of a matrix do not fit each other.
    """
    names = ("weight", "weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")
    found = []
    for name in tensors:
        if name.endswith(".weight_scale"):
            module = name.removesuffix("weight_scale")
            parts = _parts(module, (*names, "input_scale", "input_zero_point"), tensors)
            found.append(_compressed_weight(module, parts, settings))
    return found


def _compressed_weight(
    module: str, parts: Mapping[str, StoredTensor], settings: Mapping[str, Any]
) -> PackedWeight:
    scales = parts["weight_scale"]
    packed = parts.get("weight_packed") or _need(scales, parts, "weight")
    if packed.dtype == "I8":
        bits, (outputs, inputs) = 8, _two(packed, packed)
    else:
        outputs, inputs = (int(size) for size in _need(packed, parts, "weight_shape").integers())
        bits = _compressed_bits(packed, inputs, settings)
    groups = scales.shape[1] if len(scales.shape) == 2 else 1
    one_for_all = math.prod(scales.shape) == 1
    if packed.shape[0] != outputs or not groups or not (one_for_all or scales.shape[0] == outputs):
        raise _unfit(packed)
    group_size = _compressed_group(packed, inputs, groups, settings)

    def chunks() -> Iterator[np.ndarray]:
        middle = 0 if packed.dtype == "I8" else 2 ** (bits - 1)
        words = packed.integers()
        zeros = _compressed_zeros(parts.get("weight_zero_point"), bits, outputs, groups)
        all_scales = np.broadcast_to(scales.load().reshape(-1, groups), (outputs, groups))
        stored_groups = parts.get("weight_g_idx")
        group = _group_of(packed, stored_groups, inputs, groups, group_size)
        step = rows_at_once(inputs)
        for begin in range(0, outputs, step):
            here = slice(begin, begin + step)
            values = words[here].astype(np.int16)
            if middle:
                values = unpack_integers(words[here], bits, inputs) - middle
            values = values - zeros[here][:, group]
            yield rounded(values * all_scales[here][:, group], scales.dtype)

    name = packed.name.removeprefix(module)
    return _packed_weight(packed, name, (outputs, inputs), parts, chunks)


def _compressed_bits(packed: StoredTensor, inputs: int, settings: Mapping[str, Any]) -> int:
    """How many bits a packed matrix has: of those that the settings name, the one that its width fits."""
    schemes = (settings.get("config_groups") or {}).values()
    named = {int((scheme.get("weights") or {}).get("num_bits", 0)) for scheme in schemes}
    fitting = [bits for bits in named if bits and math.ceil(inputs * bits / 32) == packed.shape[1]]
    if packed.dtype != "I32" or len(fitting) != 1:
        raise _unfit(packed)
    return fitting[0]


def _compressed_group(packed: StoredTensor, inputs: int, groups: int, settings: Mapping[str, Any]) -> int:
    """How many inputs share a scale: of the sizes that the settings name, the one that gives `groups`.

    The last group may be a smaller one. Without a size that fits, all groups must be equal.
    """
    schemes = (settings.get("config_groups") or {}).values()
    named = {int((scheme.get("weights") or {}).get("group_size") or 0) for scheme in schemes}
    fitting = [size for size in named if size > 0 and math.ceil(inputs / size) == groups]
    if len(fitting) > 1 or (not fitting and inputs % groups):
        raise _unfit(packed)
    return fitting[0] if fitting else inputs // groups


def _compressed_zeros(stored: StoredTensor | None, bits: int, outputs: int, groups: int) -> np.ndarray:
    """The zero points, int16 [out, groups]; packed ones stand along the outputs."""
    if stored is None:
        return np.zeros((outputs, groups), np.int16)
    values = stored.integers()
    if stored.dtype != "I32":
        return np.broadcast_to(values.astype(np.int16).reshape(-1, groups), (outputs, groups))
    unpacked = unpack_integers(np.ascontiguousarray(values.T), bits, outputs).T
    return unpacked - np.int16(2 ** (bits - 1))


def _parts(
    module: str, names: tuple[str, ...], tensors: Mapping[str, StoredTensor]
) -> dict[str, StoredTensor]:
    """The tensors of one module, by the last part of their names."""
    return {name: tensors[module + name] for name in names if module + name in tensors}


def _need(packed: StoredTensor, parts: Mapping[str, StoredTensor], name: str) -> StoredTensor:
    if name not in parts:
        raise EmpathyEdgeError(f"{packed.file}: {packed.name} is packed, but has no '{name}' beside it.")
    return parts[name]


def _two(packed: StoredTensor, tensor: StoredTensor) -> tuple[int, int]:
    """The two sizes of a matrix; the error names `packed`."""
    if len(tensor.shape) != 2 or not all(tensor.shape):
        raise _unfit(packed)
    return tensor.shape[0], tensor.shape[1]


def _unfit(packed: StoredTensor) -> EmpathyEdgeError:
    return EmpathyEdgeError(
        f"{packed.file}: {packed.name} and the parts beside it do not fit each other as this format packs "
        "them; get the checkpoint again, or give the full-precision original."
    )


def _packed_weight(
    packed: StoredTensor,
    last: str,
    shape: tuple[int, int],
    parts: Mapping[str, StoredTensor],
    chunks: Any,
) -> PackedWeight:
    name = packed.name.removesuffix(last) + "weight"
    return PackedWeight(name, shape, frozenset(part.name for part in parts.values()), packed.name, chunks)
