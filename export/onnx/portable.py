"""A checkpoint as one ONNX graph for any ONNX Runtime, by transformers' own exporter.

It runs in the web and mobile builds too. The graph takes a prompt or a single token, with the cache that came
out of the step before (empty at first). Inputs and outputs have the names that transformers.js and optimum
give them: input_ids, position_ids, past_key_values.N.key; logits, present.N.key.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from empathy_edge.console import quiet_libraries
from empathy_edge.errors import EmpathyEdgeError, require_extra

LARGEST_SINGLE_FILE = 2 * 10**9
"""Bytes. A protobuf cannot hold more than 2 GiB; a larger graph keeps its weights in model.onnx.data."""

_EXPORTED_CACHE = re.compile(r"(?:input\.|output\.)?past_key_values\.layers\.(\d+)\.(keys|values)")
"""What the exporter calls the cache's inputs and outputs."""

_KNOWN_NAMES = re.compile(
    r"input_ids|position_ids|attention_mask|logits|(past_key_values|present)\.\d+\.(key|value)"
)


def write_portable(checkpoint: Path, folder: Path, precision: str) -> None:
    """Write model.onnx (and model.onnx.data where it is large) into `folder`.

    Args:
        checkpoint: a folder of safetensors.
        folder: where the files go; it exists.
        precision: `fp32`, or `int8`: weights of matrix products in eight bits, activations quantized at run
            time.

    Raises:
        EmpathyEdgeError: the exporter gave a graph with other inputs than expected.
    """
    require_extra("onnxscript", "onnx", "Exporting to ONNX")
    quiet_libraries()
    import onnx_ir

    program = _export(checkpoint)
    _name_like_transformers_js(program.graph, checkpoint)
    if precision == "fp32":
        outside = "model.onnx.data" if _bytes_of_weights(program.graph) > LARGEST_SINGLE_FILE else None
        onnx_ir.save(program, str(folder / "model.onnx"), external_data=outside)
        return
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=folder) as scratch:
        fp32 = Path(scratch) / "model.onnx"
        onnx_ir.save(program, str(fp32), external_data="model.onnx.data")
        save_int8(fp32, folder / "model.onnx")


def _export(checkpoint: Path) -> Any:
    """The checkpoint's step (tokens and cache in, logits and cache out) as an onnx_ir model in fp32."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter
    from transformers.exporters.utils import decompose_for_generation

    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    ).eval()
    sample = torch.arange(3, 13)[None]
    parts = decompose_for_generation(
        model, {"input_ids": sample, "attention_mask": torch.ones_like(sample)}, multi_token_decode=True
    )
    program, _ = OnnxExporter().export_program(*parts["decode"], OnnxConfig(dynamic=True))
    return program


def _name_like_transformers_js(graph: Any, checkpoint: Path) -> None:
    """Rename the cache's inputs and outputs; other names than the known ones are an error."""
    singular = {"keys": "key", "values": "value"}
    for ports, stem in ((graph.inputs, "past_key_values"), (graph.outputs, "present")):
        for port in ports:
            if match := _EXPORTED_CACHE.fullmatch(port.name):
                port.name = f"{stem}.{match[1]}.{singular[match[2]]}"
    names = [port.name for port in (*graph.inputs, *graph.outputs)]
    unexpected = [name for name in names if not _KNOWN_NAMES.fullmatch(name)]
    if unexpected or "input_ids" not in {port.name for port in graph.inputs}:
        raise EmpathyEdgeError(
            f"{checkpoint}: transformers' exporter gives this family a graph that no runtime here can feed "
            f"({unexpected[0] if unexpected else 'no input_ids'}).\n"
            "  Try another artifact: --to onnx-int4 (ONNX Runtime GenAI), --to gguf-q8_0 (llama.cpp)."
        )


def _bytes_of_weights(graph: Any) -> int:
    weights = [value.const_value for value in graph.initializers.values()]
    return sum(weight.nbytes for weight in weights if weight is not None)


def save_int8(fp32: Path, file: Path) -> None:
    """Quantize a graph's matrix products to eight bits: the weights now, the activations at run time.

    Args:
        fp32: the graph, in a folder with its weights and nothing else.
        file: what is written.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    size = sum(item.stat().st_size for item in fp32.parent.iterdir())
    quantize_dynamic(
        fp32,
        file,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul"],
        use_external_data_format=size / 4 > LARGEST_SINGLE_FILE,
        extra_options={"MatMulConstBOnly": True},
    )
