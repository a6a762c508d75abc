"""Quantizing a GGUF with llama.cpp's own code (`llama_model_quantize`), and what that will take."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.gguf_header import tensors_of

Importance = Mapping[str, np.ndarray]
"""GGUF name of a matrix → how much each of its input channels matters, float32 [columns]."""


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
    require_extra("llama_cpp", "gguf", "Quantizing a GGUF file")
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quantization.upper()}")
    parameters.nthread = threads
    parameters.dry_run = only_estimate
    keep: list[Any] = []  # what the parameters point to must outlive the call
    if importance:
        keep.append(_importance_for_c(importance))
        parameters.imatrix = keep[-1]
    if types:
        keep.append(_types_for_c(types))
        parameters.tt_overrides = keep[-1]
    temporary = file.with_suffix(".tmp")
    try:
        with llama_cpp_log() as log:
            status = llama_cpp.llama_model_quantize(str(source).encode(), str(temporary).encode(), parameters)
        said = "".join(log)
        if status != 0:
            reason = re.findall(r"failed to quantize: (.*)", said)
            raise EmpathyEdgeError(
                f"{source}: llama.cpp could not quantize it to {quantization}: {reason[-1] if reason else f'code {status}'}."
            )
        if not only_estimate:
            os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    size = re.search(r"quant size\s*=\s*([\d.]+) MiB", said)
    return float(size[1]) * 2**20 / 1e6 if size else 0.0


def replace_tensors(file: Path, packed: Mapping[str, tuple[str, np.ndarray]]) -> None:
    """Put other bytes into tensors of a GGUF: name → type and bytes, which must be of the type and length that stand there."""
    import gguf

    places = tensors_of(file)
    with open(file, "r+b") as handle:
        for name, (kind, data) in packed.items():
            place = places[name]
            if place.kind != gguf.GGMLQuantizationType[kind.upper()].value or place.nbytes != data.nbytes:
                raise RuntimeError(f"{file}: {name} is not {data.nbytes} bytes of {kind}")
            handle.seek(place.begin)
            data.tofile(handle)


def fallback_note(file: Path, quantization: str) -> str | None:
    """A sentence where matrices could not get the type because their rows do not divide into its blocks."""
    odd = [
        (name, tensor.shape[0])
        for name, tensor in tensors_of(file).items()
        if len(tensor.shape) == 2 and tensor.shape[0] % 256 != 0
    ]
    if odd and ("_k" in quantization or (quantization.startswith(("iq", "tq")) and quantization != "iq4_nl")):
        rows = ", ".join(str(row) for row in sorted({row for _, row in odd}))
        return (
            f"{len(odd)} matrices have rows of {rows}, which 256 does not divide: llama.cpp gave them another type, "
            "so the file is larger than its name says"
        )
    return None


@contextlib.contextmanager
def llama_cpp_log() -> Iterator[list[str]]:
    """What llama.cpp says meanwhile goes into the list, and nowhere else."""
    import llama_cpp
    from llama_cpp import _logger

    said: list[str] = []

    @llama_cpp.llama_log_callback
    def take(_level: int, text: bytes, _data: Any) -> None:
        said.append(text.decode("utf-8", "replace"))

    llama_cpp.llama_log_set(take, ctypes.c_void_p(0))
    try:
        yield said
    finally:
        llama_cpp.llama_log_set(_logger.llama_log_callback, ctypes.c_void_p(0))


def _importance_for_c(importance: Importance) -> Any:
    import llama_cpp

    rows = (llama_cpp.llama_model_imatrix_data * (len(importance) + 1))()  # the last one stays empty: the end
    for place, (name, values) in enumerate(importance.items()):
        data = np.ascontiguousarray(values, dtype=np.float32)
        pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        rows[place] = llama_cpp.llama_model_imatrix_data(name.encode(), pointer, data.size)
    return rows


def _types_for_c(types: Mapping[str, str]) -> Any:
    import gguf
    import llama_cpp

    rows = (llama_cpp.llama_model_tensor_override * (len(types) + 1))()
    for place, (pattern, kind) in enumerate(types.items()):
        try:
            number = gguf.GGMLQuantizationType[kind.upper()].value
        except KeyError:
            raise EmpathyEdgeError(f"{pattern}={kind}: there is no such tensor type in GGUF.") from None
        rows[place] = llama_cpp.llama_model_tensor_override(pattern.encode(), number)
    return rows
