"""ExecuTorch programs (.pte) on its own Python runtime: what PyTorch's mobile stack runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.runtimes.onnx_runtime import FolderRuntime
from empathy_edge.system.files import read_json


class ExecutorchRuntime(FolderRuntime):
    """A folder with model.pte, executorch.json, tokenizer.json and config.json; keeps its cache between replies."""

    def __init__(self, folder: Path, *, threads: int, context: int) -> None:
        require_extra("executorch", "executorch", f"Running {folder.name}")
        import torch
        from executorch.runtime import Runtime as Loader

        self._torch = torch
        self.threads = (
            threads  # XNNPACK's own pool takes all cores; its Python binding cannot be told otherwise
        )
        limits = read_json(folder / "executorch.json")
        super().__init__(folder, min(context, limits["context"]))
        self._at_once = int(limits["tokens_at_once"])
        try:
            self._method = Loader.get().load_program(folder / "model.pte").load_method("forward")
        except Exception as error:  # the bindings raise plain RuntimeError
            raise EmpathyEdgeError(f"{folder}: ExecuTorch cannot load it: {error}") from None
        self._shapes = [
            tuple(self._method.metadata.input_tensor_meta(place).sizes())
            for place in range(2, self._method.metadata.num_inputs())
        ]
        self.forget()

    def forget(self, keep: int = 0) -> None:
        self._read = []
        self._cache = [self._torch.zeros(1, heads, 0, size) for _, heads, _, size in self._shapes]

    def _cut(self, length: int) -> None:
        if length < len(self._read):
            self._read = self._read[:length]
            self._cache = [part[:, :, :length].contiguous() for part in self._cache]

    def _step(self, ids: list[int]) -> np.ndarray:
        found = []
        for start in range(0, len(ids), self._at_once):
            part = ids[start : start + self._at_once]
            places = self._torch.arange(len(self._read), len(self._read) + len(part))[None]
            logits, *cache = self._method.execute([self._torch.tensor([part]), places, *self._cache])
            found.append(logits[0].numpy().copy())  # the outputs' memory is the program's, and used again
            self._cache = [item.clone() for item in cache]
            self._read = [*self._read, *part]
        return np.concatenate(found)
