"""A GGUF file's header, read with limits: a damaged or malicious file is refused before a runtime maps it.

The format is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, NamedTuple

from empathy_edge.errors import EmpathyEdgeError

MAGIC = b"GGUF"
"""How a file begins."""

MAX_KEYS = 4096
MAX_TENSORS = 65_536
MAX_ARRAY_ITEMS = 4_000_000
MAX_STRING_BYTES = 16 * 2**20
MAX_ALIGNMENT = 2**20

# Types of metadata values: bytes of the scalar ones, by number.
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_SCALAR_LAYOUTS = dict(zip(_SCALAR_BYTES, "BbHhIif?Qqd", strict=True))
_UINT32, _STRING, _ARRAY = 4, 8, 9

_BLOCK = {
    # ggml type: (weights per block, bytes per block), from ggml.h and ggml-common.h
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110),
    22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8),
    29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip


_WHOLE_TYPES = frozenset({0, 1, 28, 30})
"""F32, F16, F64 and BF16."""


class TensorPlace(NamedTuple):
    """Where a tensor lies in a file.

    Attributes:
        kind: its ggml type.
        shape: columns first, as GGUF stores it.
        begin: the byte at which its data begins.
        nbytes: how many bytes its data takes.
    """

    kind: int
    shape: tuple[int, ...]
    begin: int
    nbytes: int


class GgufLayout(NamedTuple):
    """Where everything lies in a file.

    Attributes:
        tensors: by name.
        data_begin: the byte at which the data of all of them begins.
        alignment: of the tensors' data, bytes.
        keys: the metadata as they stand in the file.
        key_count: how many there are.
    """

    tensors: dict[str, TensorPlace]
    data_begin: int
    alignment: int
    keys: bytes
    key_count: int


def check_gguf(path: Path) -> None:
    """Refuse a file that is not GGUF, is truncated, or whose header promises more than the file holds.

    Raises:
        EmpathyEdgeError: names the file and what is wrong with it.
    """
    tensors_of(path)


def tensors_of(path: Path) -> dict[str, TensorPlace]:
    """Where each tensor lies, after the checks of `check_gguf`."""
    return layout_of(path).tensors


def layout_of(path: Path) -> GgufLayout:
    """Where everything lies, after the checks of `check_gguf`."""
    size = path.stat().st_size
    with open(path, "rb") as handle:
        if handle.read(len(MAGIC)) != MAGIC:
            raise EmpathyEdgeError(f"{path}: is not a GGUF model file.")
        try:
            header = _read_header(handle, size)
        except (struct.error, EOFError, ValueError, OverflowError) as error:
            raise EmpathyEdgeError(
                f"{path}: the GGUF header is damaged or truncated ({error}); "
                "download or export the file again."
            ) from None
    ends = [place.begin + place.nbytes for place in header.tensors.values()]
    needed = max([header.data_begin, *ends])
    if needed > size:
        raise EmpathyEdgeError(
            f"{path}: the GGUF file is truncated: {size} bytes, its tensors need {needed}; "
            "download or export it again."
        )
    return header


def is_quantized(path: Path) -> bool:
    """Whether any tensor of a GGUF file has a quantized type."""
    return any(place.kind not in _WHOLE_TYPES for place in tensors_of(path).values())


def metadata_of(path: Path, wanted: Collection[str]) -> dict[str, object]:
    """The values of some metadata keys: numbers, truth values, texts, and lists of these.

    Raises:
        EmpathyEdgeError: the file is no GGUF, or its metadata are damaged.
    """
    size = path.stat().st_size
    found: dict[str, object] = {}
    with open(path, "rb") as handle:
        if handle.read(len(MAGIC)) != MAGIC:
            raise EmpathyEdgeError(f"{path}: is not a GGUF model file.")
        try:
            _, _, count = _unpack(handle, "<IQQ")
            for _ in range(min(count, MAX_KEYS)):
                key = _string(handle, size).decode("utf-8", "replace")
                (kind,) = _unpack(handle, "<I")
                if key in wanted:
                    found[key] = _value(handle, kind, size)
                else:
                    _skip(handle, kind, size)
        except (struct.error, EOFError, ValueError, OverflowError) as error:
            raise EmpathyEdgeError(
                f"{path}: the GGUF header is damaged or truncated ({error}); "
                "download or export the file again."
            ) from None
    return found


def _value(handle: BinaryIO, kind: int, size: int, depth: int = 0) -> object:
    """Read a metadata value of a type."""
    if kind in _SCALAR_BYTES:
        return _unpack(handle, "<" + _SCALAR_LAYOUTS[kind])[0]
    if kind == _STRING:
        return _string(handle, size).decode("utf-8", "replace")
    if kind == _ARRAY and depth < 2:
        item, count = _unpack(handle, "<IQ")
        if count > MAX_ARRAY_ITEMS:
            raise ValueError(f"an array of {count} items")
        return [_value(handle, item, size, depth + 1) for _ in range(count)]
    raise ValueError(f"an unknown value type {kind}")


def _read_header(handle: BinaryIO, size: int) -> GgufLayout:
    """Read what follows the magic number of a file of `size` bytes."""
    version, tensor_count, key_count = _unpack(handle, "<IQQ")
    if version not in (2, 3):
        raise ValueError(f"version {version}, not 2 or 3")
    if key_count > MAX_KEYS or tensor_count > MAX_TENSORS:
        raise ValueError(f"{key_count} keys and {tensor_count} tensors")
    begin = handle.tell()
    alignment = _skip_keys(handle, size, key_count)
    end = handle.tell()
    offsets = dict(_read_tensor(handle, size) for _ in range(tensor_count))
    if not 1 <= alignment <= MAX_ALIGNMENT:
        raise ValueError(f"an alignment of {alignment}")
    padding = -handle.tell() % alignment
    data_begin = handle.tell() + padding
    tensors = {name: place._replace(begin=data_begin + place.begin) for name, place in offsets.items()}
    handle.seek(begin)
    return GgufLayout(tensors, data_begin, alignment, handle.read(end - begin), key_count)


def _skip_keys(handle: BinaryIO, size: int, count: int) -> int:
    """Pass over the metadata; returns the alignment of the data, which is part of it."""
    alignment = 32
    for _ in range(count):
        key = _string(handle, size)
        (kind,) = _unpack(handle, "<I")
        if key == b"general.alignment" and kind == _UINT32:
            (alignment,) = _unpack(handle, "<I")
        else:
            _skip(handle, kind, size)
    return alignment


def _read_tensor(handle: BinaryIO, size: int) -> tuple[str, TensorPlace]:
    """A tensor's name and place; `begin` is still counted from where the data of all tensors begins."""
    name = _string(handle, size).decode("utf-8", "replace")
    (dimensions,) = _unpack(handle, "<I")
    if dimensions > 4:
        raise ValueError(f"a tensor of {dimensions} dimensions")
    shape = _unpack(handle, f"<{dimensions}Q")
    kind, offset = _unpack(handle, "<IQ")
    if kind not in _BLOCK:
        raise ValueError(f"an unknown tensor type {kind}")
    block_weights, block_bytes = _BLOCK[kind]
    nbytes = math.prod(shape) // block_weights * block_bytes
    return name, TensorPlace(kind, shape, offset, nbytes)


def _skip(handle: BinaryIO, kind: int, size: int, depth: int = 0) -> None:
    """Pass over a metadata value of a type."""
    if kind in _SCALAR_BYTES:
        handle.seek(_SCALAR_BYTES[kind], 1)
    elif kind == _STRING:
        _string(handle, size)
    elif kind == _ARRAY and depth < 2:
        item, count = _unpack(handle, "<IQ")
        if count > MAX_ARRAY_ITEMS:
            raise ValueError(f"an array of {count} items")
        if item in _SCALAR_BYTES:
            handle.seek(_SCALAR_BYTES[item] * count, 1)
        else:
            for _ in range(count):
                _skip(handle, item, size, depth + 1)
    else:
        raise ValueError(f"an unknown value type {kind}")
    if handle.tell() > size:
        raise EOFError("it ends in the middle")


def _string(handle: BinaryIO, size: int) -> bytes:
    (length,) = _unpack(handle, "<Q")
    if length > min(size, MAX_STRING_BYTES):
        raise ValueError(f"a string of {length} bytes")
    text = handle.read(length)
    if len(text) < length:
        raise EOFError("it ends in the middle")
    return text


def _unpack(handle: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(layout, handle.read(struct.calcsize(layout)))
