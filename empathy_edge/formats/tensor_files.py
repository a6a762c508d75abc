"""Safetensors read and written one tensor at a time, a few megabytes at once, without torch.

The format is https://github.com/huggingface/safetensors#format: eight bytes with the header's length, a JSON
header, the data. The header is checked before any data is read: in a damaged or malicious file its lengths,
types and offsets may be wrong.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.system.files import part_of, read_json_object

CHUNK_BYTES = 8 * 2**20
MAX_HEADER_BYTES = 64 * 2**20
MAX_DIMENSIONS = 8

_FLOATS: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
_INTEGERS: dict[str, np.dtype[Any]] = {
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_EIGHT_BITS = {"F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}
"""Floating point of eight bits, whose values are not read."""

_BYTES = {name: kind.itemsize for name, kind in (_FLOATS | _INTEGERS).items()} | _EIGHT_BITS


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file.

    Attributes:
        file: the file.
        name: the tensor's name in it.
        dtype: as the format writes it, as `BF16`.
        shape: its sizes.
        begin: the byte of the file at which its data begins.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int

    @property
    def nbytes(self) -> int:
        """How many bytes its data takes in the file."""
        return math.prod(self.shape) * _BYTES[self.dtype]

    @property
    def is_float(self) -> bool:
        """Whether it holds floating point numbers."""
        return self.dtype in _FLOATS

    def chunks(self) -> Iterator[np.ndarray]:
        """Its values as float32, about CHUNK_BYTES at a time: [rows of the chunk, …]."""
        if self.dtype not in _FLOATS:
            raise EmpathyEdgeError(
                f"{self.file}: {self.name} is stored as {self.dtype}, not as floating point."
            )
        stored = _FLOATS[self.dtype]
        rows = self.shape[0] if self.shape else 1
        row_shape = self.shape[1:]
        row_values = math.prod(row_shape)
        rows_per_chunk = max(1, CHUNK_BYTES // max(1, row_values * 4))
        with open(self.file, "rb") as handle:
            handle.seek(self.begin)
            for start in range(0, rows, rows_per_chunk):
                count = min(rows_per_chunk, rows - start)
                values = np.fromfile(handle, dtype=stored, count=count * row_values)
                values = values.reshape(count, *row_shape)
                if self.dtype == "BF16":  # the upper half of a float32
                    yield (values.astype(np.uint32) << 16).view(np.float32)
                else:
                    yield values.astype(np.float32, copy=False)

    def integers(self) -> np.ndarray:
        """All of its values, of a type without floating point.

        Raises:
            EmpathyEdgeError: it holds no integers.
        """
        if self.dtype not in _INTEGERS:
            raise EmpathyEdgeError(f"{self.file}: {self.name} is stored as {self.dtype}, not as integers.")
        kind = _INTEGERS[self.dtype]
        return np.fromfile(self.file, kind, math.prod(self.shape), offset=self.begin).reshape(self.shape)

    def raw(self, begin: int, count: int) -> np.ndarray:
        """Some bytes of its data: uint8 [count], from its byte `begin`."""
        return np.fromfile(self.file, np.uint8, count, offset=self.begin + begin)

    def load(self) -> np.ndarray:
        """All of it as float32."""
        parts = list(self.chunks())
        whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
        return whole.reshape(self.shape)


def stored_tensors(folder: Path, only: str | None = None) -> dict[str, StoredTensor]:
    """Every tensor of a checkpoint folder by name, over all its shards.

    Args:
        folder: holds the files.
        only: the name of the one file to read; None reads the shards.

    Raises:
        EmpathyEdgeError: a header is damaged or wrong, a shard is missing, a tensor is stored twice.
    """
    found: dict[str, StoredTensor] = {}
    for file in [folder / only] if only else _shards_of(folder):
        for tensor in _read_header(file):
            if tensor.name in found:
                raise EmpathyEdgeError(
                    f"{file}: {tensor.name} is stored twice, also in {found[tensor.name].file}."
                )
            found[tensor.name] = tensor
    return found


def _shards_of(folder: Path) -> list[Path]:
    """The safetensors files of a folder: those that its index names, if it has one."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = _names_in(index)
        present = {file.name for file in files}
        missing = [name for name in named if name not in present]
        if missing:
            raise EmpathyEdgeError(
                f"{folder}: the shard {missing[0]} is missing ({len(missing)} of {len(named)})."
            )
        files = [folder / name for name in named]
    if not files:
        raise EmpathyEdgeError(f"{folder}: no .safetensors file in it.")
    return files


def _names_in(index: Path) -> list[str]:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise EmpathyEdgeError(f"{index}: is no index of safetensors files: no 'weight_map' in it.")
    for name in weight_map.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise EmpathyEdgeError(f"{index}: names the shard {name!r}, which is no file beside it.")
    return sorted(set(weight_map.values()))


def write_safetensors(
    file: Path, shapes: dict[str, tuple[int, ...]], values: Iterable[Iterable[np.ndarray]]
) -> None:
    """Write float32 tensors, whole or not at all.

    Args:
        file: what is written.
        shapes: each tensor's shape by name, in the order of the file.
        values: for each tensor, in the same order, its values in chunks.

    Raises:
        RuntimeError: the values are not as many as the shapes say.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    temporary = part_of(file)
    try:
        with open(temporary, "wb") as handle:
            handle.write(len(text).to_bytes(8, "little") + text)
            for chunks in values:
                for chunk in chunks:
                    np.ascontiguousarray(chunk, dtype="<f4").tofile(handle)
            if handle.tell() != 8 + len(text) + end:
                raise RuntimeError(f"{file}: wrote {handle.tell()} bytes, not {8 + len(text) + end}")
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _read_header(file: Path) -> list[StoredTensor]:
    size = file.stat().st_size
    with open(file, "rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise EmpathyEdgeError(
                f"{file}: is no safetensors file, or is truncated (header of {length} bytes)."
            )
        text = handle.read(length)
    try:
        return _parse_header(file, text, size)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        raise EmpathyEdgeError(
            f"{file}: the safetensors header is damaged or does not fit the file; get it again."
        ) from None


def _parse_header(file: Path, text: bytes, size: int) -> list[StoredTensor]:
    """The tensors of a JSON header in a file of `size` bytes; any kind of error if the header is wrong."""
    header = json.loads(text)
    header.pop("__metadata__", None)
    data_begin = 8 + len(text)
    tensors = []
    for name, item in header.items():
        begin, end = (data_begin + item["data_offsets"][place] for place in (0, 1))
        tensor = StoredTensor(file, name, item["dtype"], tuple(item["shape"]), begin)
        if not _fits(tensor, end, data_begin, size):
            raise ValueError(name)
        tensors.append(tensor)
    return tensors


def _fits(tensor: StoredTensor, end: int, data_begin: int, size: int) -> bool:
    """Whether dtype, shape and offsets agree, and the data lies between `data_begin` and `size`."""
    numbers = (*tensor.shape, tensor.begin, end)
    return (
        tensor.dtype in _BYTES
        and all(isinstance(number, int) and number >= 0 for number in numbers)
        and len(tensor.shape) <= MAX_DIMENSIONS
        and data_begin <= tensor.begin
        and tensor.begin + tensor.nbytes == end <= size
    )
