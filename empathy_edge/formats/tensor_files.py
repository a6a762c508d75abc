"""Safetensors read and written one tensor at a time, a few megabytes at once, without torch.

The format is https://github.com/huggingface/safetensors#format: eight bytes with the header's length, a JSON header, the
data. A stranger's header is checked before anything is read: it may lie about lengths, types and places.
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

CHUNK_BYTES = 8 * 2**20
MOST_HEADER = 64 * 2**20

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_FLOATS: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that lies in a safetensors file: its name, dtype (the format's name), shape, and the byte where it begins."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int

    @property
    def nbytes(self) -> int:
        """How many bytes it takes on the disk."""
        return math.prod(self.shape) * _BYTES[self.dtype]

    def chunks(self) -> Iterator[np.ndarray]:
        """Its values as float32 [rows, …], some whole rows at a time."""
        if self.dtype not in _FLOATS:
            raise EmpathyEdgeError(
                f"{self.file}: {self.name} is stored as {self.dtype}, not as floating point."
            )
        stored = _FLOATS[self.dtype]
        rows = self.shape[0] if self.shape else 1
        row_shape = self.shape[1:]
        in_row = math.prod(row_shape)
        step = max(1, CHUNK_BYTES // max(1, in_row * 4))
        with open(self.file, "rb") as handle:
            handle.seek(self.begin)
            for start in range(0, rows, step):
                count = min(step, rows - start)
                values = np.fromfile(handle, dtype=stored, count=count * in_row).reshape(count, *row_shape)
                if self.dtype == "BF16":
                    yield (values.astype(np.uint32) << 16).view(np.float32)
                else:
                    yield values.astype(np.float32, copy=False)

    def load(self) -> np.ndarray:
        """All of it as float32."""
        parts = list(self.chunks())
        whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
        return whole.reshape(self.shape)


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a checkpoint folder, over all its shards.

    Raises:
        EmpathyEdgeError: a header that lies or is damaged, a missing shard, a tensor stored twice.
    """
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            named = sorted(
                {str(name) for name in json.loads(index.read_text("utf-8"))["weight_map"].values()}
            )
        except (ValueError, KeyError, AttributeError):
            raise EmpathyEdgeError(f"{index}: is no index of safetensors files.") from None
        missing = [name for name in named if name not in {file.name for file in files}]
        if missing:
            raise EmpathyEdgeError(
                f"{folder}: the shard {missing[0]} is missing ({len(missing)} of {len(named)})."
            )
        files = [folder / name for name in named]
    if not files:
        raise EmpathyEdgeError(f"{folder}: no .safetensors file in it.")
    found: dict[str, StoredTensor] = {}
    for file in files:
        for tensor in _read_header(file):
            if tensor.name in found:
                raise EmpathyEdgeError(
                    f"{file}: {tensor.name} is stored twice, also in {found[tensor.name].file}."
                )
            found[tensor.name] = tensor
    return found


def write_safetensors(
    file: Path, shapes: dict[str, tuple[int, ...]], values: Iterable[Iterable[np.ndarray]]
) -> None:
    """Write float32 tensors, streaming: `values` gives each one's chunks, in the order of `shapes`.

    The file appears whole or not at all.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    temporary = file.with_suffix(".tmp")
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
        if not 2 <= length <= min(MOST_HEADER, size - 8):
            raise EmpathyEdgeError(
                f"{file}: is no safetensors file, or is truncated (header of {length} bytes)."
            )
        try:
            header = json.loads(handle.read(length))
            header.pop("__metadata__", None)
            tensors = [
                StoredTensor(
                    file, name, item["dtype"], tuple(item["shape"]), 8 + length + item["data_offsets"][0]
                )
                for name, item in header.items()
            ]
            ends = [item["data_offsets"][1] for item in header.values()]
            good = all(
                tensor.dtype in _BYTES
                and all(isinstance(side, int) and side >= 0 for side in (*tensor.shape, tensor.begin, end))
                and len(tensor.shape) <= 8
                and tensor.begin >= 8 + length
                and tensor.begin + tensor.nbytes == 8 + length + end <= size
                for tensor, end in zip(tensors, ends, strict=True)
            )
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            good, tensors = False, []
    if not good:
        raise EmpathyEdgeError(
            f"{file}: the safetensors header is damaged or does not fit the file; get it again."
        )
    return tensors
