"""A checkpoint as an ExecuTorch program for XNNPACK, by transformers' own exporter."""

from __future__ import annotations

import os
from pathlib import Path

from empathy_edge.console import quiet_libraries
from empathy_edge.errors import require_extra
from empathy_edge.system.files import write_json

CONTEXT = 1024
"""The longest context in tokens, for which ExecuTorch plans its memory; the exporter allows four times the
length that the model was traced with."""

TOKENS_AT_ONCE = 64
"""The largest number of tokens in one step that the exporter allows."""


def write_executorch(checkpoint: Path, folder: Path) -> None:
    """Write model.pte (fp32) into `folder`: tokens, positions and the cache in, logits and the cache out.

    Args:
        checkpoint: a folder of safetensors.
        folder: where the file goes; it exists.
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
    traced = torch.arange(3, 3 + CONTEXT // 4)[None]
    parts = decompose_for_generation(
        model, {"input_ids": traced, "attention_mask": torch.ones_like(traced)}, multi_token_decode=True
    )
    program, _ = ExecutorchExporter().export_program(
        *parts["decode"], ExecutorchConfig(backend="xnnpack", dynamic=True)
    )
    temporary = folder / "model.tmp"
    try:
        ExecutorchExporter.save_program(program, temporary)
        os.replace(temporary, folder / "model.pte")
    finally:
        temporary.unlink(missing_ok=True)
    write_json(folder / "executorch.json", {"context": CONTEXT, "tokens_at_once": TOKENS_AT_ONCE})
