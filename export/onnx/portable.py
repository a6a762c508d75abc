"""A checkpoint as one ONNX graph for any ONNX Runtime, web and mobile builds too, by transformers' own exporter.

The graph takes a prompt or a single token, with the cache that came out of the step before (empty at first). Inputs and
outputs have the names that transformers.js and optimum give them: input_ids, position_ids, past_key_values.N.key; logits,
present.N.key.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from empathy_edge.console import quiet_libraries
from empathy_edge.errors import EmpathyEdgeError, require_extra

LARGEST_SINGLE_FILE = 2 * 10**9
"""A protobuf cannot hold more than 2 GiB; what is larger keeps its weights in model.onnx.data."""


def write_portable(checkpoint: Path, folder: Path, precision: str) -> None:
    """Write model.onnx (and model.onnx.data where it is large) into `folder`.

    Args:
        checkpoint: a folder of safetensors.
        folder: where the files go; it exists.
        precision: `fp32`, or `int8`: weights of matrix products in eight bits, activations quantized as they come.

    Raises:
        EmpathyEdgeError: the exporter gave a graph with other inputs than expected.
    """
    require_extra("onnxscript", "onnx", "Exporting to ONNX")
    quiet_libraries()
    import onnx_ir
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter
    from transformers.exporters.utils import decompose_for_generation

    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, local_files_only=True
    ).eval()
    sample = torch.arange(3, 13)[None]
    parts = decompose_for_generation(
        model, {"input_ids": sample, "attention_mask": torch.ones_like(sample)}, multi_token_decode=True
    )
    program, _ = OnnxExporter().export_program(*parts["decode"], OnnxConfig(dynamic=True))
    _name_like_transformers_js(program.graph, checkpoint)
    size = sum(
        value.const_value.nbytes
        for value in program.graph.initializers.values()
        if value.const_value is not None
    )
    if precision == "fp32":
        outside = "model.onnx.data" if size > LARGEST_SINGLE_FILE else None
        onnx_ir.save(program, str(folder / "model.onnx"), external_data=outside)
        return
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=folder) as scratch:
        whole = Path(scratch) / "model.onnx"
        onnx_ir.save(program, str(whole), external_data="model.onnx.data")
        save_int8(whole, folder / "model.onnx")


def save_int8(whole: Path, file: Path) -> None:
    """Quantize the weights of an fp32 graph's matrix products to eight bits; activations are quantized as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    size = sum(item.stat().st_size for item in whole.parent.iterdir())
    quantize_dynamic(
        whole,
        file,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul"],
        use_external_data_format=size / 4 > LARGEST_SINGLE_FILE,
        extra_options={"MatMulConstBOnly": True},
    )


def _name_like_transformers_js(graph: Any, checkpoint: Path) -> None:
    kinds = {"keys": "key", "values": "value"}
    pattern = re.compile(r"(?:input\.|output\.)?past_key_values\.layers\.(\d+)\.(keys|values)")
    for ports, stem in ((graph.inputs, "past_key_values"), (graph.outputs, "present")):
        for port in ports:
            if match := pattern.fullmatch(port.name):
                port.name = f"{stem}.{match[1]}.{kinds[match[2]]}"
    strange = [
        port.name
        for port in (*graph.inputs, *graph.outputs)
        if not re.fullmatch(
            r"input_ids|position_ids|attention_mask|logits|(past_key_values|present)\.\d+\.(key|value)",
            port.name,
        )
    ]
    if strange or "input_ids" not in {port.name for port in graph.inputs}:
        raise EmpathyEdgeError(
            f"{checkpoint}: the exporter gave a graph with unexpected inputs: {', '.join(strange)}."
        )
