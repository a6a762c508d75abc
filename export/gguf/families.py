"""One small table: what is particular to each family of models when it is written as GGUF.

Everything else is the same for all. The names of tensors and keys come from the package `gguf`. How llama.cpp
computes with them is in its `src/models/*.cpp`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.config_defaults import values_by_transformers
from empathy_edge.system.files import read_json_object


@dataclass(frozen=True)
class Family:
    """How one family's checkpoint differs from its GGUF.

    Attributes:
        arch: llama.cpp's name of the architecture.
        permuted: query and key rows change from split-half rope to interleaved rope.
        norm_offset: is added to every norm's weight (Gemma computes with 1 + weight).
        scales: factors of the configuration, and the method of GGUFWriter that writes each.
        layers_without_rope: every how many layers llama.cpp leaves the rope out; 0: never.
        window: what a sliding window becomes. `layers`: llama.cpp knows which layers have one. `context`: it
            does not, so the context is limited to the window, within which both compute the same.
    """

    arch: str
    permuted: bool = False
    norm_offset: float = 0.0
    scales: Mapping[str, str] = field(default_factory=dict)
    layers_without_rope: int = 0
    window: Literal["layers", "context"] = "context"


_GEMMA3 = Family("gemma3", norm_offset=1.0, window="layers")

_GRANITE_SCALES = {
    "attention_multiplier": "add_attention_scale",
    "embedding_multiplier": "add_embedding_scale",
    "residual_multiplier": "add_residual_scale",
    "logits_scaling": "add_logit_scale",
}

FAMILIES = {
    "LlamaForCausalLM": Family("llama", permuted=True),
    "MistralForCausalLM": Family("llama", permuted=True),
    "Qwen2ForCausalLM": Family("qwen2"),
    "Qwen3ForCausalLM": Family("qwen3"),
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": _GEMMA3,
    "SmolLM3ForCausalLM": Family("smollm3", permuted=True, layers_without_rope=4),
    "GraniteForCausalLM": Family("granite", permuted=True, scales=_GRANITE_SCALES),
    "Phi3ForCausalLM": Family("phi3"),
}
"""The checkpoint's architecture → its family."""


class NotWritten(EmpathyEdgeError):
    """Something of a checkpoint that our own writer does not know; llama.cpp's script may."""


_NEEDED = (
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "rms_norm_eps",
    "vocab_size",
)
"""What a configuration of any family must say."""


def read_config(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's configuration; of a model that also sees or hears, that of its language model.

    What the file leaves out has the value that transformers gives it, as in llama.cpp's own script: that of
    Gemma 3 of 4B on the hub says neither the heads nor the base of the rope.
    """
    stored = read_json_object(checkpoint / "config.json")
    inner = stored.get("text_config")
    config = dict(stored)
    if isinstance(inner, dict):
        config = {**stored, **inner, "architectures": stored.get("architectures")}
        if stored.get("tie_word_embeddings") is not None:  # transformers goes by the outer one
            config["tie_word_embeddings"] = stored["tie_word_embeddings"]
    whole = values_by_transformers(stored)
    config |= {name: value for name, value in whole.items() if config.get(name) is None}
    if whole.get("rope_parameters"):  # it may be there in part, or under the names of transformers 4
        config["rope_parameters"] = whole["rope_parameters"]
    return config


def family_of(checkpoint: Path, config: dict[str, Any]) -> Family:
    """The family of a checkpoint.

    Raises:
        NotWritten: one that we cannot write.
        EmpathyEdgeError: the configuration lacks a value.
    """
    architecture = (config.get("architectures") or ["unknown"])[0]
    if architecture not in FAMILIES:
        raise NotWritten(f"{checkpoint}: our own GGUF writer does not know {architecture}.")
    family = FAMILIES[architecture]
    missing = [name for name in (*_NEEDED, *family.scales) if config.get(name) is None]
    if missing:
        raise EmpathyEdgeError(
            f"{checkpoint}: its config.json lacks {', '.join(missing)}, and transformers has no value for it "
            "here.\n  Get the file again; where transformers is missing: pip install 'empathy-edge[train]'"
        )
    every = family.layers_without_rope
    if every:
        layers = config.get("no_rope_layers") or []
        as_llama_cpp = [int((layer + 1) % every != 0) for layer in range(config["num_hidden_layers"])]
        if list(map(int, layers)) != as_llama_cpp:
            raise NotWritten(f"{checkpoint}: leaves the rope out of other layers than every {every}th.")
    return family


def tensor_names(family: Family, config: dict[str, Any]) -> Any:
    """The package gguf's map from the checkpoint's tensor names to GGUF's."""
    import gguf

    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == family.arch)
    return gguf.get_tensor_name_map(arch, config["num_hidden_layers"])


