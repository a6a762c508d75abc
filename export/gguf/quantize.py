"""Quantizing a GGUF with llama.cpp's own code (`llama_model_quantize`), and what that will take."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.export.gguf.tensor_types import type_number
from empathy_edge.formats.gguf_header import tensors_of
from empathy_edge.runtimes import default_threads
from empathy_edge.system.files import part_of

Importance = Mapping[str, np.ndarray]
"""GGUF name of a matrix → how much each of its input channels matters, float32 [columns]."""

K_BLOCK = 256
"""Weights in a block of the types whose names have `_k`, and of most `iq` and `tq` types."""


class PackedTensor(NamedTuple):
    """A tensor as a GGUF file holds it: its type, as `q4_0`, and its bytes, uint8 [rows, bytes]."""

    kind: str
    data: np.ndarray


def quantize(
    source: Path,
    file: Path,
    quantization: str,
    *,
    threads: int,
    importance: Importance | None = None,
    types: Mapping[str, str] | None = None,
    only_estimate: bool = False,
) -> float:
    """Quantize a GGUF of full precision; returns the size of its tensors in MB.

    Args:
        source: an F32, F16 or BF16 file.
        file: what is written, whole or not at all.
        quantization: llama.cpp's name in lower case, as `q4_k_m`.
        threads: for the rounding.
        importance: weighs the error of each input channel.
        types: regular expression over tensor names → the type that these get (`token_embd` → `q8_0`).
        only_estimate: write nothing (llama.cpp's dry run).

    Raises:
        EmpathyEdgeError: llama.cpp could not; with its own words.
    """
    parameters = _parameters(quantization)
    parameters.nthread = threads
    parameters.dry_run = only_estimate
    # The C arrays that the parameters point to must live until the call is over.
    importance_array = _importance_for_c(importance) if importance else None
    types_array = _types_for_c(types) if types else None
    if importance_array is not None:
        parameters.imatrix = importance_array
    if types_array is not None:
        parameters.tt_overrides = types_array
    temporary = part_of(file)
    try:
        log = _run(source, temporary, quantization, parameters)
        if not only_estimate:
            os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    return _size_in_log(log)


def write_q2_k(source: Path, file: Path) -> None:
    """Write the Q2_K form of a GGUF of full precision: a control of `check`.

    Raises:
        EmpathyEdgeError: llama.cpp could not, or is not installed.
    """
    quantize(source, file, "q2_k", threads=default_threads())


def planned_types(source: Path, quantization: str) -> dict[str, str]:
    """Name of each matrix → the type that llama.cpp would give it, by its dry run; nothing is written.

    Raises:
        EmpathyEdgeError: llama.cpp could not; with its own words.
    """
    parameters = _parameters(quantization)
    parameters.dry_run = True
    log = _run(source, part_of(source), quantization, parameters)
    # [ 260/ 272] blk.28.ffn_down.weight - [ 1536, 576, 1, 1], type = f16, size = 1.69 MiB -> 0.69 MiB (q6_K)
    found = re.findall(r"\] +(\S+) +- \[.*-> +[\d.]+ MiB \((\w+)\)", log)
    return {name: kind.lower() for name, kind in found}


def _parameters(quantization: str) -> Any:
    """llama.cpp's parameters for a type."""
    require_extra("llama_cpp", "gguf", "Quantizing a GGUF file")
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quantization.upper()}")
    return parameters


def _run(source: Path, file: Path, quantization: str, parameters: Any) -> str:
    """Call llama.cpp; returns what it printed."""
    import llama_cpp

    with llama_cpp_log() as lines:
        status = llama_cpp.llama_model_quantize(str(source).encode(), str(file).encode(), parameters)
    log = "".join(lines)
    if status != 0:
        reasons = re.findall(r"failed to quantize: (.*)", log) or [f"code {status}"]
        raise EmpathyEdgeError(f"{source}: llama.cpp could not quantize it to {quantization}: {reasons[-1]}.")
    return log


def _size_in_log(log: str) -> float:
    """The size of the tensors in MB (10^6 bytes), as llama.cpp says it; 0 where it does not."""
    size = re.search(r"quant size\s*=\s*([\d.]+) MiB", log)
    return float(size[1]) * 2**20 / 1e6 if size else 0.0


def replace_tensors(file: Path, packed: Mapping[str, PackedTensor]) -> None:
    """Put other bytes into tensors of a GGUF.

    Args:
        file: the GGUF, which is changed in place.
        packed: name → the new bytes, of the same type and length as those in the file.
    """
    places = tensors_of(file)
    with open(file, "r+b") as handle:
        for name, (kind, data) in packed.items():
            place = places[name]
            if place.kind != type_number(kind) or place.nbytes != data.nbytes:
                raise RuntimeError(f"{file}: {name} is not {data.nbytes} bytes of {kind}")
            handle.seek(place.begin)
            data.tofile(handle)


def fallback_note(file: Path, quantization: str) -> str | None:
    """A sentence where matrices could not get the type because their rows do not divide into its blocks."""
    has_k_blocks = "_k" in quantization or (
        quantization.startswith(("iq", "tq")) and quantization != "iq4_nl"
    )
    matrices = [tensor for tensor in tensors_of(file).values() if len(tensor.shape) == 2]
    lengths = [matrix.shape[0] for matrix in matrices if matrix.shape[0] % K_BLOCK != 0]
    if not lengths or not has_k_blocks:
        return None
    rows = ", ".join(str(length) for length in sorted(set(lengths)))
    return (
        f"{len(lengths)} matrices have rows of {rows}, which {K_BLOCK} does not divide: llama.cpp gave them "
        "another type, so the file is larger than its name says"
    )


@contextlib.contextmanager
def llama_cpp_log() -> Iterator[list[str]]:
    """What llama.cpp prints meanwhile goes into the list, and nowhere else."""
    import llama_cpp
    from llama_cpp import _logger

    lines: list[str] = []

    def take(_level: int, text: bytes, _data: Any) -> None:
        lines.append(text.decode("utf-8", "replace"))

    callback = llama_cpp.llama_log_callback(take)  # must live as long as llama.cpp may call it
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        yield lines
    finally:
        llama_cpp.llama_log_set(_logger.llama_log_callback, ctypes.c_void_p(0))


def _importance_for_c(importance: Importance) -> Any:
    import llama_cpp

    # One row more than there are matrices: an empty one marks the end.
    rows = (llama_cpp.llama_model_imatrix_data * (len(importance) + 1))()
    for place, (name, values) in enumerate(importance.items()):
        data = np.ascontiguousarray(values, dtype=np.float32)
        pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        rows[place] = llama_cpp.llama_model_imatrix_data(name.encode(), pointer, data.size)
    return rows


def _types_for_c(types: Mapping[str, str]) -> Any:
    import llama_cpp

    rows = (llama_cpp.llama_model_tensor_override * (len(types) + 1))()
    for place, (pattern, kind) in enumerate(types.items()):
        try:
            number = type_number(kind)
        except KeyError:
            raise EmpathyEdgeError(f"{pattern}={kind}: there is no such tensor type in GGUF.") from None
        rows[place] = llama_cpp.llama_model_tensor_override(pattern.encode(), number)
    return rows
