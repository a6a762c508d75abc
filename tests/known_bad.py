"""A model that is damaged on purpose, so that a comparison can show that it sees damage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from empathy_edge.formats.tensor_files import StoredTensor, stored_tensors, write_safetensors
from empathy_edge.system.files import MANIFEST
from empathy_edge.system.machine import require_space

NOISE = 0.5
"""The noise's standard deviation, as a share of the matrix's; rounding to a few bits adds a tenth of it."""

NOT_COPIED = (MANIFEST, "model.safetensors.index.json")
"""Files of the checkpoint that are not true of the damaged model."""


def write_known_bad(checkpoint: Path, out: Path, seed: int = 0) -> None:
    """Write `checkpoint` into the folder `out`, with Gaussian noise on the matrices of its layers."""
    tensors = stored_tensors(checkpoint)
    values = sum(int(np.prod(item.shape)) for item in tensors.values())
    require_space(out, 1.1 * 4 * values / 1e6, "the known-bad model")  # 4 bytes a value, and 10 % to spare
    out.mkdir(parents=True, exist_ok=True)
    shapes = {name: item.shape for name, item in tensors.items()}
    generator = np.random.default_rng(seed)
    damaged = (_damaged(item, generator) for item in tensors.values())
    write_safetensors(out / "model.safetensors", shapes, damaged)
    for file in checkpoint.iterdir():
        if file.suffix in (".json", ".jinja") and file.name not in NOT_COPIED:
            shutil.copyfile(file, out / file.name)


def _damaged(tensor: StoredTensor, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """The tensor's rows, some at a time, with noise if it is a matrix of a layer."""
    is_layer_matrix = len(tensor.shape) == 2 and ".layers." in tensor.name
    for rows in tensor.chunks():
        # Drawn for every tensor, so that a matrix's noise does not depend on which tensors get it.
        noise = generator.standard_normal(rows.shape, dtype=np.float32) * np.float32(NOISE * rows.std())
        yield rows + noise if is_layer_matrix else rows
