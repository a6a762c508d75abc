"""A checkpoint as an ExecuTorch program for XNNPACK, by transformers' own exporter."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from empathy_edge.console import quiet_libraries
from empathy_edge.errors import require_extra
from empathy_edge.system.files import read_json, write_json

CONTEXT = 2048
"""The longest context in tokens. ExecuTorch plans its memory for it ahead; a model's own may be shorter."""

TOKENS_AT_ONCE = 128
"""The largest number of tokens in one step; logits and attention of as many are planned for."""

GROUP = 32
"""So many weights in a row share a scale in four bits, as in a block of GGUF's Q4_0."""


def write_executorch(checkpoint: Path, folder: Path, precision: str) -> None:
    """Write model.pte into `folder`: tokens, positions and the cache in, logits and the cache out.

    Args:
        checkpoint: a folder of safetensors.
        folder: where the file goes; it exists.
        precision: `fp32`; `8da4w`: matrices in four bits, in groups of 32, embeddings and output in eight;
            or `int8`: all in eight. Activations of the quantized ones are rounded to eight bits at run time.
    """
    require_extra("executorch", "executorch", "Exporting to ExecuTorch")
    quiet_libraries()
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.exporters.exporter_executorch import ExecutorchExporter
    from transformers.exporters.utils import decompose_for_generation

    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    ).eval()
    traced = torch.arange(3, 13)[None]
    parts = decompose_for_generation(
        model, {"input_ids": traced, "attention_mask": torch.ones_like(traced)}, multi_token_decode=True
    )
    if precision != "fp32":
        quantize_for_xnnpack(model, precision)
    context = min(CONTEXT, int(read_json(checkpoint / "config.json")["max_position_embeddings"]))
    at_once = min(TOKENS_AT_ONCE, context // 2)
    step, inputs = parts["decode"]
    program = _lower(step, inputs, _changing_sizes(inputs, context, at_once))
    temporary = folder / "model.tmp"
    try:
        ExecutorchExporter.save_program(program, temporary)
        os.replace(temporary, folder / "model.pte")
    finally:
        temporary.unlink(missing_ok=True)
    write_json(folder / "executorch.json", {"context": context, "tokens_at_once": at_once})


def quantize_for_xnnpack(model: Any, precision: str) -> None:
    """Replace a model's weights by torchao's quantized ones, in the forms that XNNPACK computes with.

    Args:
        model: of transformers, fp32; it is changed.
        precision: `8da4w` or `int8`. A matrix whose rows no group of 32 fills goes to eight bits in both.
    """
    import torch
    from torchao.quantization import (
        Int8DynamicActivationIntxWeightConfig,
        IntxWeightOnlyConfig,
        quantize_,
    )
    from torchao.quantization.granularity import PerAxis, PerGroup

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head.weight is embedding.weight:  # each is stored in the form of its own operator
        head.weight = torch.nn.Parameter(embedding.weight.detach().clone())
        model.config.tie_word_embeddings = False

    def is_matrix(module: Any, _: str) -> bool:
        return isinstance(module, torch.nn.Linear)

    def takes_four_bits(module: Any, name: str) -> bool:
        return is_matrix(module, name) and module is not head and module.in_features % GROUP == 0

    if precision == "8da4w":
        four_bits = Int8DynamicActivationIntxWeightConfig(
            weight_dtype=torch.int4, weight_granularity=PerGroup(GROUP)
        )
        quantize_(model, four_bits, takes_four_bits)
    eight_bits = Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int8, weight_granularity=PerAxis(0))
    quantize_(
        model,
        eight_bits,
        lambda module, name: (
            is_matrix(module, name) and not (precision == "8da4w" and takes_four_bits(module, name))
        ),
    )
    rows = IntxWeightOnlyConfig(weight_dtype=torch.int8, granularity=PerAxis(0))
    quantize_(model, rows, lambda module, _: module is embedding)


def _lower(model: Any, inputs: MutableMapping[str, Any], shapes: dict[str, Any]) -> Any:
    """The exporter's own steps, with the sizes that may change named, and quantized embeddings fused.

    Without names it lets every size of every input change, which takes several times as long, and caps the
    context at four times what it was traced with.
    """
    from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
    from transformers.exporters import exporter_executorch as exporter
    from transformers.exporters.configs import ExecutorchConfig
    from transformers.exporters.exporter_dynamo import DynamoExporter

    config = ExecutorchConfig(backend="xnnpack", dynamic=True, dynamic_shapes=shapes)
    model, inputs, partitioner = exporter.prepare_for_xnnpack(model, inputs)
    with exporter.apply_patches("executorch"), exporter.apply_patches("executorch.xnnpack"):
        exported, _ = DynamoExporter().export_program(model, inputs, config)
        exporter.apply_fx_program_fixes("executorch", exported)
        exporter.apply_fx_node_fixes("executorch", exported.graph_module)
        edge = to_edge_transform_and_lower(
            exported,
            partitioner=partitioner,
            compile_config=exporter._get_edge_compile_config("xnnpack"),
        )
        return edge.to_executorch(ExecutorchBackendConfig(do_quant_fusion_and_const_prop=True))


def _changing_sizes(inputs: Mapping[str, Any], context: int, at_once: int) -> dict[str, Any]:
    """Which sizes of the inputs change at run time: the new tokens, and those in the cache."""
    import torch

    new = torch.export.Dim("new", min=1, max=at_once)
    read = torch.export.Dim("read", min=0, max=context)
    tensors = {name: {1: new} for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    parts = 2 * len(inputs["past_key_values"].layers)
    return {**tensors, "past_key_values": [{2: read} for _ in range(parts)]}
