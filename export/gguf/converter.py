"""Families that our own writer does not know: llama.cpp's script, from the user's checkout, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError


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
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0 or not temporary.is_file():
            last = [line for line in done.stderr.splitlines() if line.strip()][-3:]
            raise EmpathyEdgeError(f"{script.name} failed on {checkpoint}:\n  " + "\n  ".join(last))
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
