"""The merged checkpoint: base plus adapters in full precision, compared with the adapter model."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from empathy_edge.console import quiet_libraries, say
from empathy_edge.errors import EmpathyEdgeError, VerdictFailed, require_extra
from empathy_edge.export.golden import golden_ids, logits_of
from empathy_edge.export.peft_merge import merge_on_disk, require_scalable
from empathy_edge.export.scratch import remove_scratch
from empathy_edge.formats.chat_format import DEFAULT, eos_of, named_templates, read_template, turn_end
from empathy_edge.formats.tensor_files import StoredTensor, stored_tensors, write_safetensors
from empathy_edge.models.adapter_folder import CONFIG, tokenizer_folder, training_settings, training_step
from empathy_edge.models.find import ModelRef
from empathy_edge.models.lora import Factors, change_of_weights, require_same_base
from empathy_edge.models.merging import why_not_streamed, with_adapter
from empathy_edge.models.templated_folder import template_for
from empathy_edge.runs.stage import Results, open_stage
from empathy_edge.runtimes.held_weights import compute_in_fp32, held_dtype
from empathy_edge.system.files import own_file, read_json, read_json_object, write_atomically, write_json
from empathy_edge.system.machine import require_space

STAGE = "merged"

SCRATCH = "scratch"
"""The folder, inside the stage's, for weights while PEFT merges."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)
CONFIG_FILES = ("generation_config.json", "model.safetensors.index.json")


