"""What a chat template must know of a tokenizer: its tokens, and how texts begin and end."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.gguf_header import metadata_of
from empathy_edge.system.files import read_json_object

_BEGINS_WITH_BOS = ("llama3", "llama-v3", "llama-bpe", "tekken", "falcon3")
"""Rules of splitting text with which llama.cpp begins a text with that token, if the file does not say."""


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer's tokens.

    Attributes:
        tokens: the texts of all of them.
        bos: the beginning-of-sequence token's text; empty if there is none.
        eos: the end-of-sequence token's text; empty if there is none.
        adds_bos: whether every text begins with `bos`.
        model_type: the family, as `config.json` or a GGUF calls it; empty where nothing says it.
    """

    tokens: AbstractSet[str]
    bos: str
    eos: str
    adds_bos: bool
    model_type: str


def vocabulary_of_folder(tokenizer: Path, model: Path | None = None) -> Vocabulary:
    """The vocabulary of a folder with tokenizer.json.

    Args:
        tokenizer: a checkpoint's, adapter's or artifact's folder.
        model: the folder of config.json, where it is another one.

    Raises:
        EmpathyEdgeError: there is no tokenizer.json, or it is damaged.
    """
    if not (tokenizer / "tokenizer.json").is_file():
        raise EmpathyEdgeError(
            f"{tokenizer}: no tokenizer.json; save the tokenizer with transformers 5 to get it."
        )
    stored = read_json_object(tokenizer / "tokenizer.json")
    file = tokenizer / "tokenizer_config.json"
    settings = read_json_object(file) if file.is_file() else {}
    config_file = (model or tokenizer) / "config.json"
    config = read_json_object(config_file) if config_file.is_file() else {}
    vocabulary = (stored.get("model") or {}).get("vocab") or {}
    tokens = set(vocabulary) if isinstance(vocabulary, dict) else {str(item[0]) for item in vocabulary}
    added = stored.get("added_tokens") or []
    tokens |= {str(item["content"]) for item in added if isinstance(item, dict) and "content" in item}
    bos = _text(settings.get("bos_token"))
    first = first_special_token(stored.get("post_processor") or {})
    adds_bos = bool(bos) and (first == bos or settings.get("add_bos_token") is True)
    eos = _text(settings.get("eos_token"))
    return Vocabulary(tokens, bos, eos, adds_bos, str(config.get("model_type") or ""))


def _text(token: Any) -> str:
    """A special token of tokenizer_config.json, which is a text or an object."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def first_special_token(post_processor: Any) -> str | None:
    """The first special token that a post-processor puts before a text; None where it puts none.

    Raises:
        EmpathyEdgeError: it is not written as tokenizers writes it.
    """
    try:
        for part in post_processor.get("processors", [post_processor]):
            for step in part.get("single", []):
                if "Sequence" in step:
                    return None
                if "SpecialToken" in step:
                    return str(step["SpecialToken"]["id"])
    except (AttributeError, TypeError, KeyError):
        raise EmpathyEdgeError("tokenizer.json: its post_processor is damaged; get the file again.") from None
    return None


def vocabulary_of_gguf(file: Path) -> Vocabulary:
    """The vocabulary of a GGUF file.

    Raises:
        EmpathyEdgeError: the file is damaged.
    """
    roles = ("bos_token_id", "eos_token_id", "add_bos_token", "tokens", "model", "pre")
    names = [f"tokenizer.ggml.{role}" for role in roles]
    found = metadata_of(file, [*names, "general.architecture"])
    bos_id, eos_id, add_bos, tokens, model, pre = (found.get(name) for name in names)
    texts = [str(token) for token in tokens] if isinstance(tokens, list) else []

    def text_of(token: object) -> str:
        return texts[token] if isinstance(token, int) and 0 <= token < len(texts) else ""

    bos = text_of(bos_id)
    if not isinstance(add_bos, bool):
        add_bos = model == "llama" or pre in _BEGINS_WITH_BOS
    architecture = str(found.get("general.architecture") or "")
    return Vocabulary(set(texts), bos, text_of(eos_id), bool(bos) and add_bos, architecture)
