"""A model in fp32 whose weights lie in files: the system reads them as they are needed, and drops them again.

So a model can be changed layer by layer in far less memory than its weights take.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from empathy_edge.formats.tensor_files import stored_tensors
from empathy_edge.runtimes.held_weights import require_fp32
from empathy_edge.system.memory import return_freed_memory

SMALL_BYTES = 64 * 2**10
"""Smaller weights stay in memory."""


class WeightsOnDisk:
    """Weights of one model in files that are mapped into memory.

    Attributes:
        folder: the files' own; on systems that allow it, they lose their names at once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was cut off
        folder.mkdir(parents=True)
        return_freed_memory()
        self._count = 0

    def load(self, checkpoint: Path, write_fp32: Callable[[Path], None]) -> Any:
        """A causal language model of transformers in fp32, all of whose large weights lie in files.

        Args:
            checkpoint: a folder with full-precision weights.
            write_fp32: writes the checkpoint into a folder in fp32.

        Raises:
            PrerequisiteError: a checkpoint that only transformers can read, and too little memory for it.
        """
        import torch
        from transformers import AutoModelForCausalLM

        tensors = stored_tensors(checkpoint).values()
        copy = self.folder / "fp32"
        if not all(tensor.is_float for tensor in tensors):
            require_fp32(checkpoint, "this merge", "merge on a machine with more")
        elif any(tensor.dtype != "F32" for tensor in tensors):  # transformers would convert them in memory
            copy.mkdir()
            write_fp32(copy)
            checkpoint = copy
        model = AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
        self.take(model.parameters())
        shutil.rmtree(copy, ignore_errors=True)
        return model

    def take(self, parameters: Iterable[Any]) -> None:
        """Put the values of parameters into files, where they are not there yet."""
        import torch

        for parameter in parameters:
            values = parameter.data
            if values.nbytes < SMALL_BYTES or values.untyped_storage().filename is not None:
                continue
            self._count += 1
            file = self.folder / f"{self._count}.f32"
            # Written, not only mapped: a full disk is an error here, and would kill the process there.
            values.contiguous().numpy().tofile(file)
            mapped = torch.from_file(str(file), shared=True, size=values.numel(), dtype=values.dtype)
            parameter.data = mapped.view(values.shape)
            with contextlib.suppress(OSError):  # Windows keeps what is mapped
                file.unlink()

    def copies(self, model: Any) -> dict[str, Any]:
        """All parameters of a model as they are now, in files of their own, by name."""
        import torch

        made: dict[int, Any] = {}
        for parameter in model.parameters():
            made[id(parameter)] = torch.nn.Parameter(parameter.detach().clone(), requires_grad=False)
            self.take([made[id(parameter)]])
        return {name: made[id(one)] for name, one in model.named_parameters(remove_duplicate=False)}

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
