"""Importance matrices: the mean squared input of each column of a matrix.

A quantizer that knows them makes its errors in the columns that matter least. They are read from llama.cpp's
files, the newer GGUF and the older .dat, or made from calibration texts, as llama.cpp's `llama-imatrix` does.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from empathy_edge.console import progress
from empathy_edge.errors import EmpathyEdgeError, no_such_file
from empathy_edge.export.calibration import Calibration
from empathy_edge.export.gguf.families import family_of, read_config, tensor_names
from empathy_edge.export.gguf.writer import name_in_language_model, new_gguf
from empathy_edge.formats.gguf_header import MAGIC, tensors_of
from empathy_edge.runtimes.held_weights import load_in_fp32
from empathy_edge.system.device import chosen_device

if TYPE_CHECKING:
    import torch

MAX_MATRICES = 65_536
MAX_CHANNELS = 2**20
MAX_NAME_BYTES = 1024
MAX_CALLS = 2**31
"""Larger numbers in a .dat file mean that it is damaged, or no importance matrix."""

F32 = 0
"""The number of the type among GGML's types."""


def collect(checkpoint: Path, texts: Calibration) -> dict[str, np.ndarray]:
    """GGUF name of each matrix in the layers → mean square of its input channels, float32 [columns]."""
    import torch

    sums: dict[str, torch.Tensor] = {}

    def add(name: str, inputs: torch.Tensor) -> None:
        squares = inputs.cpu().double().square().sum(0)  # Apple's GPUs have no doubles
        sums[name] = sums[name] + squares if name in sums else squares

    with inputs_of_matrices(checkpoint, add) as model, torch.inference_mode(), progress() as bar:
        task = bar.add_task("importance matrix", total=len(texts.ids))
        for ids in texts.ids:
            model.model(input_ids=torch.tensor([ids], device=model.device), use_cache=False)
            bar.advance(task)
    return {name: (total / texts.tokens).float().numpy() for name, total in sums.items()}


@contextmanager
def inputs_of_matrices(checkpoint: Path, take: Callable[[str, torch.Tensor], None]) -> Iterator[Any]:
    """The checkpoint as a torch model (fp32) that tells what goes into the matrices of its layers.

    Args:
        checkpoint: a folder of safetensors.
        take: is called for every matrix with its GGUF name and its inputs, [tokens, columns].
    """
    import torch

    def hook_of(name: str) -> Callable[[Any, tuple[torch.Tensor, ...]], None]:
        def hook(_: Any, positional: tuple[torch.Tensor, ...]) -> None:
            take(name, positional[0].reshape(-1, positional[0].shape[-1]))

        return hook

    config = read_config(checkpoint)
    names = tensor_names(family_of(checkpoint, config), config)
    model = load_in_fp32(checkpoint, chosen_device())
    hooks = []
    for path, module in model.named_modules():
        key = name_in_language_model(path)
        if isinstance(module, torch.nn.Linear) and key and ".layers." in key:
            hooks.append(module.register_forward_pre_hook(hook_of(f"{names.get_name(key)}.weight")))
    try:
        yield model
    finally:
        for hook in hooks:
            hook.remove()


def write_imatrix(file: Path, importance: dict[str, np.ndarray], texts: Calibration) -> None:
    """Write llama.cpp's GGUF format, which its own `llama-quantize` reads too."""
    with new_gguf(file, "") as writer:
        writer.add_type("imatrix")
        writer.add_array("imatrix.datasets", [texts.source])
        writer.add_uint32("imatrix.chunk_count", len(texts.ids))
        writer.add_uint32("imatrix.chunk_size", max(map(len, texts.ids)))
        for name, values in importance.items():
            writer.add_tensor(f"{name}.in_sum2", (values * texts.tokens)[None, :].astype(np.float32))
            writer.add_tensor(f"{name}.counts", np.array([[texts.tokens]], np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def read_imatrix(file: Path) -> dict[str, np.ndarray]:
    """GGUF name of each matrix → mean square of its input channels, float32 [columns].

    Raises:
        EmpathyEdgeError: neither of llama.cpp's two formats, damaged, or with values that are no numbers.
    """
    if not file.is_file():
        raise no_such_file(file, what="importance matrix")
    with open(file, "rb") as handle:
        is_gguf = handle.read(len(MAGIC)) == MAGIC
    found = _read_gguf(file) if is_gguf else _read_dat(file)
    if not found or not all(np.isfinite(values).all() and (values >= 0).all() for values in found.values()):
        raise EmpathyEdgeError(f"{file}: is no importance matrix, or has values that are no numbers.")
    return found


def _read_gguf(file: Path) -> dict[str, np.ndarray]:
    """llama.cpp's newer format, in F32: for each matrix sums, NAME.in_sum2, and their number, NAME.counts."""
    places = tensors_of(file)

    def load(name: str) -> np.ndarray:
        place = places[name]
        if place.kind != F32:
            raise EmpathyEdgeError(
                f"{file}: {name} is not in F32; it is no importance matrix of llama.cpp's."
            )
        return np.fromfile(file, "<f4", place.nbytes // 4, offset=place.begin)

    found = {}
    for name in places:
        stem = name.removesuffix(".in_sum2")
        if stem != name and f"{stem}.counts" in places:
            counts = load(f"{stem}.counts")
            if counts.size != 1:
                raise EmpathyEdgeError(f"{file}: {name} is of a mixture of experts, which is not supported.")
            found[stem] = load(name) / max(float(counts[0]), 1.0)
    return found


def _read_dat(file: Path) -> dict[str, np.ndarray]:
    """The older format: a count, then for each matrix its name, calls, and the sums over `calls`."""
    size = file.stat().st_size
    try:
        with open(file, "rb") as handle:
            found = {}
            for _ in range(_read_number(handle, MAX_MATRICES)):
                name = handle.read(_read_number(handle, MAX_NAME_BYTES)).decode()
                calls = _read_number(handle, MAX_CALLS)
                length = _read_number(handle, min(MAX_CHANNELS, size // 4))
                data = handle.read(4 * length)
                if len(data) < 4 * length:
                    raise ValueError("it ends in the middle")
                found[name] = np.frombuffer(data, "<f4") / max(calls, 1)
            return found
    except (struct.error, ValueError) as error:
        raise EmpathyEdgeError(f"{file}: is no importance matrix of llama.cpp's ({error}).") from None


def _read_number(handle: BinaryIO, maximum: int) -> int:
    (number,) = struct.unpack("<i", handle.read(4))
    if not 0 <= number <= maximum:
        raise ValueError(f"a number of {number}")
    return int(number)
