"""A .litertlm file from anywhere as an artifact: a folder in the cache with its tokenizer and template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.litertlm_file import MODEL, LitertLmFile, read_litertlm
from empathy_edge.models.templated_folder import link
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import MANIFEST, file_record, read_json_object, write_atomically, write_json
from empathy_edge.system.hash_cache import sha256_file
from empathy_edge.system.kept_models import mark_used

DEFAULT_CONTEXT = 4096
"""Tokens, where a file does not say how many it allows."""


def folder_of_litertlm(path: Path) -> Path:
    """The folder; it is made once for each file, and again where its model is no longer that file.

    Raises:
        EmpathyEdgeError: it is no .litertlm, is damaged or cut short, or has no chat template or tokenizer.
    """
    file = read_litertlm(path)
    sha256 = sha256_file(path)
    folder = cache_folder() / "litertlm" / sha256[:16] / path.stem
    if _is_whole(folder, path, sha256):
        mark_used(folder.parent)
        return folder
    if not file.metadata.template:
        raise EmpathyEdgeError(
            f"{path}: has no Jinja template in it (older files have fixed forms of prompts). "
            "Export it from its checkpoint: empathy-edge export MODEL --to litertlm-int8."
        )
    tokenizer = file.tokenizer_json()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).unlink(missing_ok=True)
    link(path.resolve(), folder / MODEL)
    write_atomically(folder / "tokenizer.json", tokenizer.decode("utf-8"))
    write_atomically(folder / "chat_template.jinja", file.metadata.template)
    configs = _configs(file, tokenizer)
    for name, content in configs.items():
        write_json(folder / name, content)
    record = {
        "name": path.stem,
        "format": "litertlm",
        "quantization": "unknown",
        "file": MODEL,
        "sha256": sha256,
        "size_mb": round(path.stat().st_size / 1e6, 1),
    }
    names = sorted([MODEL, "tokenizer.json", "chat_template.jinja", *configs])
    outputs = {name: file_record(folder / name) for name in names}
    write_json(folder / MANIFEST, {"stage": "litertlm", "artifact": record, "outputs": outputs})
    return folder


def _is_whole(folder: Path, path: Path, sha256: str) -> bool:
    """Whether a folder lists its files and has them all, and its model is the file at `path` or a copy."""
    if not (folder / MANIFEST).is_file():
        return False
    outputs = read_json_object(folder / MANIFEST).get("outputs")
    if not outputs or not all((folder / name).is_file() for name in outputs):
        return False
    model = folder / MODEL
    return model.resolve() == path.resolve() if model.is_symlink() else sha256_file(model) == sha256


def _configs(file: LitertLmFile, tokenizer: bytes) -> dict[str, dict[str, Any]]:
    """config.json and tokenizer_config.json, as far as a runtime needs them."""
    metadata = file.metadata
    texts = _texts_of_tokens(tokenizer)
    stops = list(metadata.stop_ids)
    stops += [token for token, text in texts.items() if text in metadata.stop_texts and token not in stops]
    config = {"max_position_embeddings": metadata.max_tokens or DEFAULT_CONTEXT, "eos_token_id": stops}
    names: dict[str, Any] = {}
    start = texts.get(metadata.start) if isinstance(metadata.start, int) else metadata.start
    if start:
        names["bos_token"] = start
    if stops and stops[0] in texts:
        names["eos_token"] = texts[stops[0]]
    return {"config.json": config, "tokenizer_config.json": names}


def _texts_of_tokens(tokenizer: bytes) -> dict[int, str]:
    """The texts of the tokens that were added to the vocabulary, by their ids."""
    try:
        added = json.loads(tokenizer).get("added_tokens", [])
        return {int(item["id"]): str(item["content"]) for item in added}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
