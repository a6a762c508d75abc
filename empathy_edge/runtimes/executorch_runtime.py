"""ExecuTorch programs (.pte), PyTorch's format for mobile devices, on its Python runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.runtimes.onnx_runtime import FolderRuntime
from empathy_edge.system.files import read_json


class ExecutorchRuntime(FolderRuntime):
    """A folder with model.pte, executorch.json, tokenizer.json and config.json.

    The prompt cache is kept between replies. XNNPACK's threads are the whole process's: of several programs
    that are open at once, the last one opened decides.
    """

    def __init__(self, folder: Path, *, threads: int, context: int) -> None:
        require_extra("executorch", "executorch", f"Running {folder.name}")
        import torch
        from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
        from executorch.runtime import Runtime as Loader

        self._torch = torch
        self.threads = threads
        limits = read_json(folder / "executorch.json")
        super().__init__(folder, min(context, limits["context"]))
        self._max_step = int(limits["tokens_at_once"])
        _unsafe_reset_threadpool(threads)
        try:
            self._method = Loader.get().load_program(folder / "model.pte").load_method("forward")
        except Exception as error:  # the bindings raise plain RuntimeError
            raise EmpathyEdgeError(f"{folder}: ExecuTorch cannot load it: {error}") from None
        # Inputs: token ids, positions, then keys and values of each layer, [1, heads, tokens, size].
        metadata = self._method.metadata
        self._cache_shapes = [
            tuple(metadata.input_tensor_meta(number).sizes()) for number in range(2, metadata.num_inputs())
        ]
        self.forget()

    def forget(self, keep: int = 0) -> None:
        self._read = []
        self._cache = [self._torch.zeros(1, heads, 0, size) for _, heads, _, size in self._cache_shapes]

    def _truncate(self, length: int) -> None:
        if length < len(self._read):
            cache = [part[:, :, :length].contiguous() for part in self._cache]
            self._read, self._cache = self._read[:length], cache  # at once: Ctrl-C may come in between

    def _step(self, ids: list[int]) -> np.ndarray:
        logits_of_parts = []
        for start in range(0, len(ids), self._max_step):
            part = ids[start : start + self._max_step]
            positions = self._torch.arange(len(self._read), len(self._read) + len(part))[None]
            logits, *cache = self._method.execute([self._torch.tensor([part]), positions, *self._cache])
            # Copied: the program reuses the memory of its outputs.
            logits_of_parts.append(logits[0].numpy().copy())
            self._read, self._cache = [*self._read, *part], [item.clone() for item in cache]
        return np.concatenate(logits_of_parts)
