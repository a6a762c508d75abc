"""A checkpoint as ONNX for ONNX Runtime GenAI, by its own model builder in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from empathy_edge.errors import require_extra
from empathy_edge.export.external_program import offline_environment, run_external_program
from empathy_edge.system.files import read_json_object


def write_genai(
    checkpoint: Path, folder: Path, precision: str, options: Mapping[str, object] | None = None
) -> None:
    """Write genai_config.json, the graph with its weights, and the tokenizer into `folder`.

    Args:
        checkpoint: a folder of safetensors.
        folder: where the files go; it exists.
        precision: `int4` or `int8` (the builder's block-wise weight quantization), or `fp32`.
        options: the builder's own, such as those in `recipe.GENAI_OPTIONS`.

    Raises:
        EmpathyEdgeError: the builder failed; its last lines are in the message.
    """
    for module in ("onnxruntime_genai", "onnx_ir", "onnxscript"):
        require_extra(module, "onnx", "Exporting to ONNX")
    scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=folder))
    built = scratch / "out"
    command = [sys.executable, "-P", "-m", "onnxruntime_genai.models.builder"]
    command += ["-i", str(checkpoint), "-o", str(built), "-p", precision, "-e", "cpu"]
    command += ["-c", str(scratch / "cache")]
    if options:
        command += ["--extra_options", *(f"{key}={value}" for key, value in options.items())]
    try:
        run_external_program(
            command,
            output=built / "model.onnx",
            failure=f"{checkpoint}: ONNX Runtime GenAI's builder cannot make {architecture_of(checkpoint)}",
            remedy="Others may: --to onnx-portable-int8 (any ONNX Runtime), --to gguf-q8_0 (llama.cpp).",
            environment=offline_environment(),
        )
        _repair_shared_output_matrix(built / "model.onnx")
        for item in built.iterdir():
            os.replace(item, folder / item.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def architecture_of(checkpoint: Path) -> str:
    """What config.json calls the model's class, as `LlamaForCausalLM`."""
    return str((read_json_object(checkpoint / "config.json").get("architectures") or ["this model"])[0])


def _repair_shared_output_matrix(file: Path) -> None:
    """Correct the names by which the embeddings use the output matrix, where the builder gets them wrong.

    With shared embeddings in other bits than the rest, the builder (0.18.0) uses the names that its rtn
    algorithm would give the matrix, and leaves a graph that does not load.
    """
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    known_names = {item.name for item in model.graph.initializer}
    repaired = False
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            right_name = _output_matrix_name(name)
            if name not in known_names and right_name in known_names:
                node.input[index] = right_name
                repaired = True
    if repaired:
        onnx.save(model, str(file))


def _output_matrix_name(name: str) -> str:
    """What the builder really calls a part of the output matrix that it refers to by `name`."""
    name = re.sub(r"^(lm_head\.MatMul\.weight_)(?:(Q\d)G\d+|(scale))$", r"\1\2\3", name)
    return f"{name}s" if name.endswith("_scale") else name
