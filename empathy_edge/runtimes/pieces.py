"""Tokenizer files: the two alphabets of vocabularies (GPT-2's and SentencePiece's), and special tokens."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=1)
def byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: from characters to the bytes they stand for (openai/gpt-2, `bytes_to_unicode`)."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    alphabet = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if chr(byte) not in alphabet]
    for index, byte in enumerate(others):
        alphabet[chr(256 + index)] = byte
    return alphabet


def piece_bytes(piece: str, byte_level: bool) -> bytes:
    """The bytes that a piece of a vocabulary stands for.

    Args:
        piece: as the vocabulary writes it.
        byte_level: whether in GPT-2's alphabet; otherwise in SentencePiece's, with ▁ for a space and <0x0A>
            for a byte.
    """
    if byte_level:
        alphabet = byte_alphabet()
        known = all(char in alphabet for char in piece)
        return bytes(alphabet[char] for char in piece) if known else piece.encode("utf-8")
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("▁", " ").encode("utf-8")


def special_text(token: str | dict[str, str] | None) -> str:
    """A special token's text, from tokenizer_config.json, which has two ways to write it; empty for none."""
    if isinstance(token, dict):
        return token["content"]
    return token or ""


def ids_of(value: int | list[int] | None) -> frozenset[int]:
    """The token ids of `eos_token_id` in a configuration: none, one or several."""
    if value is None:
        return frozenset()
    return frozenset(value if isinstance(value, list) else [value])
