"""The workload of each row of a table of llama.cpp measurements, which has the sizes of weights only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from empathy_edge.bench.phones.workload import BYTES_PER_WEIGHT, Workload

QUANTIZATIONS = ("q4_0", "q4_k_m", "q5_k_m", "q6_k", "q8_0")
USUAL_LAYERS = 28


@dataclass(frozen=True)
class TableRow:
    """One measurement, with the columns' names of PocketPal AI's baselines in brackets.

    Attributes:
        phone: (device_file).
        model: its name.
        quant: llama.cpp's quantization, in small letters.
        decode_tps: new tokens per second (tg64_tps).
        prefill_tps: prompt tokens per second (pp256_tps).
        weights_mib: all weights, MiB (weights_total_MiB).
        repacked_mib: of these, those that are multiplied with (cpu_repack_MiB).
        streamed_gb: read for each new token, 10^9 bytes; 0 where the table does not tell (stream_GB_est).
    """

    phone: str
    model: str
    quant: str
    decode_tps: float
    prefill_tps: float
    weights_mib: float
    repacked_mib: float
    streamed_gb: float


@dataclass(frozen=True)
class ModelFacts:
    """What a table's row does not tell of a model (each model's config.json).

    Attributes:
        pattern: a regular expression for the model's name in small letters.
        layers: transformer blocks.
        extra: layers do much beyond attention and MLP.
        head_weights: of the output head, where they are not those of the embedding table.
        short_rows: its matrices have rows that 256 does not divide, which K-quants cannot hold.
    """

    pattern: str
    layers: int
    extra: bool = False
    head_weights: int | None = None
    short_rows: bool = False


MODELS = (
    ModelFacts(r"qwen3\.5-0\.8b|qwen3\.5-2b", layers=24, extra=True),
    ModelFacts(r"qwen3\.5-4b|qwen3\.5-9b", layers=32, extra=True),
    ModelFacts(r"gemma-4-e2b", layers=35, extra=True, head_weights=262144 * 1536),
    ModelFacts(r"gemma-4-e4b", layers=42, extra=True, head_weights=262144 * 2560),
    ModelFacts(r"gemma-3n-e2b", layers=30, extra=True, head_weights=262144 * 2048),
    ModelFacts(r"gemma-3-270m", layers=18, short_rows=True),
    ModelFacts(r"gemma-3-1b", layers=26, short_rows=True),
    ModelFacts(r"gemma-3-4b", layers=34),
    ModelFacts(r"gemma-2-2b", layers=26),
    ModelFacts(r"deepseek-r1-distill-qwen-1\.5b|qwen2\.5.*-1\.5b|qwen3-(0\.6|1\.7)b", layers=28),
    ModelFacts(r"qwen2\.5.*-0\.5b", layers=24, short_rows=True),
    ModelFacts(r"qwen2\.5.*-3b|qwen3-4b|smollm3-3b", layers=36),
    ModelFacts(r"phi-3|phi-4-mini", layers=32),
    ModelFacts(r"smollm2-135m", layers=30, short_rows=True),
    ModelFacts(r"smollm2-360m", layers=32, short_rows=True),
    ModelFacts(r"smollm2-1\.7b", layers=24),
    ModelFacts(r"llama-3\.2-1b", layers=16),
    ModelFacts(r"llama-3\.2-3b", layers=28),
    ModelFacts(r"tinyllama", layers=22),
    ModelFacts(r"lfm2(\.5)?-1\.2b|lfm2(\.5)?-350m|lfm2(\.5)?-700m", layers=16),
)


@dataclass(frozen=True)
class _WeightCounts:
    """How many weights a model multiplies with, and how many its embedding table has."""

    multiplied: float
    embedded: float


def workloads_of_table(rows: Sequence[TableRow]) -> list[Workload | None]:
    """The workload of each row; None where the row tells too little.

    The Q8_0 row of a model tells how many weights it multiplies with (its repacked ones) and how many its
    embedding table has (the rest). The bytes of the other rows then tell how their types are mixed.
    """
    counts = {row.model: _count_weights(row) for row in rows if row.quant == "q8_0"}
    return [
        _workload_of_row(row, counts[row.model])
        if row.model in counts and row.quant in QUANTIZATIONS
        else None
        for row in rows
    ]


def _count_weights(q8_0: TableRow) -> _WeightCounts:
    per_weight = BYTES_PER_WEIGHT["q8_0"]
    return _WeightCounts(
        multiplied=q8_0.repacked_mib * 2**20 / per_weight,
        embedded=(q8_0.weights_mib - q8_0.repacked_mib) * 2**20 / per_weight,
    )


def _workload_of_row(row: TableRow, counts: _WeightCounts) -> Workload | None:
    facts = _facts_of(row.model)
    head_weights = float(counts.embedded if facts.head_weights is None else facts.head_weights)
    body_weights = counts.multiplied - head_weights
    streamed_bytes = (row.streamed_gb or row.repacked_mib * 2**20 / 1e9) * 1e9
    bytes_by_type = _bytes_by_type(row.quant, streamed_bytes, head_weights, body_weights, facts.short_rows)
    if bytes_by_type is None:
        return None
    return Workload(
        name=f"{row.model} {row.quant}",
        decode_gb={kind: size / 1e9 for kind, size in bytes_by_type.items()},
        prefill_gflop=_prefill_gflop(
            bytes_by_type, _head_type(row.quant, facts.short_rows), head_weights, body_weights
        ),
        layers=facts.layers,
        extra=facts.extra,
        file_mb=row.weights_mib * 2**20 / 1e6,
    )


def _facts_of(model: str) -> ModelFacts:
    for facts in MODELS:
        if re.search(facts.pattern, model.lower()):
            return facts
    return ModelFacts("", USUAL_LAYERS)


def _head_type(quant: str, short_rows: bool) -> str:
    """llama.cpp gives the head Q6_K (llama-quant.cpp); rows that 256 does not divide get Q8_0 instead."""
    return "q8_0" if short_rows or quant == "q8_0" else "q6_k"


def _bytes_by_type(
    quant: str, streamed_bytes: float, head_weights: float, body_weights: float, short_rows: bool
) -> dict[str, float] | None:
    """The bytes that a new token streams, by type; None where they are not even enough for the head.

    Of the body, q4_k_m and q5_k_m give Q6_K to half of two kinds of matrices (llama-quant.cpp). How much that
    is follows from the bytes. Rows that 256 does not divide get Q5_0 for Q4_K and Q5_K, and Q8_0 for Q6_K.
    """
    head_type = _head_type(quant, short_rows)
    if quant in ("q6_k", "q8_0"):
        return {head_type: streamed_bytes}
    head_bytes = head_weights * BYTES_PER_WEIGHT[head_type]
    body_bytes = streamed_bytes - head_bytes
    if body_bytes <= 0:
        return None
    if quant == "q4_0":
        return {"q4_0": body_bytes, head_type: head_bytes}
    if short_rows:
        return {"q5_0": body_bytes, head_type: head_bytes}
    low = "q4_k" if quant == "q4_k_m" else "q5_k"
    low_bytes, q6_k_bytes = BYTES_PER_WEIGHT[low], BYTES_PER_WEIGHT["q6_k"]
    q6_k_share = (body_bytes / body_weights - low_bytes) / (q6_k_bytes - low_bytes)
    q6_k_share = min(max(q6_k_share, 0.0), 1.0)
    return {
        low: (1 - q6_k_share) * body_weights * low_bytes,
        "q6_k": head_bytes + q6_k_share * body_weights * q6_k_bytes,
    }


def _prefill_gflop(
    bytes_by_type: dict[str, float], head_type: str, head_weights: float, body_weights: float
) -> dict[str, float]:
    """Two operations for each weight of the body, by type, GFLOP for each prompt token."""
    weights = {kind: size / BYTES_PER_WEIGHT[kind] for kind, size in bytes_by_type.items()}
    weights[head_type] = max(0.0, weights.get(head_type, 0.0) - head_weights)
    total = sum(weights.values())
    return {kind: 2 * body_weights * count / total / 1e9 for kind, count in weights.items() if count}
