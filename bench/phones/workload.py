"""What a model asks of a CPU for each token: bytes streamed and arithmetic done, by ggml type.

Two ways to it: a GGUF's own header, and a row of a table of measurements, which tells the sizes of the weights only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.gguf_header import tensors_of
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
"""The types that there are measurements of on phones (ggml-common.h)."""

_TYPES = {2: "q4_0", 8: "q8_0", 12: "q4_k", 13: "q5_k", 14: "q6_k", 6: "q5_0"}
_NEIGHBOURS = {0: "q8_0", 1: "q8_0", 30: "q8_0", 3: "q4_0", 7: "q5_0"}
"""F32, F16, BF16, Q4_1, Q5_1: taken as the nearest type that was measured, if they are a small share of the bytes."""
_SMALL = 0.06
_NAMES = {
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


@dataclass(frozen=True)
class Workload:
    """One model in one quantization.

    Attributes:
        name: for messages.
        decode_gb: type → GB (10^9 bytes) read for each new token.
        prefill_gflop: type → GFLOP for each prompt token, the head left out: it is computed once for a prompt.
        layers: transformer blocks.
        extra: whether layers do much beyond attention and MLP, as linear attention or per-layer inputs do.
        file_mb: weights in memory, MB.
        kv_mb_per_token: F16 keys and values of one token, MB.
        vocabulary: for the logits of a batch.
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
        """What llama.cpp allocates, MB: weights, keys and values of the whole context, logits of a batch in F32."""
        return self.file_mb + context * self.kv_mb_per_token + batch * self.vocabulary * 4 / 1e6 + 10


def workload_of(artifact: str) -> Workload:
    """The workload of a GGUF: an artifact folder, a file, or a shipped model.

    Raises:
        EmpathyEdgeError: not a GGUF, a mixture of experts, base and adapter apart, or types without measurements.
    """
    ref = find_model(artifact)
    file = ref.path
    if ref.kind != "gguf":
        manifest = ref.path / "manifest.json"
        about = read_json(manifest).get("artifact", {}) if manifest.is_file() else {}
        if about.get("format") != "gguf":
            raise EmpathyEdgeError(
                f"{artifact}: predictions rest on measurements of llama.cpp; give a GGUF. For other runtimes run "
                "`empathy-edge bench device android` and measure."
            )
        if "adapter" in about:
            raise EmpathyEdgeError(
                f"{artifact}: no measurements on phones of a base with an adapter beside it."
            )
        file = ref.path / about["file"]
    return _of_gguf(file, ref.path.name if file != ref.path else file.name)


def _of_gguf(file: Path, name: str) -> Workload:
    tensors = tensors_of(file)
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
    total = sum(place.nbytes for place in streamed.values())
    unknown: dict[int, int] = {}
    decode: dict[str, float] = {}
    prefill: dict[str, float] = {}
    for tensor, place in streamed.items():
        kind = _TYPES.get(place.kind) or _NEIGHBOURS.get(place.kind)
        if place.kind not in _TYPES:
            unknown[place.kind] = unknown.get(place.kind, 0) + place.nbytes
        if kind is None:
            continue
        decode[kind] = decode.get(kind, 0.0) + place.nbytes / 1e9
        if tensor != head:
            weights = place.shape[0] * place.shape[1]
            prefill[kind] = prefill.get(kind, 0.0) + 2 * weights / 1e9
    refused = {kind for kind, size in unknown.items() if kind not in _NEIGHBOURS or size > _SMALL * total}
    if refused:
        shares = ", ".join(
            f"{_NAMES.get(kind, f'type {kind}')} {unknown[kind] / total:.0%}" for kind in sorted(refused)
        )
        raise EmpathyEdgeError(
            f"{name}: no measurements on phones for {shares} of its weights; there are some for "
            f"{', '.join(sorted(BYTES_PER_WEIGHT))}. Measure it: empathy-edge bench device android."
        )
    blocks = {int(found[1]) for tensor in tensors if (found := re.match(r"blk\.(\d+)\.", tensor))}
    return Workload(
        name=name,
        decode_gb=decode,
        prefill_gflop=prefill,
        layers=len(blocks),
        extra=any("ssm" in tensor or tensor.startswith("per_layer") for tensor in tensors),
        file_mb=file.stat().st_size / 1e6,
        kv_mb_per_token=sum(_kv_floats(tensors, block) for block in blocks) * 2 / 1e6,
        vocabulary=tensors["token_embd.weight"].shape[1],
    )


def _kv_floats(tensors: dict[str, Any], block: int) -> int:
    """Keys and values of one token in one layer, numbers."""
    name = f"blk.{block}."
    if f"{name}attn_k.weight" in tensors:
        values = tensors.get(f"{name}attn_v.weight", tensors[f"{name}attn_k.weight"])
        return int(tensors[f"{name}attn_k.weight"].shape[1] + values.shape[1])
    if f"{name}attn_qkv.weight" in tensors and f"{name}attn_output.weight" in tensors:
        return int(tensors[f"{name}attn_qkv.weight"].shape[1] - tensors[f"{name}attn_output.weight"].shape[0])
    return 0


