"""How vocabularies write their pieces: in GPT-2's byte-level alphabet, or SentencePiece's."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=1)
def byte_alphabet() -> dict[str, int]:
    """Each byte's printable character → the byte (openai/gpt-2, encoder.py, `bytes_to_unicode`)."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    alphabet = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet.update({chr(256 + index): byte for index, byte in enumerate(others)})
    return alphabet


def piece_bytes(piece: str, byte_level: bool) -> bytes:
    """The bytes that a piece of a vocabulary stands for.

    Args:
        piece: as the vocabulary writes it.
        byte_level: GPT-2's alphabet; otherwise SentencePiece's, with ▁ for a space and <0x0A> for a byte.
    """
    if byte_level:
        alphabet = byte_alphabet()
        known = all(char in alphabet for char in piece)
        return bytes(alphabet[char] for char in piece) if known else piece.encode("utf-8")
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("▁", " ").encode("utf-8")


def special_text(token: str | dict[str, str] | None) -> str:
    """A special token as tokenizer_config.json writes it, in either of its two ways; empty where there is none."""
    return token["content"] if isinstance(token, dict) else token or ""
