"""Do the weights fit into F16? And are they numbers at all? Looked at before anything is written."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.tensor_files import stored_tensors
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import sha256_json, write_json
from empathy_edge.system.hash_cache import sha256_file

F16_MAX = 65504.0


@dataclass(frozen=True)
class LargestWeight:
    """The weight of the largest size in the matrices of a checkpoint; a GGUF keeps vectors in F32.

    Attributes:
        tensor: its tensor's name.
        value: its value.
    """

    tensor: str
    value: float

    @property
    def fits_f16(self) -> bool:
        """Whether F16 holds it."""
        return abs(self.value) <= F16_MAX

    def require_f16(self, artifact: str) -> None:
        """Refuse an artifact in F16 of weights that are beyond it.

        Raises:
            EmpathyEdgeError: names the tensor, its value, and what to choose.
        """
        if not self.fits_f16:
            raise EmpathyEdgeError(
                f"{artifact}: {self.tensor} has the weight {self.value:g}, and F16 holds at most "
                f"{F16_MAX:.0f}.\n"
                "  Choose gguf-bf16 or gguf-f32, or gguf-q8_0 (for weights up to 8 million)."
            )


def largest_weight(checkpoint: Path) -> LargestWeight:
    """The largest weight of a checkpoint's matrices; kept in the cache by the hashes of its files.

    Raises:
        EmpathyEdgeError: a weight is NaN or infinite; names the tensor.
    """
    hashes = {file.name: sha256_file(file) for file in sorted(checkpoint.glob("*.safetensors"))}
    kept = cache_folder() / "largest-weights" / f"{sha256_json(hashes)[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(kept.read_text(encoding="utf-8"))
        return LargestWeight(str(found["tensor"]), float(found["value"]))
    largest = _read_all(checkpoint)
    with contextlib.suppress(OSError):  # a cache that cannot be written: the weights are read again
        write_json(kept, asdict(largest))
    return largest


def _read_all(checkpoint: Path) -> LargestWeight:
    """Read every tensor once, some megabytes at a time; errors as for `largest_weight`."""
    largest = LargestWeight("", 0.0)
    for name, tensor in stored_tensors(checkpoint).items():
        if not tensor.is_float:
            continue
        for chunk in tensor.chunks():
            if chunk.size == 0:
                continue
            low, high = float(chunk.min()), float(chunk.max())  # of a chunk with a NaN both are NaN
            value = low if -low > high else high
            if not np.isfinite(value):
                found = "NaN (no number)" if np.isnan(value) else "infinite"
                raise EmpathyEdgeError(
                    f"{checkpoint}: a weight of {name} is {found}; no artifact made from it can work.\n"
                    "  Train again with a lower learning rate, or take an earlier checkpoint."
                )
            if len(tensor.shape) > 1 and abs(value) > abs(largest.value):
                largest = LargestWeight(name, value)
    return largest
