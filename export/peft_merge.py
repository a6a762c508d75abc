"""Merge adapters of any kind by PEFT's own code, layer by layer, in far less memory than the weights take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.gguf.writer import name_in_language_model
from empathy_edge.export.golden import logits_of
from empathy_edge.export.weights_on_disk import WeightsOnDisk
from empathy_edge.formats.tensor_files import stored_tensors
from empathy_edge.models.adapter_folder import PREFIX, AdapterFolder, read_adapter
from empathy_edge.models.adapter_rows import module_of, rows_in_training
from empathy_edge.models.merging import attach, merge_attached
from empathy_edge.runtimes.held_weights import LIBRARIES_MB, fp32_size_mb
from empathy_edge.system.machine import require_memory, require_space

ROTATIONS = ("OFT", "BOFT", "HRA", "PSOFT", "ROAD")
"""Kinds that rotate weights, or what comes out of them: half of such a change is no rotation."""

COPIES_OF_A_WEIGHT = 4
"""So many of a weight in fp32 are in memory while PEFT merges it: old, change, new, and a spare."""


class PeftMerge(NamedTuple):
    """What a merge found.

    Attributes:
        expected: logits that the checkpoint must give, float32 [1, tokens, vocabulary].
        difference: the largest difference of a logit by a merge that `expected` does not show.
    """

    expected: Any
    difference: float


def require_scalable(adapters: Sequence[Path], weights: Sequence[float], shapes: dict[str, Any]) -> None:
    """Refuse a `--weight` for an adapter of which no part can be taken.

    Args:
        adapters: PEFT folders.
        weights: one for each adapter; 1 is always possible.
        shapes: of the base's tensors by name.

    Raises:
        EmpathyEdgeError: names the adapter and the reason.
    """
    for folder, weight in zip(adapters, weights, strict=False):
        adapter = read_adapter(folder)
        grown = _matrices_of_another_shape(adapter, shapes)
        reason = None
        if adapter.kind in ROTATIONS:
            reason = f"is of the kind {adapter.kind}, which rotates; a part of a rotation is none"
        elif adapter.config.get("layer_replication"):
            reason = "repeats layers, which the base does not have to be weighed against"
        elif grown:
            reason = f"gives {grown[0]} another shape, so the base has no values to be weighed against"
        if reason and weight != 1:
            raise EmpathyEdgeError(f"{folder}: cannot be merged with --weight {weight:g}: it {reason}.")


def _matrices_of_another_shape(adapter: AdapterFolder, shapes: dict[str, Any]) -> list[str]:
    """The base's tensors that an adapter replaces by larger or smaller ones, by name."""
    found = []
    shapes = {_in_language_model(name): shape for name, shape in shapes.items()}
    for name, tensor in adapter.tensors.items():
        own, module = _in_language_model(name.removeprefix(PREFIX)), module_of(name)
        base = shapes.get(_in_language_model(f"{module}.weight"))
        if shapes.get(own, tensor.shape) != tensor.shape:
            found.append(own)
        elif base and rows_in_training(adapter, module, base[0]) != base[0]:
            found.append(f"{module}.weight")
    return found


def _in_language_model(name: str) -> str:
    """A tensor's name without the place of the language model in one that also sees."""
    return name_in_language_model(name) or name


def merge_on_disk(
    base: Path,
    adapters: Sequence[Path],
    weights: Sequence[float],
    out: Path,
    *,
    scratch: Path,
    ids: Any,
    write_fp32: Callable[[Path], None],
) -> PeftMerge:
    """Merge adapters in their order, and write the checkpoint.

    With a weight w, the change of an adapter is that of the weights, whatever its kind: W + w · (merged − W),
    W being those of the model before it.

    Args:
        base: the checkpoint that the first adapter was trained on.
        adapters: PEFT folders, in the order of training.
        weights: one for each adapter; none: 1 each.
        out: the checkpoint's folder.
        scratch: a folder for the weights meanwhile; it is deleted.
        ids: the token ids of the proof, [1, tokens].
        write_fp32: writes the base into a folder in fp32.

    Raises:
        EmpathyEdgeError: an adapter cannot be merged, or does not fit the model before it.
        PrerequisiteError: too little memory or space on the disk.
    """
    weights = weights or [1.0] * len(adapters)
    _require_memory(base, adapters)
    is_weighed = any(weight != 1 for weight in weights)
    require_space(out, (3.1 if is_weighed else 2.1) * fp32_size_mb(base), "a merge by PEFT")
    disk = WeightsOnDisk(scratch)
    try:
        model = disk.load(base, write_fp32)
        expected, differences, proof = None, [0.0], ids
        for number, (folder, weight) in enumerate(zip(adapters, weights, strict=True), 1):
            before = disk.copies(model) if weight != 1 else {}
            if expected is not None:
                differences.append(_largest_difference(expected, logits_of(model, proof, folder)))
            wrapped = attach(model, folder, disk.take)
            proof = ids if number == len(adapters) else _that_have_rows(ids, wrapped)
            expected = logits_of(wrapped, proof, folder)
            model = merge_attached(wrapped, folder, disk.take)
            if weight != 1:
                differences.append(_largest_difference(expected, logits_of(model, proof, folder)))
                _weigh(model, before, weight)
                expected = logits_of(model, proof, folder)
        model.save_pretrained(out)
    finally:
        disk.remove()
    return PeftMerge(expected, max(differences))


def _that_have_rows(ids: Any, model: Any) -> Any:
    """The token ids that a model can read, [1, tokens]; a later adapter may add rows for the others."""
    return ids[:, ids[0] < model.config.get_text_config().vocab_size]


def _require_memory(base: Path, adapters: Sequence[Path]) -> None:
    """Refuse what does not fit: the adapter, a copy of the largest weight, and four of one that it changes.

    Raises:
        PrerequisiteError: says how much is needed, and how much is free.
    """
    values = {name: math.prod(tensor.shape) for name, tensor in stored_tensors(base).items()}
    largest = max(values.values())
    most = 0
    for folder in adapters:
        tensors = read_adapter(folder).tensors
        changed = {name.removeprefix(PREFIX).rpartition(".")[0] for name in tensors}
        modules = changed | {name.rpartition(".")[0] for name in changed}  # with and without `lora_A`
        merged = [count for name, count in values.items() if name.rpartition(".")[0] in modules]
        own = sum(math.prod(tensor.shape) for tensor in tensors.values())
        most = max(most, own + max(largest, COPIES_OF_A_WEIGHT * max(merged, default=largest)))
    needed_mb = LIBRARIES_MB + 4 * most / 1e6
    require_memory(needed_mb, needed_mb, "a merge by PEFT", "merge on a machine with more")


def _largest_difference(expected: Any, found: Any) -> float:
    """Infinite where one of them is no number."""
    difference = float((expected - found).abs().max())
    return difference if difference == difference else float("inf")


def _weigh(model: Any, before: dict[str, Any], weight: float) -> None:
    """Give each parameter its value W + weight · (now − W), W being the one of `before`."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.data.copy_(torch.lerp(before[name].data, parameter.data, weight))
