"""What a file that holds no data is, by its first bytes: a PDF, an archive, a picture, a database."""

from __future__ import annotations

BEGINNINGS = (
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a zip archive (as are docx, xlsx, odt, epub and .pt)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document (doc, xls, ppt)"),
    (b"{\\rtf", "an RTF document"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"BZh91AY&SY", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF87a", "a GIF picture"),
    (b"GIF89a", "a GIF picture"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"ARROW1\x00", "an Arrow file"),
    (b"GGUF\x02", "a GGUF model"),
    (b"GGUF\x03", "a GGUF model"),
    (b"OggS\x00", "a sound file"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
)
"""First bytes, and what a file is that begins with them; no text begins so."""

TAR = (257, b"ustar")
"""Where the mark of a tar archive stands, and what it is."""

LONGEST = 512
"""Bytes of the beginning that tell."""


def kind_of(beginning: bytes) -> str | None:
    """What a file is that begins with these bytes, in words; None where that is not known."""
    for first, kind in BEGINNINGS:
        if beginning.startswith(first):
            return kind
    place, mark = TAR
    return "a tar archive" if beginning[place:].startswith(mark) else None
