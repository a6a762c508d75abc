"""LoRA adapters in PEFT's format: reading them, and adding them to a full-precision base.

W' = W + (alpha / r) · B A for each adapted matrix (Hu et al., arXiv 2106.09685, section 4.1). The changes of
several adapters on one base add up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.models.adapter_folder import (
    CONFIG,
    PREFIX,
    AdapterFolder,
    read_adapter,
    training_settings,
)
from empathy_edge.models.find import ModelRef

LORA_DOWN = ".lora_A.weight"

_MORE_THAN_PLAIN = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "fan_in_fan_out",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
    "arrow_config",
    "alora_invocation_tokens",
    "kasa_config",
    "velora_config",
    "monteclora_config",
    "megatron_config",
)
"""Options of PEFT's LoRA with which the change of a weight is not scale · B A."""

STARTS_THAT_KEEP_THE_BASE = ("gaussian", "orthogonal", "eva")
"""Others, as PiSSA and OLoRA, take a part out of the base's weights before the training."""


class Factors(NamedTuple):
    """One adapter's change of one matrix: scale · up @ down.

    Attributes:
        down: A, float32 [r, in].
        up: B, float32 [out, r].
        scale: alpha / r; with rsLoRA (arXiv 2312.03732) alpha / √r.
    """

    down: np.ndarray
    up: np.ndarray
    scale: float


class JointFactors(NamedTuple):
    """The change of one matrix by several adapters: up @ down, the scales included.

    Attributes:
        down: float32 [sum of the ranks, in].
        up: float32 [out, sum of the ranks].
    """

    down: np.ndarray
    up: np.ndarray


def adapter_deltas(adapter: Path) -> dict[str, Factors]:
    """What a plain LoRA adapter changes, by the name of the parameter.

    Raises:
        EmpathyEdgeError: it is no adapter, or no plain LoRA; says why.
    """
    read = read_adapter(adapter)
    reason = why_not_plain(read)
    if reason:
        raise EmpathyEdgeError(
            f"{adapter}: {reason}, so it is no plain LoRA and cannot stay beside its base.\n"
            "  Merge it: empathy-edge export MODEL --adapter ADAPTER --to gguf-q8_0 --out DIR"
        )
    deltas = {}
    for name, down in read.tensors.items():
        if name.endswith(LORA_DOWN):
            up = read.tensors[name.replace(".lora_A.", ".lora_B.")]
            module = name.removeprefix(PREFIX).removesuffix(LORA_DOWN)
            scale = _scale_of(read, module, rank=down.shape[0])
            deltas[f"{module}.weight"] = Factors(down.load(), up.load(), scale)
    return deltas


def why_not_plain(adapter: AdapterFolder) -> str | None:
    """Why an adapter is more than the product of two matrices for each weight; None for a plain LoRA.

    Raises:
        EmpathyEdgeError: a LoRA of which a matrix is missing or has no fitting shape.
    """
    if adapter.kind != "LORA":
        return f"is of the kind {adapter.kind or 'unknown'}"
    options = [name for name in _MORE_THAN_PLAIN if adapter.config.get(name)]
    if options:
        return f"uses {', '.join(options)}"
    if adapter.config.get("bias", "none") != "none":
        return "changes biases"
    start = adapter.config.get("init_lora_weights", True)
    if isinstance(start, str) and start not in STARTS_THAT_KEEP_THE_BASE:
        return f"starts by changing the base's weights (init_lora_weights '{start}')"
    patterns = adapter.config.get("alpha_pattern") or {}
    if not all(re.fullmatch(r"\^?[\w.]+", str(name)) for name in patterns):
        return "names modules in alpha_pattern by regular expressions"
    return _tensor_that_is_no_factor(adapter)


