"""GGML's tensor types by our names, which are theirs in lower case: `q4_0`, `f16`."""

from __future__ import annotations


def type_name(number: int) -> str:
    """The name of a tensor type, as `q4_0`, from its number in a GGUF file."""
    import gguf

    return str(gguf.GGMLQuantizationType(number).name).lower()


def type_number(name: str) -> int:
    """The number of a tensor type in a GGUF file, from its name.

    Raises:
        KeyError: there is no such type.
    """
    import gguf

    return int(gguf.GGMLQuantizationType[name.upper()].value)
