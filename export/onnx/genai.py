"""A checkpoint as ONNX for ONNX Runtime GenAI, by its own model builder in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError, require_extra


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
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    command += ["-i", str(checkpoint), "-o", str(scratch / "out"), "-p", precision, "-e", "cpu"]
    command += ["-c", str(scratch / "cache")]
    if options:
        command += ["--extra_options", *(f"{key}={value}" for key, value in options.items())]
    try:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            last = [line for line in done.stderr.splitlines() if line.strip()][-3:]
            raise EmpathyEdgeError(
                f"{checkpoint}: onnxruntime-genai's builder failed:\n  " + "\n  ".join(last)
            )
        _mend_shared_head(scratch / "out" / "model.onnx")
        for item in (scratch / "out").iterdir():
            os.replace(item, folder / item.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _mend_shared_head(file: Path) -> None:
    """Let embeddings that share an output matrix in other bits than the rest find it.

    The builder (0.18.0) names the shared matrix as its rtn algorithm would, and leaves a graph that does not load.
    """
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    there = {item.name for item in model.graph.initializer}
    mended = False
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            wanted = re.sub(r"^(lm_head\.MatMul\.weight_)(?:(Q\d)G\d+|(scale))$", r"\1\2\3", name)
            wanted += "s" if wanted.endswith("_scale") else ""
            if name not in there and wanted != name and wanted in there:
                node.input[place], mended = wanted, True
    if mended:
        onnx.save(model, str(file))