def rope_of(checkpoint: Path, config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rope settings by kind of layer: `full_attention`, and perhaps `sliding_attention`.

    Both ways in which transformers writes them are read.

    Raises:
        EmpathyEdgeError: a scaling that is not supported.
    """
    found = config.get("rope_parameters")
    if found is None:  # as transformers 4 wrote it
        scaling = dict(config.get("rope_scaling") or {})
        found = {"rope_theta": config.get("rope_theta", 10000.0), **scaling}
        found["rope_type"] = scaling.get("rope_type", scaling.get("type", "default"))
        if "rope_local_base_freq" in config:
            local = {"rope_type": "default", "rope_theta": config["rope_local_base_freq"]}
            found = {"full_attention": found, "sliding_attention": local}
    if "full_attention" not in found:
        found = {"full_attention": found}
    for rope in found.values():
        if rope.get("rope_type", "default") not in ("default", "linear", "llama3", "longrope"):
            raise NotWritten(
                f"{checkpoint}: our own writer does not know the rope scaling '{rope['rope_type']}' "
                "(it knows linear, llama3, longrope)."
            )
    return dict(found)


def write_config(
    writer: Any, checkpoint: Path, config: dict[str, Any], family: Family
) -> dict[str, np.ndarray]:
    """Write the architecture's keys; returns the rope factors, which a GGUF keeps as tensors, by name."""
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = rope_of(checkpoint, config)
    scale = config.get("query_pre_attn_scalar")
    if scale is not None and scale != head_dim:
        raise EmpathyEdgeError(
            f"{checkpoint}: query_pre_attn_scalar {scale} is not head_dim; llama.cpp has no setting for it."
        )
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(_context(config, family))
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    for key, method in family.scales.items():
        getattr(writer, method)(float(config[key]))
    if family.window == "layers" and _has_window(config):
        kinds = config.get("layer_types") or _every_sixth_is_full(config)
        writer.add_sliding_window(config["sliding_window"])
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in kinds])
        writer.add_rope_freq_base_swa(rope["sliding_attention"]["rope_theta"])
    return _write_rope(writer, checkpoint, config, rope["full_attention"], head_dim)


def _has_window(config: dict[str, Any]) -> bool:
    return bool(config.get("sliding_window")) and config.get("use_sliding_window", True)


def _context(config: dict[str, Any], family: Family) -> int:
    context: int = config["max_position_embeddings"]
    if _has_window(config) and family.window == "context":
        context = min(context, config["sliding_window"])
    return context


def _every_sixth_is_full(config: dict[str, Any]) -> list[str]:
    every = config.get("sliding_window_pattern", 6)
    return [
        "full_attention" if (layer + 1) % every == 0 else "sliding_attention"
        for layer in range(config["num_hidden_layers"])
    ]


def _write_rope(
    writer: Any, checkpoint: Path, config: dict[str, Any], rope: dict[str, Any], head_dim: int
) -> dict[str, np.ndarray]:
    """Write the rope keys; returns the rope factors by their names, none for most kinds of rope."""
    import gguf

    share = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    rotated = int(head_dim * share)
    writer.add_rope_dimension_count(rotated)
    writer.add_rope_freq_base(rope["rope_theta"])
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if kind == "llama3":
        return {"rope_freqs.weight": _llama3_factors(rope, rotated)}
    if kind == "longrope":
        return _write_longrope(writer, checkpoint, config, rope, rotated)
    return {}


def _llama3_factors(rope: dict[str, Any], rotated: int) -> np.ndarray:
    """By what each frequency is divided, float32 [rotated / 2].

    Llama 3.1's rope scaling, as in transformers' `_compute_llama3_parameters`.
    """
    frequencies = rope["rope_theta"] ** -(np.arange(0, rotated, 2, dtype=np.float64) / rotated)
    wavelengths = 2 * math.pi / frequencies
    trained_context = rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = np.clip((trained_context / wavelengths - low) / (high - low), 0, 1)
    factors: np.ndarray = (1 / ((1 - smooth) / rope["factor"] + smooth)).astype(np.float32)
    return factors


def _write_longrope(
    writer: Any, checkpoint: Path, config: dict[str, Any], rope: dict[str, Any], rotated: int
) -> dict[str, np.ndarray]:
    """Write the keys of Phi-3's rope scaling; returns its factors for long and for short contexts."""
    import gguf

    trained_context = (
        rope.get("original_max_position_embeddings") or config["original_max_position_embeddings"]
    )
    stretch = rope.get("factor") or config["max_position_embeddings"] / trained_context
    attention = rope.get("attention_factor")
    if attention is None:
        attention = math.sqrt(1 + math.log(stretch) / math.log(trained_context)) if stretch > 1 else 1.0
    writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
    writer.add_rope_scaling_orig_ctx_len(trained_context)
    writer.add_rope_scaling_attn_factors(attention)
    factors = {
        f"rope_factors_{name}.weight": np.array(rope[f"{name}_factor"], np.float32)
        for name in ("long", "short")
    }
    if any(len(values) != rotated // 2 for values in factors.values()):
        raise EmpathyEdgeError(f"{checkpoint}: longrope needs {rotated // 2} factors.")
    return factors
