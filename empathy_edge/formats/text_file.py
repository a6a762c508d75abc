"""A text file read line by line, also gzipped, so that its size does not matter.

It is checked on the way: UTF-8, no NUL bytes, and no gzip file that becomes far too large.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.binary_files import LONGEST, kind_of

MAX_BYTES = 2 << 30
"""Of what is held in memory as a whole, and of a gzip or Parquet file, decompressed."""

MAX_RATIO = 200
"""How many times as large a gzip or Parquet file may become; text becomes 3 to 20 times as large."""

ALWAYS_ALLOWED = 64 << 20
"""Bytes up to which the ratio does not matter."""

CHUNK = 1 << 20

BOM = b"\xef\xbb\xbf"


def most_bytes(size: int) -> int:
    """How large a compressed file of `size` bytes may become."""
    return min(MAX_BYTES, max(ALWAYS_ALLOWED, MAX_RATIO * size))


class TextFile:
    """A file of text, plain or gzipped; each method reads it from its beginning.

    Attributes:
        path: the file.
        is_gzip: whether it is gzipped; its content says so.
        size: bytes on the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "rb") as handle:
            self.is_gzip = handle.read(2) == b"\x1f\x8b"
        self.size = path.stat().st_size

    def starts_with(self, beginning: bytes) -> bool:
        """Whether the content begins like this."""
        return next(self._parts(len(beginning)), b"") == beginning

    def first_byte(self) -> bytes:
        """The first one that is no space; empty where none is near the beginning."""
        return next(self._parts(CHUNK), b"").removeprefix(BOM).lstrip()[:1]

    def lines(self) -> Iterator[str]:
        """The lines, each with the line feed that ends it, which only the last one may lack.

        Raises:
            EmpathyEdgeError: a line is not UTF-8, has a NUL byte or is too large to be held in memory, or the
                gzip file is damaged or too large.
        """
        place = 0
        for number, line in enumerate(self._parts(), 1):
            content = line.removeprefix(BOM) if number == 1 else line
            if b"\0" in content:
                raise self._binary()
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError as error:
                raise self._not_utf8(number, place + error.start) from None
            place += len(line)
            yield text

    def table_lines(self) -> Iterator[str]:
        """As `lines`, but a carriage return ends a line, too, as in tables and in files of old Macs."""
        for line in self.lines():
            if "\r" in line:
                yield from io.StringIO(line, newline="")
            else:
                yield line

    def whole(self) -> str:
        """The whole text.

        Raises:
            EmpathyEdgeError: as for `lines`, or it is too large to be held in memory.
        """
        self.require_small()
        return "".join(self.lines())

    def require_small(self) -> None:
        """Raise EmpathyEdgeError where the whole text is too large to be held in memory."""
        if not self.is_gzip and self.size > MAX_BYTES:
            raise EmpathyEdgeError(
                f"{self.path}: {self.size >> 20} MB; of JSON that is not one object a line at most "
                f"{MAX_BYTES >> 20} MB are read. Split it, or save it as JSON Lines."
            )

    def content(self) -> bytes:
        """The whole content, decompressed."""
        return b"".join(self._parts())

    def _parts(self, size: int = -1) -> Iterator[bytes]:
        """The content, decompressed, in lines, or in parts of at most `size` bytes."""
        if not self.is_gzip:
            with open(self.path, "rb") as handle:
                for number, part in enumerate(_read(handle, size, MAX_BYTES + 1), 1):
                    if len(part) > MAX_BYTES:
                        raise EmpathyEdgeError(
                            f"{self.path}: line {number} is longer than {MAX_BYTES >> 20} MB, the limit."
                        )
                    yield part
            return
        most = most_bytes(self.size)
        total = 0
        try:
            with gzip.open(self.path) as unzipped:
                for part in _read(cast("IO[bytes]", unzipped), size, most + 1):
                    total += len(part)
                    if total > most:
                        raise EmpathyEdgeError(
                            f"{self.path}: {self.size >> 10} KB become more than {most >> 20} MB, the limit "
                            "for gzip. Unpack it yourself if you trust it."
                        )
                    yield part
        except (OSError, EOFError, zlib.error) as error:
            raise EmpathyEdgeError(f"{self.path}: not readable as gzip ({error}).") from None

    def require_data(self) -> None:
        """Raise EmpathyEdgeError where the first bytes are those of something that holds no data."""
        kind = kind_of(next(self._parts(LONGEST), b""))
        if kind is not None:
            raise EmpathyEdgeError(
                f"{self.path}: is {kind}, which is no data. "
                "Give JSON Lines, JSON, CSV, Parquet or text (UTF-8), also gzipped."
            )

    def _binary(self) -> EmpathyEdgeError:
        return EmpathyEdgeError(f"{self.path}: is UTF-16 or binary; save it as UTF-8.")

    def _not_utf8(self, line: int, place: int) -> EmpathyEdgeError:
        beginning = next(self._parts(CHUNK), b"")
        if b"\0" in beginning:
            return self._binary()
        return EmpathyEdgeError(
            f"{self.path}: line {line} is not UTF-8 (byte {place}). Save the file as UTF-8."
        )


def _read(handle: IO[bytes], size: int, longest: int) -> Iterator[bytes]:
    """A file's content in lines of at most `longest` bytes; in parts of `size` bytes, unless that is -1."""
    while part := handle.read(size) if size > 0 else handle.readline(longest):
        yield part
