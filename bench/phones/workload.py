"""What a GGUF asks of a CPU for each token: bytes streamed and arithmetic done, by ggml type.

`workload_table.py` tells the same from a row of a table of measurements.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.gguf_header import TensorPlace, tensors_of
from empathy_edge.models.find import find_model
from empathy_edge.system.files import read_json

BYTES_PER_WEIGHT = {
    "q4_0": 18 / 32,
    "q4_k": 144 / 256,
    "q5_0": 22 / 32,
    "q5_k": 176 / 256,
    "q6_k": 210 / 256,
    "q8_0": 34 / 32,
}
"""The types that were measured on phones; a block's bytes over its weights (ggml-common.h)."""

MEASURED = {2: "q4_0", 8: "q8_0", 12: "q4_k", 13: "q5_k", 14: "q6_k", 6: "q5_0"}
"""ggml's number of a type (ggml.h) → its name here."""
NEAREST_MEASURED = {0: "q8_0", 1: "q8_0", 30: "q8_0", 3: "q4_0", 7: "q5_0"}
"""F32, F16, BF16, Q4_1 and Q5_1 → the nearest measured type; used for a small share of the bytes only."""
MAX_UNMEASURED_SHARE = 0.06
_UNMEASURED_NAMES = {
    0: "F32",
    1: "F16",
    3: "Q4_1",
    7: "Q5_1",
    10: "Q2_K",
    11: "Q3_K",
    20: "IQ4_NL",
    23: "IQ4_XS",
    30: "BF16",
}

Tensors = Mapping[str, TensorPlace]
"""A GGUF's tensors by name."""


@dataclass(frozen=True)
class Workload:
    """One model in one quantization.

    Attributes:
        name: for messages.
        decode_gb: type → GB (10^9 bytes) read for each new token.
        prefill_gflop: type → GFLOP for each prompt token, without the head: it is computed once for a prompt.
        layers: transformer blocks.
        extra: whether layers do much beyond attention and MLP, as linear attention or per-layer inputs do.
        file_mb: weights in memory, MB (10^6 bytes).
        kv_mb_per_token: F16 keys and values of one token, MB.
        vocabulary: how many tokens there are, for the logits of a batch.
    """

    name: str
    decode_gb: dict[str, float]
    prefill_gflop: dict[str, float]
    layers: int
    extra: bool = False
    file_mb: float = 0.0
    kv_mb_per_token: float = 0.0
    vocabulary: int = 0

    def memory_mb(self, context: int, batch: int = 512) -> float:
        """What llama.cpp allocates, MB: weights, keys and values of the context, a batch's logits in F32."""
        logits_mb = batch * self.vocabulary * 4 / 1e6
        return self.file_mb + context * self.kv_mb_per_token + logits_mb + 10


def workload_of(artifact: str) -> Workload:
    """The workload of a GGUF: an artifact folder, a file, or a shipped model.

    Raises:
        EmpathyEdgeError: not a GGUF, a mixture of experts, an adapter beside its base, or unmeasured types.
    """
    ref = find_model(artifact)
    if ref.kind == "gguf":
        return _workload_of_file(ref.path, ref.path.name)
    manifest = ref.path / "manifest.json"
    about = read_json(manifest).get("artifact", {}) if manifest.is_file() else {}
    if about.get("format") != "gguf":
        raise EmpathyEdgeError(
            f"{artifact}: predictions are based on measurements of llama.cpp; give a GGUF. For other "
            "runtimes run `empathy-edge bench device android` and measure."
        )
    if "adapter" in about:
        raise EmpathyEdgeError(f"{artifact}: no measurements on phones of a base with an adapter beside it.")
    return _workload_of_file(ref.path / about["file"], ref.path.name)


def _workload_of_file(file: Path, name: str) -> Workload:
    return workload_of_tensors(tensors_of(file), name, file.stat().st_size / 1e6)


def workload_of_tensors(tensors: Tensors, name: str, file_mb: float) -> Workload:
    """The workload of a GGUF with these tensors, which need not be written yet.

    Raises:
        EmpathyEdgeError: not a text model, a mixture of experts, or unmeasured types.
    """
    if any("_exps" in tensor for tensor in tensors):
        raise EmpathyEdgeError(
            f"{name}: a mixture of experts; there are no measurements of one to predict from."
        )
    if "token_embd.weight" not in tensors:
        raise EmpathyEdgeError(f"{name}: has no tensor token_embd.weight; it is not a text model.")
    head = "output.weight" if "output.weight" in tensors else "token_embd.weight"
    streamed = {
        tensor: place
        for tensor, place in tensors.items()
        if len(place.shape) > 1 and (tensor == head or tensor.startswith("blk."))
    }
    _refuse_unmeasured_types(name, streamed)
    decode_gb: dict[str, float] = {}
    prefill_gflop: dict[str, float] = {}
    for tensor, place in streamed.items():
        kind = MEASURED.get(place.kind) or NEAREST_MEASURED[place.kind]
        decode_gb[kind] = decode_gb.get(kind, 0.0) + place.nbytes / 1e9
        if tensor != head:
            weights = place.shape[0] * place.shape[1]
            prefill_gflop[kind] = prefill_gflop.get(kind, 0.0) + 2 * weights / 1e9
    blocks = {int(found[1]) for tensor in tensors if (found := re.match(r"blk\.(\d+)\.", tensor))}
    return Workload(
        name=name,
        decode_gb=decode_gb,
        prefill_gflop=prefill_gflop,
        layers=len(blocks),
        extra=any("ssm" in tensor or tensor.startswith("per_layer") for tensor in tensors),
        file_mb=file_mb,
        kv_mb_per_token=sum(_kv_numbers(tensors, block) for block in blocks) * 2 / 1e6,
        vocabulary=tensors["token_embd.weight"].shape[1],
    )


def _refuse_unmeasured_types(name: str, streamed: Tensors) -> None:
    """Raise an error if a type has no measured neighbour, or is more than a small share of the bytes."""
    total = sum(place.nbytes for place in streamed.values())
    unmeasured: Counter[int] = Counter()
    for place in streamed.values():
        if place.kind not in MEASURED:
            unmeasured[place.kind] += place.nbytes
    refused = [
        kind
        for kind, size in sorted(unmeasured.items())
        if kind not in NEAREST_MEASURED or size > MAX_UNMEASURED_SHARE * total
    ]
    if refused:
        shares = [
            f"{_UNMEASURED_NAMES.get(kind, f'type {kind}')} {unmeasured[kind] / total:.0%}"
            for kind in refused
        ]
        raise EmpathyEdgeError(
            f"{name}: no measurements on phones for {', '.join(shares)} of its weights; there are some for "
            f"{', '.join(sorted(BYTES_PER_WEIGHT))}. Measure it: empathy-edge bench device android."
        )


def _kv_numbers(tensors: Tensors, block: int) -> int:
    """How many numbers the keys and values of one token in one layer are."""
    prefix = f"blk.{block}."
    keys, values = tensors.get(f"{prefix}attn_k.weight"), tensors.get(f"{prefix}attn_v.weight")
    if keys is not None:
        return keys.shape[1] + (values or keys).shape[1]
    joint, output = tensors.get(f"{prefix}attn_qkv.weight"), tensors.get(f"{prefix}attn_output.weight")
    if joint is not None and output is not None:
        return joint.shape[1] - output.shape[0]
    return 0
