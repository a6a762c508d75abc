"""For families that our own writer does not support: conversion by llama.cpp's script."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.external_program import run_external_program


def run_converter(script: Path, checkpoint: Path, file: Path, kind: str) -> None:
    """Write `checkpoint` as GGUF by `convert_hf_to_gguf.py`.

    Args:
        script: the file in a llama.cpp checkout; it is run with this Python.
        checkpoint: a folder of safetensors.
        file: what is written, whole or not at all.
        kind: `f32`, `f16` or `bf16`.

    Raises:
        EmpathyEdgeError: no such script, or it failed; with its last lines.
    """
    if not script.is_file():
        raise EmpathyEdgeError(
            f"{script}: no such script; give convert_hf_to_gguf.py of a llama.cpp checkout."
        )
    temporary = file.with_suffix(".converting")
    command = [sys.executable, str(script), str(checkpoint), "--outtype", kind, "--outfile", str(temporary)]
    try:
        run_external_program(command, output=temporary, failure=f"{script.name} failed on {checkpoint}")
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
