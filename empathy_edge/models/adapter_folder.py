"""An adapter's folder as PEFT, and trainers built on it, write it: its configuration, tensors and base."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.tensor_files import StoredTensor, stored_tensors
from empathy_edge.system.files import MANIFEST, MARKER, read_json_object, sha256_path

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
TRAINING_STEPS = ("sft", "dpo")
"""Folders of what `finetune` makes, in the order in which they are merged."""

PREFIX = "base_model.model."
"""What PEFT puts before the name of a module of the base."""

_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What torch.compile, FSDP and activation checkpointing put into the names of parameters."""

_ADAPTER_NAME = re.compile(r"\.default(?=\.|$)")
"""The name of the adapter inside a parameter's name, as in a state dict that was saved without PEFT."""

_PICKLED = """{folder}: its weights are pickled ({file}); a pickle can run code when it is read. Convert it:
  import torch; from safetensors.torch import save_file
  save_file(torch.load("{file}", weights_only=True), "{wanted}")"""


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter as it was read.

    Attributes:
        path: the folder.
        config: what adapter_config.json says.
        tensors: by PEFT's own names, whatever the trainer's prefixes were.
    """

    path: Path
    config: dict[str, Any]
    tensors: dict[str, StoredTensor]

    @property
    def kind(self) -> str:
        """PEFT's name of the method, as `LORA` or `IA3`."""
        return str(self.config.get("peft_type", "")).upper()


def adapters_of(folders: Iterable[Path]) -> list[Path]:
    """The adapters that a user named: a folder that `finetune` made stands for its adapters, in their order.

    Raises:
        EmpathyEdgeError: the training of one has not ended.
    """
    found: list[Path] = []
    for folder in folders:
        steps = [folder / step for step in TRAINING_STEPS if (folder / step).is_dir()]
        if not steps or (folder / CONFIG).is_file():
            found.append(folder)
            continue
        for step in steps:
            _refuse_unfinished(step / "adapter")
            _refuse_another_sft(step)
            found.append(step / "adapter")
    return found


def _refuse_another_sft(step: Path) -> None:
    """Refuse a DPO step that was not trained after the SFT adapter beside it, as it is now."""
    sft = step.parent / "sft"
    if step.name != "dpo" or not sft.is_dir() or not (step / MANIFEST).is_file():
        return
    recorded = read_json_object(step / MANIFEST).get("inputs", {}).get("sft")
    if recorded is None or recorded["sha256"] != sha256_path(sft):
        how = "without an SFT adapter, and" if recorded is None else "after another SFT adapter, and"
        raise EmpathyEdgeError(
            f"{step}: was trained {how} not after the one in {sft}.\n"
            "  Name the adapters one by one, or train both steps again: finetune … --update."
        )


def _refuse_unfinished(folder: Path) -> None:
    if (folder.parent / MARKER).is_file() and not (folder.parent / MANIFEST).is_file():
        raise EmpathyEdgeError(
            f"{folder}: its training was cut off, or is still running.\n"
            "  Run the same finetune (or run) again: it goes on there. Or leave this adapter out."
        )


def read_adapter(folder: Path) -> AdapterFolder:
    """Read an adapter's configuration and the names of its tensors.

    Raises:
        EmpathyEdgeError: no adapter, one whose training has not ended, pickled weights, or two tensors of one
            name.
    """
    _refuse_unfinished(folder)
    if not (folder / CONFIG).is_file():
        raise EmpathyEdgeError(
            f"{folder}: no {CONFIG} in it; give the folder that PEFT's save_pretrained wrote."
        )
    config = read_json_object(folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        pickled = next((file.name for file in sorted(folder.glob("*.bin"))), None)
        if pickled:
            raise EmpathyEdgeError(_PICKLED.format(folder=folder, file=pickled, wanted=WEIGHTS))
        raise EmpathyEdgeError(f"{folder}: no {WEIGHTS} in it.")
    tensors: dict[str, StoredTensor] = {}
    for name, tensor in stored_tensors(folder, only=WEIGHTS).items():
        peft_name = name_in_peft(name)
        twin = tensors.get(peft_name)
        if twin and _is_copy(name) == _is_copy(twin.name):
            raise EmpathyEdgeError(f"{folder}: {twin.name} and {name} are the same tensor.")
        if twin is None or not _is_copy(name):
            tensors[peft_name] = tensor
    return AdapterFolder(folder, config, tensors)


def _is_copy(name: str) -> bool:
    """Whether PEFT wrote the tensor once more, as it does for embeddings among `modules_to_save`."""
    return ".modules_to_save." in name


def name_in_peft(name: str) -> str:
    """A tensor's name without what a trainer put into it.

    >>> name_in_peft("module.base_model.model.model._orig_mod.layers.0.mlp.up_proj.lora_A.default.weight")
    'base_model.model.model.layers.0.mlp.up_proj.lora_A.weight'
    """
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    name = ".".join(parts).removeprefix("module.")
    name = _ADAPTER_NAME.sub("", name).replace(".modules_to_save.", ".")
    return name if name.startswith("base_model.") else PREFIX + name


def training_settings(adapter: Path) -> dict[str, Any]:
    """The settings with which `finetune` trained an adapter; none for one from elsewhere."""
    settings = _training_manifest(adapter).get("settings")
    return settings if isinstance(settings, dict) else {}


def training_step(adapter: Path) -> str | None:
    """The step that trained an adapter, `sft` or `dpo`; None for one from elsewhere."""
    return _training_manifest(adapter).get("stage")


def _training_manifest(adapter: Path) -> dict[str, Any]:
    """What `finetune` wrote beside an adapter; empty where the file is another's."""
    record = adapter.resolve().parent / MANIFEST
    try:
        manifest = read_json_object(record) if record.is_file() else {}
    except EmpathyEdgeError:
        return {}
    return manifest if manifest.get("stage") in ("sft", "dpo") else {}


def base_of(adapter: Path) -> str | None:
    """The name of the model that an adapter was trained on; None where nothing says it.

    `finetune` wrote it into its manifest; other trainers wrote it into the adapter's configuration.
    """
    trained_on = training_settings(adapter).get("base")
    if trained_on:
        return str(trained_on)
    named = read_json_object(adapter / CONFIG).get("base_model_name_or_path")
    return str(named) if named else None


def tokenizer_folder(base: Path, adapters: list[Path]) -> Path:
    """Where the tokenizer and the chat template of a fine-tuned model are.

    Trainers save a tokenizer beside the adapter; with added tokens or a template of its own it is the only
    right one. The last adapter that has one decides, else the base.

    Raises:
        EmpathyEdgeError: an earlier adapter has tokens that the last one lacks.
    """
    with_tokenizer = [folder for folder in adapters if (folder / "tokenizer.json").is_file()]
    if not with_tokenizer:
        return base
    last = with_tokenizer[-1]
    for folder in with_tokenizer[:-1]:
        lost = _added_tokens(folder) - _added_tokens(last)
        if lost:
            raise EmpathyEdgeError(
                f"{last}: its tokenizer lacks the token {min(lost)!r} of {folder}; adapters with different "
                "tokenizers cannot be one model."
            )
    return last


def _added_tokens(folder: Path) -> set[str]:
    added = read_json_object(folder / "tokenizer.json").get("added_tokens") or []
    return {str(item["content"]) for item in added if isinstance(item, dict) and "content" in item}
