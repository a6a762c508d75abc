"""The merged checkpoint: base plus adapters in full precision, proven against the adapter model."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.console import quiet_libraries
from empathy_edge.errors import VerdictFailed, require_extra
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION, read_template, turn_end
from empathy_edge.formats.tensor_files import StoredTensor, stored_tensors, write_safetensors
from empathy_edge.models.find import ModelRef
from empathy_edge.models.lora import Factors, adapter_model, change_of_weights, require_same_base
from empathy_edge.runs.stage import open_stage
from empathy_edge.system.files import MANIFEST, read_json, write_json
from empathy_edge.system.machine import require_space

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
)
CONFIG_FILES = ("generation_config.json", "model.safetensors.index.json")


def make(
    *, base: ModelRef, adapters: list[Path], out: Path, tolerance: float, update: bool = False
) -> dict[str, Any]:
    """Merge `adapters` into `base` and write a checkpoint folder.

    Args:
        base: the checkpoint that the first adapter was trained on.
        adapters: PEFT adapter folders, in the order in which they were trained.
        out: the checkpoint's folder.
        tolerance: the largest allowed difference of any logit between merged and adapter model, in nats.
        update: make it again where inputs or settings changed.

    Raises:
        VerdictFailed: the merged model does not say what the adapter model says.
    """
    require_extra("peft", "train", "Proving a merge")
    require_same_base(adapters, base)
    stage = open_stage(
        out,
        "merged",
        settings={"base": base.name, "base_sha256": base.sha256, "tolerance": tolerance},
        inputs={f"adapter_{index}": path for index, path in enumerate(adapters)},
        update=update,
    )
    if stage.done:
        return stage.manifest
    merge(base.path, adapters, out)
    return stage.finish(
        **_proof(base.path, adapters, out, tolerance), trained=[_training(path) for path in adapters]
    )


def _training(adapter: Path) -> dict[str, Any]:
    """How our own `finetune` made an adapter, for the model card; of one from elsewhere its rank alone is known."""
    record = adapter.parent / MANIFEST
    made = read_json(record) if record.is_file() else {}
    settings = made.get("settings", {})
    return {
        "step": made.get("stage"),
        "lora_rank": read_json(adapter / "adapter_config.json")["r"],
        "epochs": settings.get("epochs"),
        "learning_rate": settings.get("learning_rate"),
    }


def merge(base: Path, adapters: list[Path], out: Path) -> None:
    """Write base + adapters as float32, shard by shard and matrix by matrix, without torch.

    Raises:
        EmpathyEdgeError: an adapter does not fit the base, or the disk is too small.
    """
    tensors = stored_tensors(base)
    require_space(
        out, 1.1 * sum(4 * math.prod(item.shape) for item in tensors.values()) / 1e6, "the merged checkpoint"
    )
    changes = change_of_weights(adapters, {name: item.shape for name, item in tensors.items()})
    shards: dict[str, dict[str, StoredTensor]] = {}
    for name, item in tensors.items():
        shards.setdefault(item.file.name, {})[name] = item
    for shard, items in shards.items():
        values = (_merged(item, changes.get(name, [])) for name, item in items.items())
        write_safetensors(out / shard, {name: item.shape for name, item in items.items()}, values)
    for name in (*TOKENIZER_FILES, *CONFIG_FILES):
        if (base / name).is_file():
            shutil.copyfile(base / name, out / name)
    config = read_json(base / "config.json")
    config.pop("torch_dtype", None)
    write_json(out / "config.json", config | {"dtype": "float32"})


def _merged(tensor: StoredTensor, factors: list[Factors]) -> Iterator[np.ndarray]:
    """W + scale · B A, in rows as they are read."""
    start = 0
    for rows in tensor.chunks():
        end = start + len(rows) if tensor.shape else 1
        for down, up, scale in factors:
            rows = rows + np.float32(scale) * (up[start:end] @ down)
        yield rows
        start = end


def _proof(base: Path, adapters: list[Path], merged: Path, tolerance: float) -> dict[str, Any]:
    """Compare the checkpoint as it lies on the disk with base + adapters (PEFT, unmerged); fails above `tolerance`."""
    quiet_libraries()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(merged, local_files_only=True)
    ids = tokenizer.apply_chat_template(
        GOLDEN_CONVERSATION, add_generation_prompt=True, return_dict=False, return_tensors="pt"
    )
    with torch.inference_mode():
        wanted = adapter_model(base, adapters)(
            input_ids=ids
        ).logits  # and forgotten, before the next one is loaded
        model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32, local_files_only=True)
        found = model(input_ids=ids).logits
    difference = float((wanted - found).abs().max())
    if not difference <= tolerance:
        raise VerdictFailed(
            f"{merged}: the merged checkpoint differs from the adapter model by {difference:.4f} in a logit "
            f"(allowed: {tolerance})."
        )
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    tied = embedding.data_ptr() == head.data_ptr()
    if tied != bool(read_json(base / "config.json").get("tie_word_embeddings")):
        raise VerdictFailed(
            f"{merged}: input and output embeddings are {'tied' if tied else 'untied'} by the merge."
        )
    if read_template(merged).encode() != read_template(base).encode():
        raise VerdictFailed(f"{merged}: the chat template is not the base's.")
    return {
        "merge_max_abs_logit_difference": round(difference, 6),
        "merge_positions": int(ids.shape[1]),
        "tied_embeddings": tied,
        "turn_end": turn_end(read_template(merged)),
    }