def _tensor_that_is_no_factor(adapter: AdapterFolder) -> str | None:
    """In words, the first tensor that is no A or B of a matrix."""
    used = set()
    for name, down in adapter.tensors.items():
        if not name.endswith(LORA_DOWN):
            continue
        up_name = name.replace(".lora_A.", ".lora_B.")
        up = adapter.tensors.get(up_name)
        if up is None or len(up.shape) != 2 or len(down.shape) != 2 or up.shape[1] != down.shape[0]:
            raise EmpathyEdgeError(f"{adapter.path}: {name} has no B matrix that fits it.")
        used |= {name, up_name}
    unused = sorted(set(adapter.tensors) - used)
    orphans = [name for name in unused if name.endswith(".lora_B.weight")]
    if orphans:
        raise EmpathyEdgeError(f"{adapter.path}: {orphans[0]} has no A matrix.")
    if unused:
        return f"holds {len(unused)} tensors that are no LoRA of a matrix (the first: {unused[0]})"
    return None


def _scale_of(adapter: AdapterFolder, module: str, rank: int) -> float:
    """The scale of B A of one module.

    Raises:
        EmpathyEdgeError: the configuration has no alpha that is a number, or another rank.
    """
    config = adapter.config
    if rank != config.get("r") and not config.get("rank_pattern"):
        raise EmpathyEdgeError(
            f"{adapter.path}: {CONFIG} says the rank r is {config.get('r')!r}, "
            f"but the matrices of {module} have rank {rank}."
        )
    alpha = config.get("lora_alpha")
    for pattern, other in (config.get("alpha_pattern") or {}).items():
        name = pattern.removeprefix("^")
        if module == name or (name == pattern and module.endswith(f".{name}")):
            alpha = other
            break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise EmpathyEdgeError(f"{adapter.path}: {CONFIG} needs a number lora_alpha (found: {alpha!r}).")
    if rank == 0:
        raise EmpathyEdgeError(f"{adapter.path}: {module} has rank 0.")
    return alpha / rank**0.5 if config.get("use_rslora") else alpha / rank


def change_of_weights(
    adapters: list[Path],
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    weights: Sequence[float] = (),
) -> dict[str, list[Factors]]:
    """What several adapters change together, by the name of the parameter.

    Args:
        adapters: PEFT folders of plain LoRA.
        shapes: the base's parameters; None leaves the check out.
        weights: by which each adapter's change is multiplied; none: 1 each.

    Returns:
        For each parameter the factors of each adapter that changes it, in the order of `adapters`.

    Raises:
        EmpathyEdgeError: an adapter names a matrix that the base lacks, or has in another shape.
    """
    together: dict[str, list[Factors]] = {}
    for adapter, weight in zip(adapters, weights or [1.0] * len(adapters), strict=True):
        for name, (down, up, scale) in adapter_deltas(adapter).items():
            if shapes is not None and shapes.get(name) != (up.shape[0], down.shape[1]):
                raise EmpathyEdgeError(
                    f"{adapter}: changes {name}, which the base does not have in this shape."
                )
            together.setdefault(name, []).append(Factors(down, up, scale * weight))
    return together


def join(adapters: list[Path]) -> dict[str, JointFactors]:
    """Several adapters as one, by the name of the parameter.

    Concatenation makes the sum exact: [B1·s1, B2·s2] [A1; A2]. Two adapters of rank 8 become one of rank 16.
    """
    joined = {}
    for name, factors in change_of_weights(adapters).items():
        all_down = [down for down, _, _ in factors]
        all_scaled_up = [up * np.float32(scale) for _, up, scale in factors]
        joined[name] = JointFactors(np.concatenate(all_down, axis=0), np.concatenate(all_scaled_up, axis=1))
    return joined


def require_same_base(adapters: list[Path], base: ModelRef) -> None:
    """Refuse adapters that `finetune` made for another base; others have no record of it and pass.

    Raises:
        EmpathyEdgeError: names the adapter and both bases.
    """
    for adapter in adapters:
        trained_on = training_settings(adapter).get("base_sha256")
        if trained_on not in (None, base.sha256):
            raise EmpathyEdgeError(
                f"{adapter}: was trained on another base than {base.name} "
                f"({trained_on[:12]}, not {base.sha256[:12]}); give the one it was trained on."
            )
