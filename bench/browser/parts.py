"""A GGUF file as parts that a browser can take: each is a GGUF of its own, as `llama-gguf-split` makes them.

A browser holds a file in one buffer of at most 2 GB, and small parts are kinder to a phone. No part is
written to the disk: it is a new header in memory and a range of the model's file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from empathy_edge.formats.gguf_header import GgufLayout, TensorPlace, layout_of

MAX_MODEL_MB = 3500
"""WebAssembly has 4 GB of memory for the model, its context and everything else (32-bit addresses)."""

_UINT16, _INT32, _UINT32 = 2, 5, 4
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Part:
    """One part: `header`, and after it `data_bytes` of the file from `data_begin` on."""

    file: Path
    header: bytes
    data_begin: int
    data_bytes: int

    @property
    def size(self) -> int:
        """Bytes of the whole part."""
        return len(self.header) + self.data_bytes

    def read(self, begin: int, end: int) -> Iterator[bytes]:
        """The bytes from `begin` up to `end` (not included), in blocks of at most 1 MiB."""
        if begin < len(self.header):
            yield self.header[begin:end]
        place = max(begin - len(self.header), 0)
        last = end - len(self.header)
        with open(self.file, "rb") as handle:
            handle.seek(self.data_begin + place)
            while place < last:
                block = handle.read(min(_BLOCK_BYTES, last - place))
                if not block:
                    raise OSError(f"{self.file}: became shorter while it was served")
                place += len(block)
                yield block


def parts_of(file: Path, part_bytes: int) -> list[Part]:
    """The parts of a model, one where it is small enough.

    Args:
        file: a GGUF file.
        part_bytes: of a part's data at most; a single larger tensor still makes one part.

    Raises:
        EmpathyEdgeError: the file is no GGUF, or damaged.
    """
    layout = layout_of(file)
    size = file.stat().st_size
    groups = _groups(layout.tensors, part_bytes)
    if size <= part_bytes or len(groups) == 1:
        return [Part(file, b"", 0, size)]
    return [_part(file, layout, groups, number) for number in range(len(groups))]


def _groups(tensors: dict[str, TensorPlace], part_bytes: int) -> list[list[str]]:
    """The names of the tensors of each part, in the order of their data."""
    groups: list[list[str]] = []
    begin = 0
    for name, place in sorted(tensors.items(), key=lambda item: item[1].begin):
        if not groups or place.begin + place.nbytes - begin > part_bytes:
            groups.append([])
            begin = place.begin
        groups[-1].append(name)
    return groups


def _part(file: Path, layout: GgufLayout, groups: list[list[str]], number: int) -> Part:
    """Part `number`: the first has all metadata, every part says which one it is and how many there are."""
    names = groups[number]
    first, last = layout.tensors[names[0]], layout.tensors[names[-1]]
    keys = layout.keys if number == 0 else _alignment(layout.alignment)
    count = layout.key_count if number == 0 else 1
    keys += _key("split.no", _UINT16, struct.pack("<H", number))
    keys += _key("split.count", _UINT16, struct.pack("<H", len(groups)))
    keys += _key("split.tensors.count", _INT32, struct.pack("<i", len(layout.tensors)))
    header = b"GGUF" + struct.pack("<IQQ", 3, len(names), count + 3) + keys
    for name in names:
        place = layout.tensors[name]
        header += _string(name) + struct.pack(f"<I{len(place.shape)}Q", len(place.shape), *place.shape)
        header += struct.pack("<IQ", place.kind, place.begin - first.begin)
    header += bytes(-len(header) % layout.alignment)
    return Part(file, header, first.begin, last.begin + last.nbytes - first.begin)


def _alignment(alignment: int) -> bytes:
    return _key("general.alignment", _UINT32, struct.pack("<I", alignment))


def _key(name: str, kind: int, value: bytes) -> bytes:
    return _string(name) + struct.pack("<I", kind) + value


def _string(text: str) -> bytes:
    encoded = text.encode("utf-8")
    return struct.pack("<Q", len(encoded)) + encoded
