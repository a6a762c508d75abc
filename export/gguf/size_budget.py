"""Mixed types under a size budget: more bits go to the matrices whose rounding changes the responses most.

Matrices are grouped: a layer's attention; its gate and up; its down; the embeddings. Each group alone is
rounded to four bits. Its sensitivity is how far that moves the model's responses from those of the unrounded
model. Then groups get larger types, one at a time, each time the group that saves most divergence for a
megabyte, until the budget is spent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from empathy_edge.console import progress
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.calibration import Calibration
from empathy_edge.export.gguf.families import family_of, read_config, tensor_names
from empathy_edge.export.gguf.writer import name_in_language_model
from empathy_edge.formats.gguf_header import tensors_of
from empathy_edge.runtimes.distributions import kl_divergence
from empathy_edge.runtimes.held_weights import load_whole_in_fp32
from empathy_edge.system.device import chosen_device

if TYPE_CHECKING:
    import torch

TYPES = ("q4_0", "q5_0", "q8_0")
"""The types that a matrix can get, the smallest first."""

BITS_PER_WEIGHT = {"q4_0": 4.5, "q5_0": 5.5, "q8_0": 8.5}

RELATIVE_ERROR = {"q4_0": 1.0, "q5_0": 0.25, "q8_0": 1 / 256}
"""A type's squared rounding error as a share of q4_0's: each bit more halves the distance between codes."""

SENSITIVITY_TEXTS = 6
"""Calibration texts on which sensitivities are measured."""


@dataclass(frozen=True)
class _Group:
    """Matrices that get the same type: their names in the GGUF, and how many weights they have together."""

    names: list[str]
    weights: int

    def bytes_as(self, kind: str) -> float:
        """How many bytes the matrices take in a type."""
        return self.weights * BITS_PER_WEIGHT[kind] / 8


def choose_types(checkpoint: Path, source: Path, texts: Calibration, budget_mb: int) -> dict[str, str]:
    """GGUF name of each matrix → its type, so that the file keeps within the budget.

    Args:
        checkpoint: a folder in full precision.
        source: its GGUF in F16, or in F32, for the sizes.
        texts: what sensitivities are measured on.
        budget_mb: the largest size of the whole file, in MB (10^6 bytes).

    Raises:
        EmpathyEdgeError: the budget is too small for four bits for everything.
    """
    groups, other_bytes = _groups_of(source)
    types = dict.fromkeys(groups, TYPES[0])
    size_mb = _size_mb(groups, types, other_bytes)
    if size_mb > budget_mb:
        raise EmpathyEdgeError(
            f"gguf-{budget_mb}mb: four bits for everything take {size_mb:.0f} MB already; "
            "give a larger budget."
        )
    sensitivities = _sensitivities(checkpoint, texts, groups)
    while True:
        chosen = _best_group_to_enlarge(groups, types, sensitivities, size_mb, budget_mb)
        if chosen is None:
            break
        types[chosen] = _next_type(types[chosen])
        size_mb = _size_mb(groups, types, other_bytes)
    type_of_matrix = {}
    for label, group in groups.items():
        for name in group.names:
            type_of_matrix[name] = types[label]
    return type_of_matrix


def _groups_of(source: Path) -> tuple[dict[str, _Group], int]:
    """The groups of matrices of a GGUF by their labels, and the bytes of all else in the file."""
    names: dict[str, list[str]] = {}
    weights: dict[str, int] = {}
    other_bytes = source.stat().st_size
    for name, place in tensors_of(source).items():
        if len(place.shape) == 2:
            label = _group_label(name)
            names.setdefault(label, []).append(name)
            weights[label] = weights.get(label, 0) + math.prod(place.shape)
            other_bytes -= place.nbytes
    groups = {label: _Group(members, weights[label]) for label, members in names.items()}
    return groups, other_bytes


def _group_label(name: str) -> str:
    """blk.3.attn_q.weight → blk.3.attn; blk.3.ffn_up.weight → blk.3.ffn; ffn_down stays alone."""
    stem = name.removesuffix(".weight")
    if stem.endswith("ffn_down") or not stem.startswith("blk."):
        return stem
    return stem.rpartition("_")[0]


def _size_mb(groups: Mapping[str, _Group], types: Mapping[str, str], other_bytes: float) -> float:
    matrices = sum(group.bytes_as(types[label]) for label, group in groups.items())
    return (other_bytes + matrices) / 1e6


def _sensitivities(checkpoint: Path, texts: Calibration, groups: Mapping[str, _Group]) -> dict[str, float]:
    """For each group the mean KL divergence (nats a token) from the unrounded model when it has four bits."""
    import torch

    config = read_config(checkpoint)
    names = tensor_names(family_of(checkpoint, config), config)
    work, advice = "measuring each matrix's share", "take one type, as gguf-q4_0"
    model = load_whole_in_fp32(checkpoint, chosen_device(), work, advice)
    parameters = {}
    for key, parameter in model.named_parameters():
        own_key = name_in_language_model(key)
        if own_key:
            parameters[names.get_name(own_key, try_suffixes=(".weight",))] = parameter
    # The texts are sorted by length: take some from the whole list.
    chosen = texts.ids[:: max(1, len(texts.ids) // SENSITIVITY_TEXTS)][:SENSITIVITY_TEXTS]
    sensitivities = {}
    with torch.inference_mode(), progress() as bar:
        task = bar.add_task("sensitivities", total=len(groups))
        unrounded = [_response_log_probs(model, ids) for ids in chosen]
        for label, group in groups.items():
            members = [parameters[name] for name in group.names]
            sensitivities[label] = _divergence_if_rounded(model, members, chosen, unrounded)
            bar.advance(task)
    return sensitivities


def _divergence_if_rounded(
    model: Any, parameters: Sequence[Any], texts: Sequence[list[int]], unrounded: Sequence[np.ndarray]
) -> float:
    """The mean KL divergence from `unrounded` with the parameters in four bits; they are put back after."""
    originals = [parameter.data.clone() for parameter in parameters]
    for parameter, original in zip(parameters, originals, strict=True):
        parameter.data = _in_four_bits(original)
    divergences = []
    for ids, expected in zip(texts, unrounded, strict=True):
        divergences.append(kl_divergence(expected, _response_log_probs(model, ids)))
    for parameter, original in zip(parameters, originals, strict=True):
        parameter.data = original
    return float(np.concatenate(divergences).mean())


def _in_four_bits(weight: torch.Tensor) -> torch.Tensor:
    import gguf
    import torch

    q4_0 = gguf.GGMLQuantizationType.Q4_0
    rounded = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(weight.cpu().numpy(), q4_0), q4_0))
    return rounded.to(weight.device)


def _response_log_probs(model: Any, ids: list[int]) -> np.ndarray:
    """Log-probabilities over a text's second half, where the response is: float32 [tokens, vocabulary]."""
    import torch

    hidden = model.model(
        input_ids=torch.tensor([ids], device=model.device), use_cache=False
    ).last_hidden_state
    logits = model.lm_head(hidden[0, len(ids) // 2 :])
    log_probs: np.ndarray = logits.log_softmax(-1).cpu().numpy()
    return log_probs


def _best_group_to_enlarge(
    groups: Mapping[str, _Group],
    types: Mapping[str, str],
    sensitivities: Mapping[str, float],
    size_mb: float,
    budget_mb: float,
) -> str | None:
    """The group whose next larger type saves most divergence for a megabyte; None where none fits."""
    best, best_saving = None, 0.0
    for label, group in groups.items():
        now = types[label]
        if now == TYPES[-1]:
            continue
        larger = _next_type(now)
        cost_mb = (group.bytes_as(larger) - group.bytes_as(now)) / 1e6
        saving = sensitivities[label] * (RELATIVE_ERROR[now] - RELATIVE_ERROR[larger]) / cost_mb
        if size_mb + cost_mb <= budget_mb and saving > best_saving:
            best, best_saving = label, saving
    return best


def _next_type(kind: str) -> str:
    return TYPES[TYPES.index(kind) + 1]
