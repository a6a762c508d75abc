"""litert-torch's own program, with what it lacks for attention in a sliding window (Gemma 3, Mistral).

litert-torch 0.9.4 asks a cache for `get_max_cache_shape`, which transformers' Cache no longer has. It runs in
the environment of litert-torch, by its Python: nothing of this project can be imported here.
"""

from __future__ import annotations

from typing import Any


def get_max_cache_shape(cache: Any) -> int:
    """The length of a cache, in tokens: that of its first layer with keys and values."""
    return int(next(layer for layer in cache.layers if hasattr(layer, "max_cache_len")).max_cache_len)


def main() -> None:
    from litert_torch.cli import main as litert_torch
    from litert_torch.generative.export_hf.core.cache import LiteRTLMCache

    if not hasattr(LiteRTLMCache, "get_max_cache_shape"):
        LiteRTLMCache.get_max_cache_shape = get_max_cache_shape
    litert_torch()


if __name__ == "__main__":
    main()
