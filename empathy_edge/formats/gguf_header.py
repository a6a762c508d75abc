"""A GGUF file's header, read with bounds: a stranger's file is refused before any runtime maps it.

The format is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from empathy_edge.errors import EmpathyEdgeError

MOST_KEYS = 4096
MOST_TENSORS = 65_536
MOST_ARRAY = 4_000_000
MOST_STRING = 16 * 2**20

_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9

_BLOCK = {
    # ggml type: (weights in a block, bytes of a block); ggml.h and ggml-common.h
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110),
    22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8),
    29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip


def check_gguf(path: Path) -> None:
    """Refuse a file that is no GGUF, is cut short, or whose header claims more than the file holds.

    Raises:
        EmpathyEdgeError: names the file and what is wrong with it.
    """
    tensors_of(path)


class TensorPlace(NamedTuple):
    """A tensor in a file: its ggml type, its shape (columns first), the byte at which it begins, and how many there are."""

    kind: int
    shape: tuple[int, ...]
    begin: int
    nbytes: int


def tensors_of(path: Path) -> dict[str, TensorPlace]:
    """Where each tensor lies, after the checks of `check_gguf`."""
    tensors: dict[str, TensorPlace] = {}
    size = path.stat().st_size
    with open(path, "rb") as handle:
        if handle.read(4) != b"GGUF":
            raise EmpathyEdgeError(f"{path}: is not a GGUF model file.")
        try:
            needed = _needed_bytes(handle, size, tensors)
        except (struct.error, EOFError, ValueError, OverflowError) as error:
            raise EmpathyEdgeError(
                f"{path}: the GGUF header is damaged or truncated ({error}); download or export the file again."
            ) from None
    if needed > size:
        raise EmpathyEdgeError(
            f"{path}: the GGUF file is truncated: {size} bytes, its tensors need {needed}; "
            "download or export it again."
        )
    return tensors


def _needed_bytes(handle: BinaryIO, size: int, found: dict[str, TensorPlace]) -> int:
    version, tensors, keys = _unpack(handle, "<IQQ")
    if version not in (2, 3):
        raise ValueError(f"version {version}, not 2 or 3")
    if keys > MOST_KEYS or tensors > MOST_TENSORS:
        raise ValueError(f"{keys} keys and {tensors} tensors")
    alignment = 32
    for _ in range(keys):
        key = _string(handle, size)
        (kind,) = _unpack(handle, "<I")
        if key == b"general.alignment" and kind == 4:
            (alignment,) = _unpack(handle, "<I")
        else:
            _skip(handle, kind, size)
    end = 0
    for _ in range(tensors):
        name = _string(handle, size).decode("utf-8", "replace")
        (dimensions,) = _unpack(handle, "<I")
        if dimensions > 4:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        shape = _unpack(handle, f"<{dimensions}Q")
        weights = math.prod(shape)
        kind, offset = _unpack(handle, "<IQ")
        if kind not in _BLOCK:
            raise ValueError(f"an unknown tensor type {kind}")
        block, block_bytes = _BLOCK[kind]
        nbytes = weights // block * block_bytes
        found[name] = TensorPlace(kind, shape, offset, nbytes)
        end = max(end, offset + nbytes)
    if not 1 <= alignment <= 2**20:
        raise ValueError(f"an alignment of {alignment}")
    data = -(-handle.tell() // alignment) * alignment
    for name, place in found.items():
        found[name] = place._replace(begin=data + place.begin)
    return data + end


def _skip(handle: BinaryIO, kind: int, size: int, depth: int = 0) -> None:
    if kind in _SCALAR_BYTES:
        handle.seek(_SCALAR_BYTES[kind], 1)
    elif kind == _STRING:
        _string(handle, size)
    elif kind == _ARRAY and depth < 2:
        item, count = _unpack(handle, "<IQ")
        if count > MOST_ARRAY:
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
    if length > min(size, MOST_STRING):
        raise ValueError(f"a string of {length} bytes")
    text = handle.read(length)
    if len(text) < length:
        raise EOFError("it ends in the middle")
    return text


def _unpack(handle: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(form, handle.read(struct.calcsize(form)))
