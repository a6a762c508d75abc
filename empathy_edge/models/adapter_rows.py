"""New tokens in an adapter: how many rows of embeddings it was trained with, and which its file holds.

Where the vocabulary grew, PEFT stores the whole matrix, under a name that depends on how the module was
trained. With `trainable_token_indices` it may store the rows of these tokens alone.
"""

from __future__ import annotations

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.tensor_files import StoredTensor
from empathy_edge.models.adapter_folder import CONFIG, PREFIX, AdapterFolder

WHOLE = ("weight", "base_layer.weight", "token_adapter.base_layer.weight")
"""A module's matrix in an adapter's file: saved whole; under a LoRA or trained tokens; under trained tokens
beside a LoRA."""

OF_TOKENS = ("trainable_tokens_delta", "token_adapter.trainable_tokens_delta")
"""The rows of a module's trained tokens in an adapter's file."""

LORA_OF_EMBEDDINGS = "lora_embedding_A"
"""The matrix of a LoRA on embeddings that has a column for each token."""


def module_of(tensor: str) -> str:
    """The module of the base that a tensor of an adapter belongs to, if it is one of embeddings.

    >>> module_of("base_model.model.model.embed_tokens.token_adapter.base_layer.weight")
    'model.embed_tokens'
    """
    name = tensor.removeprefix(PREFIX)
    for end in sorted((*WHOLE, *OF_TOKENS, LORA_OF_EMBEDDINGS), key=len, reverse=True):
        if name.endswith(f".{end}"):
            return name.removesuffix(f".{end}")
    return name


def rows_in_training(adapter: AdapterFolder, module: str, rows: int) -> int:
    """How many rows a matrix had when the adapter was trained, as far as its file says it.

    Args:
        adapter: the adapter.
        module: the matrix's module, as `model.embed_tokens`.
        rows: of the base; an adapter that changes no new token says nothing else.
    """
    whole = _whole(adapter, module)
    if whole is not None:
        return whole.shape[0]
    lora = adapter.tensors.get(f"{PREFIX}{module}.{LORA_OF_EMBEDDINGS}")
    if lora is not None and len(lora.shape) == 2:
        return lora.shape[1]
    return max([rows - 1, *_trained_tokens(adapter, module)]) + 1


def require_rows(adapter: AdapterFolder, module: str, rows: int, wanted: int) -> None:
    """Refuse an adapter whose file does not hold the rows that the base lacks.

    Args:
        adapter: the adapter.
        module: the matrix's module.
        rows: of the base.
        wanted: as many had the adapter in training.

    Raises:
        EmpathyEdgeError: names the option that trained them, and how to save them.
    """
    if wanted == rows or _whole(adapter, module) is not None:
        return
    has_lora = f"{PREFIX}{module}.{LORA_OF_EMBEDDINGS}" in adapter.tensors
    held = set() if has_lora else set(_trained_tokens(adapter, module))
    if wanted > rows and set(range(rows, wanted)) <= held:
        return
    option = "trainable_token_indices" if held or adapter.config.get("trainable_token_indices") else ""
    option = "target_modules: a LoRA of embeddings" if has_lora else option
    raise EmpathyEdgeError(
        f"{adapter.path}: was trained with {wanted} rows of embeddings (the base has {rows}), but lacks "
        f"those of {module}{f' ({CONFIG}, {option})' if option else ''}.\n"
        "  Save it again with all of them, by PEFT's save_pretrained(…, save_embedding_layers=True), or "
        "train them whole (modules_to_save)."
    )


def _whole(adapter: AdapterFolder, module: str) -> StoredTensor | None:
    """The module's matrix with all of its rows; None where the file does not hold it."""
    names = (f"{PREFIX}{module}.{name}" for name in WHOLE)
    return next((adapter.tensors[name] for name in names if name in adapter.tensors), None)


def _trained_tokens(adapter: AdapterFolder, module: str) -> list[int]:
    """The tokens of which the file holds the rows of a module."""
    if not any(f"{PREFIX}{module}.{name}" in adapter.tensors for name in OF_TOKENS):
        return []
    given = adapter.config.get("trainable_token_indices") or adapter.config.get("token_indices")
    if isinstance(given, dict):
        given = next((rows for name, rows in given.items() if f".{module}".endswith(f".{name}")), None)
    return [token for token in given if isinstance(token, int)] if isinstance(given, list) else []
