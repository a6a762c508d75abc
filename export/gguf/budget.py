"""Mixed types under a size budget: bits go where, as measured, rounding hurts most.

Each group of matrices (a layer's attention, its gate and up, its down; the embeddings) is rounded to four bits alone, and
the divergence of the model's responses from the unrounded model's is its sensitivity. Then groups are raised, one at a time, by
the divergence that a megabyte saves, until the budget is spent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from empathy_edge.console import progress
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.calibration import Calibration
from empathy_edge.export.gguf.families import family_of, tensor_names
from empathy_edge.formats.gguf_header import tensors_of
from empathy_edge.system.files import read_json

if TYPE_CHECKING:
    import torch

LADDER = ("q4_0", "q5_0", "q8_0")
STEP_SQUARED = {"q4_0": 1.0, "q5_0": 0.25, "q8_0": 1 / 256}
"""The squared error of a type against q4_0's: a bit more halves the step."""

BITS = {"q4_0": 4.5, "q5_0": 5.5, "q8_0": 8.5}
TEXTS = 6
"""Calibration texts on which sensitivities are measured."""


def choose_types(checkpoint: Path, source: Path, texts: Calibration, budget_mb: int) -> dict[str, str]:
    """GGUF name of each matrix → its type, so that the file keeps within the budget.

    Args:
        checkpoint: full precision.
        source: its F16 GGUF, for the sizes.
        texts: what sensitivities are measured on.
        budget_mb: the most megabytes (10^6 bytes) of the whole file.

    Raises:
        EmpathyEdgeError: the budget is below four bits for everything.
    """
    places = tensors_of(source)
    sizes = {
        name: place.nbytes / 2 for name, place in places.items() if len(place.shape) == 2
    }  # weights, from F16 bytes
    groups: dict[str, list[str]] = {}
    for name in sizes:
        groups.setdefault(_group(name), []).append(name)
    weights = {group: sum(sizes[name] for name in names) for group, names in groups.items()}
    fixed = source.stat().st_size - sum(2 * count for count in sizes.values())
    level = dict.fromkeys(groups, 0)

    def megabytes() -> float:
        return (fixed + sum(weights[group] * BITS[LADDER[level[group]]] / 8 for group in groups)) / 1e6

    if megabytes() > budget_mb:
        raise EmpathyEdgeError(
            f"gguf-{budget_mb}mb: four bits for everything take {megabytes():.0f} MB already; give a larger budget."
        )
    hurts = _sensitivities(checkpoint, texts, groups)
    while True:
        best, gain = None, 0.0
        for group, place in level.items():
            if place + 1 == len(LADDER):
                continue
            now, then = LADDER[place], LADDER[place + 1]
            cost = weights[group] * (BITS[then] - BITS[now]) / 8 / 1e6
            saved = hurts[group] * (STEP_SQUARED[now] - STEP_SQUARED[then]) / cost
            if megabytes() + cost <= budget_mb and saved > gain:
                best, gain = group, saved
        if best is None:
            return {name: LADDER[level[group]] for group, names in groups.items() for name in names}
        level[best] += 1


def _group(name: str) -> str:
    """blk.3.attn_q.weight → blk.3.attn; blk.3.ffn_up.weight → blk.3.ffn; ffn_down stays alone."""
    stem = name.removesuffix(".weight")
    return stem if stem.endswith("ffn_down") or not stem.startswith("blk.") else stem.rpartition("_")[0]


def _sensitivities(checkpoint: Path, texts: Calibration, groups: Mapping[str, list[str]]) -> dict[str, float]:
    """Mean KL divergence (nats a token) of the model with one group in four bits from the model as it is."""
    import torch
    from transformers import AutoModelForCausalLM

    config = read_json(checkpoint / "config.json")
    names = tensor_names(family_of(checkpoint, config), config)
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, local_files_only=True
    ).eval()
    parameters = {
        names.get_name(key, try_suffixes=(".weight",)): value for key, value in model.named_parameters()
    }
    found = {}
    with torch.inference_mode(), progress() as bar:
        task = bar.add_task("sensitivities", total=len(groups), note="")
        # Spread over the whole list, which is sorted by length.
        chosen = texts.ids[:: max(1, len(texts.ids) // TEXTS)][:TEXTS]
        exact = [_log_probs(model, ids) for ids in chosen]
        for group, members in groups.items():
            kept = {name: parameters[name].data.clone() for name in members}
            for name in members:
                parameters[name].data = _in_four_bits(kept[name])
            divergences = [
                (wanted.exp() * (wanted - _log_probs(model, ids))).sum(-1)
                for wanted, ids in zip(exact, chosen, strict=True)
            ]
            found[group] = float(torch.cat(divergences).mean())
            for name in members:
                parameters[name].data = kept[name]
            bar.advance(task)
    return found


def _in_four_bits(weight: torch.Tensor) -> torch.Tensor:
    import gguf
    import torch

    kind = gguf.GGMLQuantizationType.Q4_0
    return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(weight.numpy(), kind), kind))


def _log_probs(model: Any, ids: list[int]) -> torch.Tensor:
    """Over the second half of a text, where the response is."""
    import torch

    hidden = model.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0, len(ids) // 2 :]
    return model.lm_head(hidden).log_softmax(-1)