# Tables of measurements name their models; what their rows do not tell: layers, weights of the head if they are not
# those of the embedding table, rows that 256 does not divide, work beyond attention and MLP (each model's config.json).
_ABOUT: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"qwen3\.5-0\.8b|qwen3\.5-2b", {"layers": 24, "extra": True}),
    (r"qwen3\.5-4b|qwen3\.5-9b", {"layers": 32, "extra": True}),
    (r"gemma-4-e2b", {"layers": 35, "extra": True, "head": 262144 * 1536}),
    (r"gemma-4-e4b", {"layers": 42, "extra": True, "head": 262144 * 2560}),
    (r"gemma-3n-e2b", {"layers": 30, "extra": True, "head": 262144 * 2048}),
    (r"gemma-3-270m", {"layers": 18, "short_rows": True}),
    (r"gemma-3-1b", {"layers": 26, "short_rows": True}),
    (r"gemma-3-4b", {"layers": 34}),
    (r"gemma-2-2b", {"layers": 26}),
    (r"deepseek-r1-distill-qwen-1\.5b|qwen2\.5.*-1\.5b|qwen3-(0\.6|1\.7)b", {"layers": 28}),
    (r"qwen2\.5.*-0\.5b", {"layers": 24, "short_rows": True}),
    (r"qwen2\.5.*-3b|qwen3-4b|smollm3-3b", {"layers": 36}),
    (r"phi-3|phi-4-mini", {"layers": 32}),
    (r"smollm2-135m", {"layers": 30, "short_rows": True}),
    (r"smollm2-360m", {"layers": 32, "short_rows": True}),
    (r"smollm2-1\.7b", {"layers": 24}),
    (r"llama-3\.2-1b", {"layers": 16}),
    (r"llama-3\.2-3b", {"layers": 28}),
    (r"tinyllama", {"layers": 22}),
    (r"lfm2(\.5)?-1\.2b|lfm2(\.5)?-350m|lfm2(\.5)?-700m", {"layers": 16}),
)


def workloads_of_table(rows: list[dict[str, Any]]) -> list[Workload | None]:
    """The workload of each row of a table of llama.cpp measurements; None where the row tells too little.

    Args:
        rows: with `model`, `quant`, `weights_total_MiB`, `cpu_repack_MiB` and, if there, `stream_GB_est`.

    The Q8_0 row of a model tells how many weights it multiplies with (its repacked ones) and how many its embedding
    table has (the rest); the bytes of the other rows then tell how their types are mixed.
    """
    multiplied: dict[str, float] = {}
    embedded: dict[str, float] = {}
    for row in rows:
        if row["quant"] == "q8_0":
            multiplied[row["model"]] = row["cpu_repack_MiB"] * 2**20 / BYTES_PER_WEIGHT["q8_0"]
            embedded[row["model"]] = (
                (row["weights_total_MiB"] - row["cpu_repack_MiB"]) * 2**20 / BYTES_PER_WEIGHT["q8_0"]
            )
    return [_of_row(row, multiplied.get(row["model"]), embedded.get(row["model"])) for row in rows]


def _of_row(row: dict[str, Any], weights: float | None, embedded: float | None) -> Workload | None:
    if (
        weights is None
        or embedded is None
        or row["quant"] not in ("q4_0", "q4_k_m", "q5_k_m", "q6_k", "q8_0")
    ):
        return None
    about = next((item for pattern, item in _ABOUT if re.search(pattern, row["model"].lower())), {})
    head = float(about.get("head", embedded))
    streamed = row.get("stream_GB_est") or row["cpu_repack_MiB"] * 2**20 / 1e9
    layers = int(about.get("layers", 28))
    shares = _types_of(row["quant"], streamed * 1e9, weights, head, bool(about.get("short_rows")))
    if shares is None:
        return None
    head_type = "q8_0" if about.get("short_rows") or row["quant"] == "q8_0" else "q6_k"
    arithmetic = {kind: size / BYTES_PER_WEIGHT[kind] for kind, size in shares.items()}
    arithmetic[head_type] = max(0.0, arithmetic.get(head_type, 0.0) - head)
    body = sum(arithmetic.values())
    return Workload(
        name=f"{row['model']} {row['quant']}",
        decode_gb={kind: size / 1e9 for kind, size in shares.items()},
        prefill_gflop={
            kind: 2 * (weights - head) * part / body / 1e9 for kind, part in arithmetic.items() if part
        },
        layers=layers,
        extra=bool(about.get("extra")),
        file_mb=row["weights_total_MiB"] * 2**20 / 1e6,
    )


def _types_of(
    quant: str, size: float, weights: float, head: float, short_rows: bool
) -> dict[str, float] | None:
    """Bytes by type. llama.cpp gives the head Q6_K, and with K-quants half of two kinds of matrices as well
    (llama-quant.cpp); rows that 256 does not divide get Q5_0 for Q4_K and Q5_K, Q8_0 for Q6_K."""
    per = BYTES_PER_WEIGHT
    if quant == "q8_0" or (quant == "q6_k" and short_rows):
        return {"q8_0": size}
    if quant == "q6_k":
        return {"q6_k": size}
    head_bytes = head * per["q8_0" if short_rows else "q6_k"]
    if size <= head_bytes:
        return None
    if short_rows:
        return {"q4_0" if quant == "q4_0" else "q5_0": size - head_bytes, "q8_0": head_bytes}
    if quant == "q4_0":
        return {"q4_0": size - head_bytes, "q6_k": head_bytes}
    low = "q4_k" if quant == "q4_k_m" else "q5_k"
    body = weights - head
    six = ((size - head_bytes) / body - per[low]) / (per["q6_k"] - per[low])
    six = min(max(six, 0.0), 1.0)
    return {low: (1 - six) * body * per[low], "q6_k": head_bytes + six * body * per["q6_k"]}
