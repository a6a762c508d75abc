"""The merged checkpoint: base plus adapters in full precision, compared with the adapter model."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from empathy_edge.console import quiet_libraries
from empathy_edge.errors import VerdictFailed, require_extra
from empathy_edge.formats.chat_format import (
    GOLDEN_CONVERSATION,
    eos_of,
    fit_to_template,
    read_template,
    template_of,
    turn_end,
)
from empathy_edge.formats.tensor_files import StoredTensor, stored_tensors, write_safetensors
from empathy_edge.models.find import ModelRef
from empathy_edge.models.lora import Factors, adapter_model, change_of_weights, require_same_base
from empathy_edge.runs.stage import Results, open_stage
from empathy_edge.system.files import MANIFEST, read_json, write_json
from empathy_edge.system.machine import require_space

STAGE = "merged"

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
)
CONFIG_FILES = ("generation_config.json", "model.safetensors.index.json")


class TrainedAdapter(BaseModel):
    """How an adapter was trained; of one that is not from our own `finetune` the rank alone is known.

    Attributes:
        step: `sft` or `dpo`.
        lora_rank: of its matrices.
        epochs: passes over the training rows.
        learning_rate: the highest of the schedule.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str | None
    lora_rank: int
    epochs: float | None
    learning_rate: float | None


class MergeResults(Results):
    """What the merge found.

    Attributes:
        merge_max_abs_logit_difference: the largest difference of a logit to the adapter model's.
        merge_positions: at how many tokens the logits were compared.
        tied_embeddings: whether input and output embeddings are one matrix.
        turn_end: the token with which the chat template ends a turn.
        trained: the adapters, in the order of training.
    """

    merge_max_abs_logit_difference: float
    merge_positions: int
    tied_embeddings: bool
    turn_end: str
    trained: list[TrainedAdapter]


def make(
    *, base: ModelRef, adapters: list[Path], out: Path, tolerance: float, update: bool = False
) -> MergeResults:
    """Merge `adapters` into `base` and write a checkpoint folder.

    Args:
        base: the checkpoint that the first adapter was trained on.
        adapters: PEFT adapter folders, in the order in which they were trained.
        out: the checkpoint's folder.
        tolerance: the largest allowed difference of any logit between merged and adapter model.
        update: make it again where inputs or settings changed.

    Raises:
        VerdictFailed: the merged model does not compute what the adapter model computes.
    """
    require_extra("peft", "train", "Proving a merge")
    require_same_base(adapters, base)
    stage = open_stage(
        out,
        STAGE,
        settings={**base.record(), "tolerance": tolerance},
        inputs={f"adapter_{index}": path for index, path in enumerate(adapters)},
        files=("*.safetensors", "config.json", *TOKENIZER_FILES, *CONFIG_FILES),
        update=update,
    )
    if stage.done:
        return stage.results(MergeResults)
    merge(base.path, adapters, out)
    results = _compare_with_adapter_model(base.path, adapters, out, tolerance)
    stage.finish(results)
    return results


def merge(base: Path, adapters: list[Path], out: Path) -> None:
    """Write base + adapters as float32, shard by shard and matrix by matrix, without torch.

    Raises:
        EmpathyEdgeError: an adapter does not fit the base, or the disk is too small.
    """
    tensors = stored_tensors(base)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    float32_bytes = sum(4 * math.prod(shape) for shape in shapes.values())
    require_space(out, 1.1 * float32_bytes / 1e6, "the merged checkpoint")
    changes = change_of_weights(adapters, shapes)
    shards: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        shards.setdefault(tensor.file.name, {})[name] = tensor
    for shard, members in shards.items():
        values = (_merged(tensor, changes.get(name, [])) for name, tensor in members.items())
        write_safetensors(out / shard, {name: shapes[name] for name in members}, values)
    for name in (*TOKENIZER_FILES, *CONFIG_FILES):
        if (base / name).is_file():
            shutil.copyfile(base / name, out / name)
    config = read_json(base / "config.json")
    config.pop("torch_dtype", None)
    write_json(out / "config.json", config | {"dtype": "float32"})


def _merged(tensor: StoredTensor, factors: list[Factors]) -> Iterator[np.ndarray]:
    """W + scale · B A, some rows at a time."""
    start = 0
    for rows in tensor.chunks():
        end = start + len(rows) if tensor.shape else 1
        for down, up, scale in factors:
            rows = rows + np.float32(scale) * (up[start:end] @ down)
        yield rows
        start = end


def _compare_with_adapter_model(
    base: Path, adapters: list[Path], merged: Path, tolerance: float
) -> MergeResults:
    """Compare the checkpoint on the disk with base + adapters (PEFT, unmerged); fails above `tolerance`."""
    quiet_libraries()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(merged, local_files_only=True)
    ids = tokenizer.apply_chat_template(
        fit_to_template(template_of(tokenizer), GOLDEN_CONVERSATION),
        add_generation_prompt=True,
        return_dict=False,
        return_tensors="pt",
    )
    with torch.inference_mode():
        # The adapter model is freed before the merged one is loaded.
        expected = adapter_model(base, adapters)(input_ids=ids).logits
        model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32, local_files_only=True)
        found = model(input_ids=ids).logits
    difference = float((expected - found).abs().max())
    if not difference <= tolerance:
        raise VerdictFailed(
            f"{merged}: the merged checkpoint differs from the adapter model by {difference:.4f} in a logit "
            f"(allowed: {tolerance})."
        )
    return MergeResults(
        merge_max_abs_logit_difference=round(difference, 6),
        merge_positions=int(ids.shape[1]),
        tied_embeddings=_require_same_tying(model, base, merged),
        turn_end=_require_same_template(base, merged),
        trained=[_training_of(adapter) for adapter in adapters],
    )


def _require_same_tying(model: Any, base: Path, merged: Path) -> bool:
    """Whether the embeddings are tied, which the merge must not change."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    tied = bool(embedding.data_ptr() == head.data_ptr())
    if tied != bool(read_json(base / "config.json").get("tie_word_embeddings")):
        raise VerdictFailed(
            f"{merged}: input and output embeddings are {'tied' if tied else 'untied'} by the merge."
        )
    return tied


def _require_same_template(base: Path, merged: Path) -> str:
    """The end of a turn in the chat template, which must be the base's."""
    template = read_template(merged)
    if template.encode() != read_template(base).encode():
        raise VerdictFailed(f"{merged}: the chat template is not the base's.")
    return turn_end(template, eos_of(merged))


def _training_of(adapter: Path) -> TrainedAdapter:
    record = adapter.parent / MANIFEST
    manifest = read_json(record) if record.is_file() else {}
    settings = manifest.get("settings", {})
    return TrainedAdapter(
        step=manifest.get("stage"),
        lora_rank=read_json(adapter / "adapter_config.json")["r"],
        epochs=settings.get("epochs"),
        learning_rate=settings.get("learning_rate"),
    )
