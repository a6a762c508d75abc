"""A checkpoint as an ExecuTorch program for XNNPACK, by transformers' own exporter."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from empathy_edge.console import quiet_libraries
from empathy_edge.errors import require_extra
from empathy_edge.system.files import part_of, write_json

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
    from transformers.exporters.configs import ExecutorchConfig
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
    context = min(CONTEXT, int(model.config.get_text_config().max_position_embeddings))
    at_once = min(TOKENS_AT_ONCE, context // 2)
    step, inputs = parts["decode"]
    # Without names every size of every input may change, which takes several times as long to export, and
    # caps the context at four times what the model was traced with.
    shapes = _changing_sizes(inputs, context, at_once)
    config = ExecutorchConfig(backend="xnnpack", dynamic=True, dynamic_shapes=shapes)
    program, _ = ExecutorchExporter().export_program(step, inputs, config)
    temporary = part_of(folder / "model.pte")
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
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head.weight is embedding.weight:  # each is stored in the form of its own operator
        head.weight = torch.nn.Parameter(embedding.weight.detach().clone())
        model.config.tie_word_embeddings = False

    def takes_four_bits(module: Any, _: str) -> bool:
        fits = isinstance(module, torch.nn.Linear) and module.in_features % GROUP == 0
        return fits and module is not head and precision == "8da4w"

    def takes_eight_bits(module: Any, name: str) -> bool:
        return isinstance(module, torch.nn.Linear) and not takes_four_bits(module, name)

    for weight_type, granularity, takes in (
        (torch.int8, PerAxis(0), takes_eight_bits),
        (torch.int4, PerGroup(GROUP), takes_four_bits),
    ):
        config = Int8DynamicActivationIntxWeightConfig(
            weight_dtype=weight_type, weight_granularity=granularity
        )
        quantize_(model, config, takes)
    if type(embedding) is torch.nn.Embedding:  # others, as Gemma's, do more than look up a row: they stay
        model.set_input_embeddings(_eight_bit_rows(embedding))


def _eight_bit_rows(embedding: Any) -> Any:
    """An embedding in eight bits with a scale for each row, of operators that every ExecuTorch has.

    torchao's own does not lower: "Missing out variants: torchao::dequantize_affine" (executorch 1.5.1).
    """
    import torch

    class EightBitRows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            weight = embedding.weight.detach()
            scales = (weight.abs().amax(1, keepdim=True) / 127).clamp(min=1e-12)
            self.register_buffer("rows", (weight / scales).round().to(torch.int8))
            self.register_buffer("scales", scales)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            rows = torch.nn.functional.embedding(ids, self.rows)
            return rows.to(torch.float32) * torch.nn.functional.embedding(ids, self.scales)

    return EightBitRows()


def _changing_sizes(inputs: Mapping[str, Any], context: int, at_once: int) -> dict[str, Any]:
    """Which sizes of the inputs change at run time: the new tokens, and those in the cache."""
    import torch

    new = torch.export.Dim("new", min=1, max=at_once)
    read = torch.export.Dim("read", min=0, max=context)
    tensors = {name: {1: new} for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    parts = 2 * len(inputs["past_key_values"].layers)
    return {**tensors, "past_key_values": [{2: read} for _ in range(parts)]}
