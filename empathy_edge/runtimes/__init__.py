"""Runtimes behind one interface: torch, llama.cpp, ONNX Runtime, ONNX Runtime GenAI, ExecuTorch,
LiteRT-LM.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.models.find import ModelRef, checkpoint_of, dequantized, find_model
from empathy_edge.models.templated_folder import template_for
from empathy_edge.runtimes.base import Reply, Runtime
from empathy_edge.system.files import MANIFEST, read_json
from empathy_edge.system.hash_cache import sha256_file

__all__ = ["Reply", "Runtime", "default_threads", "open_runtime"]


def default_threads() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_runtime(
    name: str | Path,
    *,
    threads: int | None = None,
    context: int = 2048,
    exact_logits: bool = False,
    adapters: Sequence[Path] = (),
    device: str | None = None,
) -> Runtime:
    """Load a model on the runtime of its format.

    Args:
        name: an artifact folder, a .gguf or .litertlm file, a checkpoint folder, a hub id or a shipped
            model's name.
        threads: CPU threads; by default all cores that this process may use.
        context: the context window in tokens, prompt and response together.
        exact_logits: for logits that are compared with another runtime's; llama.cpp is slower with them.
        adapters: PEFT folders to add to the weights in memory; a GGUF is converted to a checkpoint first.
        device: where torch computes; by default as --device says.
    """
    threads = threads or default_threads()
    ref = checkpoint_of(str(name)) if adapters else find_model(str(name))
    if ref.kind == "checkpoint":
        ref = dequantized(ref)
    require_no_crash(ref)
    if ref.kind == "gguf":
        from empathy_edge.runtimes.llama_cpp_runtime import LlamaCppRuntime

        return LlamaCppRuntime(ref.path, threads=threads, context=context, exact_logits=exact_logits)
    if ref.kind == "checkpoint":
        template_for(ref.path, list(adapters))  # a missing one is said before torch is imported
        from empathy_edge.runtimes.torch_runtime import TorchRuntime
        from empathy_edge.system.device import chosen_device

        device = device or chosen_device()
        return TorchRuntime(ref.path, threads=threads, context=context, adapters=adapters, device=device)
    return _open_artifact(ref.path, threads=threads, context=context, exact_logits=exact_logits)


def require_no_crash(ref: ModelRef) -> None:
    """Refuse a GGUF that crashes llama.cpp; other formats pass.

    Raises:
        EmpathyEdgeError: it crashes; names the file and what llama.cpp said.
    """
    from empathy_edge.runtimes.first_open import require_opens

    if ref.kind == "gguf":
        require_opens(ref.path)
    elif ref.kind == "artifact":
        artifact = read_json(ref.path / MANIFEST)["artifact"]
        if artifact["format"] == "gguf":
            require_opens(ref.path / artifact["file"])


def _open_artifact(folder: Path, *, threads: int, context: int, exact_logits: bool) -> Runtime:
    artifact = read_json(folder / MANIFEST)["artifact"]
    if artifact["format"] == "gguf":
        return _open_gguf_artifact(folder, threads=threads, context=context, exact_logits=exact_logits)
    if artifact["format"] == "onnx-genai":
        from empathy_edge.runtimes.genai_runtime import GenAIRuntime

        return GenAIRuntime(folder, threads=threads, context=context)
    if artifact["format"] == "onnx-portable":
        from empathy_edge.runtimes.onnx_runtime import OnnxRuntime

        return OnnxRuntime(folder, threads=threads, context=context)
    if artifact["format"] == "executorch":
        from empathy_edge.runtimes.executorch_runtime import ExecutorchRuntime

        return ExecutorchRuntime(folder, threads=threads, context=context)
    if artifact["format"] == "litertlm":
        from empathy_edge.runtimes.litert_lm_runtime import LiteRtLmRuntime

        return LiteRtLmRuntime(folder / artifact["file"], folder, threads=threads, context=context)
    raise EmpathyEdgeError(f"{folder}: no runtime for the format '{artifact['format']}'.")


def _open_gguf_artifact(folder: Path, *, threads: int, context: int, exact_logits: bool) -> Runtime:
    """A GGUF of ours, with the LoRA adapter or the chosen template beside it if there is one."""
    from empathy_edge.formats.chat_format import template_text
    from empathy_edge.formats.gguf_header import check_gguf
    from empathy_edge.runtimes.llama_cpp_runtime import LlamaCppRuntime

    artifact = read_json(folder / MANIFEST)["artifact"]
    file = folder / artifact["file"]
    check_gguf(file)
    lora = folder / artifact["adapter"] if "adapter" in artifact else None
    if lora and sha256_file(file) != artifact["sha256"]:
        raise EmpathyEdgeError(f"{file}: is not the base that {lora.name} was trained on; export it again.")
    template = template_text(folder / artifact["template"]) if "template" in artifact else None
    runtime = LlamaCppRuntime(
        file, threads=threads, context=context, exact_logits=exact_logits, lora=lora, template=template
    )
    runtime.name = folder.name
    return runtime
