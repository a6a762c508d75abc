"""A model that is damaged on purpose, so that a comparison can show that it sees damage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from empathy_edge.formats.tensor_files import StoredTensor, stored_tensors, write_safetensors
from empathy_edge.system.machine import require_space

NOISE = 0.5
"""Of each matrix's standard deviation; a few bits' rounding adds a tenth of it."""


def write_known_bad(checkpoint: Path, out: Path, seed: int = 0) -> None:
    """Write `checkpoint` with Gaussian noise on the matrices of its layers."""
    chance = np.random.default_rng(seed)
    tensors = stored_tensors(checkpoint)
    require_space(
        out, 1.1 * sum(4 * np.prod(item.shape) for item in tensors.values()) / 1e6, "the known-bad model"
    )

    def damaged(tensor: StoredTensor) -> Iterator[np.ndarray]:
        for rows in tensor.chunks():
            noisy = len(tensor.shape) == 2 and ".layers." in tensor.name
            noise = chance.standard_normal(rows.shape, dtype=np.float32) * np.float32(NOISE * rows.std())
            yield rows + noise if noisy else rows

    out.mkdir(parents=True, exist_ok=True)
    shapes = {name: item.shape for name, item in tensors.items()}
    write_safetensors(out / "model.safetensors", shapes, (damaged(item) for item in tensors.values()))
    for file in checkpoint.iterdir():
        if file.suffix in (".json", ".jinja") and file.name not in (
            "manifest.json",
            "model.safetensors.index.json",
        ):
            shutil.copyfile(file, out / file.name)