class TrainedAdapter(BaseModel):
    """How an adapter was trained; of one that is not from our own `finetune` the rank alone is known.

    Attributes:
        step: `sft` or `dpo`.
        lora_rank: of its matrices; None where the method has none.
        epochs: passes over the training rows.
        learning_rate: the highest of the schedule.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str | None
    lora_rank: int | None
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
    *,
    base: ModelRef,
    adapters: list[Path],
    out: Path,
    tolerance: float,
    weights: Sequence[float] = (),
    update: bool = False,
) -> MergeResults:
    """Merge `adapters` into `base` and write a checkpoint folder.

    Args:
        base: the checkpoint that the first adapter was trained on.
        adapters: PEFT adapter folders, in the order in which they were trained.
        out: the checkpoint's folder.
        tolerance: the largest allowed difference of any logit between merged and adapter model.
        weights: by which each adapter's change is multiplied; none: 1 each.
        update: make it again where inputs or settings changed.

    Raises:
        EmpathyEdgeError: an adapter cannot be merged, or does not fit the base.
        VerdictFailed: the merged model does not compute what the adapter model computes.
    """
    require_extra("peft", "train", "Proving a merge")
    require_same_base(adapters, base)
    shapes = {name: tensor.shape for name, tensor in stored_tensors(base.path).items()}
    why_by_peft = why_not_streamed(adapters, shapes)
    if why_by_peft:
        require_scalable(adapters, weights, shapes)
    stage = open_stage(
        out,
        STAGE,
        settings={**base.record(), "tolerance": tolerance, **({"weights": list(weights)} if weights else {})},
        inputs={f"adapter_{index}": path for index, path in enumerate(adapters)},
        files=("*.safetensors", "config.json", f"{SCRATCH}/*", *TOKENIZER_FILES, *CONFIG_FILES),
        update=update,
    )
    remove_scratch(out, stage.manifest.get("outputs", ()))
    if stage.done:
        return stage.results(MergeResults)
    _copy_tokenizer(base.path, adapters, out)
    if why_by_peft:
        say(f"  An adapter {why_by_peft}: merged by PEFT, layer by layer, with the weights on the disk.")
        expected, difference = merge_on_disk(
            base.path,
            adapters,
            weights,
            out,
            scratch=out / SCRATCH,
            ids=golden_ids(out),
            write_fp32=lambda folder: merge(base.path, [], folder),
        )
    else:
        merge(base.path, adapters, out, weights)
        expected, difference = _logits_of_adapter_model(base.path, adapters, out, weights), 0.0
    results = _compare(expected, difference, out, base.path, adapters, tolerance)
    stage.finish(results)
    return results


def merge(base: Path, adapters: list[Path], out: Path, weights: Sequence[float] = ()) -> None:
    """Write base + plain LoRA adapters as float32, shard by shard and matrix by matrix, without torch.

    Raises:
        EmpathyEdgeError: an adapter does not fit the base, or the disk is too small.
    """
    tensors = stored_tensors(base)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    _require_space(out, shapes)
    changes = change_of_weights(adapters, shapes, weights)
    shards: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        shards.setdefault(tensor.file.name, {})[name] = tensor
    for shard, members in shards.items():
        values = (_merged(tensor, changes.get(name, [])) for name, tensor in members.items())
        write_safetensors(out / shard, {name: shapes[name] for name in members}, values)
    for name in CONFIG_FILES:
        if (base / name).is_file():
            shutil.copyfile(own_file(base / name), out / name)
    config = read_json(base / "config.json")
    config.pop("torch_dtype", None)
    write_json(out / "config.json", config | {"dtype": "float32"})


def _require_space(out: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    float32_bytes = sum(4 * math.prod(shape) for shape in shapes.values())
    require_space(out, 1.1 * float32_bytes / 1e6, "the merged checkpoint")


def _copy_tokenizer(base: Path, adapters: list[Path], out: Path) -> None:
    """Copy the tokenizer and the chat template that the fine-tuned model was trained with."""
    source = tokenizer_folder(base, adapters)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(own_file(source / name), out / name)
    template = template_for(base, adapters)
    if named_templates(out) != {DEFAULT: template}:
        write_atomically(out / "chat_template.jinja", template)
        _drop_other_templates(out / "tokenizer_config.json")


def _drop_other_templates(config: Path) -> None:
    """Take the templates out of tokenizer_config.json: some programs would read them there."""
    settings = read_json_object(config) if config.is_file() else {}
    if settings.pop("chat_template", None) is not None:
        write_json(config, settings)


def _merged(tensor: StoredTensor, factors: list[Factors]) -> Iterator[np.ndarray]:
    """W + scale · B A, some rows at a time."""
    start = 0
    for rows in tensor.chunks():
        end = start + len(rows) if tensor.shape else 1
        for down, up, scale in factors:
            rows = rows + np.float32(scale) * (up[start:end] @ down)
        yield rows
        start = end


def _logits_of_adapter_model(base: Path, adapters: list[Path], merged: Path, weights: Sequence[float]) -> Any:
    """Logits of the base with its plain LoRA adapters unmerged, by PEFT; float32 [1, tokens, vocabulary]."""
    quiet_libraries()
    import torch
    from transformers import AutoModelForCausalLM

    held = held_dtype(base)
    model = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=held or torch.float32,
        local_files_only=True,
        trust_remote_code=False,
    )
    names = [f"step{index}" for index in range(len(adapters))]
    for name, adapter in zip(names, adapters, strict=True):
        model = with_adapter(model, adapter, name)
    model.base_model.set_adapter(names)
    for name, weight in zip(names, weights, strict=False):
        for module in model.modules():
            if hasattr(module, "set_scale"):
                module.set_scale(name, weight)
    if held:
        compute_in_fp32(model)
    return logits_of(model, golden_ids(merged), merged)


def _compare(
    expected: Any, difference: float, merged: Path, base: Path, adapters: list[Path], tolerance: float
) -> MergeResults:
    """Compare the checkpoint on the disk with the adapter model's logits; fails above `tolerance`."""
    import torch
    from transformers import AutoModelForCausalLM

    ids = golden_ids(merged)
    model = AutoModelForCausalLM.from_pretrained(
        merged, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    _require_rows_for_new_tokens(model, merged, base)
    found = logits_of(model, ids, merged)
    if not (torch.isfinite(expected).all() and torch.isfinite(found).all()):
        raise VerdictFailed(
            f"{merged}: logits of the adapter model or of the merged checkpoint are NaN or infinite.",
            "look for such a weight in the adapters, or for a --weight that is far too large; export again",
        )
    difference = max(difference, float((expected - found).abs().max()))
    if not difference <= tolerance:
        raise VerdictFailed(
            f"{merged}: the merged checkpoint differs from the adapter model by {difference:.4f} in a logit "
            f"(allowed: {tolerance}).",
            "make sure that base and adapters belong together. Where you accept the difference, give more as "
            "merge_tolerance under `export` in a recipe",
        )
    return MergeResults(
        merge_max_abs_logit_difference=round(difference, 6),
        merge_positions=int(ids.shape[1]),
        tied_embeddings=_require_tying_as_said(model, merged),
        turn_end=turn_end(read_template(merged), eos_of(merged)),
        trained=[_training_of(adapter) for adapter in adapters],
    )


def _require_rows_for_new_tokens(model: Any, merged: Path, base: Path) -> None:
    """Refuse tokens without a row of embeddings: the adapter's tokenizer grew, but its file has no rows.

    Tokens that the base's own tokenizer has no rows for are left as they are there: Gemma 3's has one for
    images, which a model of text alone never reads.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    of_base = _tokens_of(base)
    new = {text: index for text, index in _tokens_of(merged).items() if of_base.get(text) != index}
    last = max(new.values(), default=-1)
    if last >= rows:
        raise EmpathyEdgeError(
            f"{merged}: the tokenizer has tokens up to {last}, but there are {rows} rows of "
            "embeddings.\n  Save the embeddings with the adapter (modules_to_save), or take the tokenizer's "
            "files out of the adapter's folder."
        )


def _tokens_of(folder: Path) -> dict[str, int]:
    """Every token of a folder's tokenizer and its number; none where it has no tokenizer.json."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        return {}
    tokens: dict[str, int] = Tokenizer.from_file(str(file)).get_vocab()
    return tokens


def _require_tying_as_said(model: Any, merged: Path) -> bool:
    """Whether the embeddings are tied, which must be as the configuration says."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    tied = bool(embedding.data_ptr() == head.data_ptr())
    if tied != bool(model.config.tie_word_embeddings):
        raise VerdictFailed(
            f"{merged}: input and output embeddings are {'tied' if tied else 'untied'}, "
            "but config.json says otherwise.",
            "correct tie_word_embeddings in the base's config.json, and export again",
        )
    return tied


def _training_of(adapter: Path) -> TrainedAdapter:
    settings = training_settings(adapter)
    return TrainedAdapter(
        step=training_step(adapter),
        lora_rank=read_json(adapter / CONFIG).get("r"),
        epochs=settings.get("epochs"),
        learning_rate=settings.get("learning_rate"),
    )
