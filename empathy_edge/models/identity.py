"""Which model an answer, a rating or a file is from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from empathy_edge.models.find import ModelRef
from empathy_edge.system.files import sha256_json
from empathy_edge.system.hash_cache import sha256_file

ADAPTER_FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


def model_identity(
    model: ModelRef, adapters: Sequence[Path] = (), settings: Mapping[str, object] | None = None
) -> str:
    """The hash of all that decides a model's answers.

    Args:
        model: its files: weights, tokenizer, template, settings of generation.
        adapters: PEFT folders that are added to it, in their order; their scale is in their configuration.
        settings: what else decides the answers, such as the system prompt and the longest answer.
    """
    return sha256_json([model.identity, [adapter_identity(item) for item in adapters], dict(settings or {})])


def adapter_identity(adapter: Path) -> str:
    """The hash of an adapter's weights and configuration."""
    files = [adapter / name for name in ADAPTER_FILES if (adapter / name).is_file()]
    return sha256_json({file.name: sha256_file(file) for file in files})
