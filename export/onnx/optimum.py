"""The same graph by `optimum-cli`, in an environment of its own: its versions cannot share ours (docs/decisions/001)."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.export.onnx.portable import save_int8

ENVIRONMENT = "EMPATHY_EDGE_OPTIMUM"
"""Where the environment lies; by default .venv-optimum in the working folder, where `make setup-optimum` puts it."""


def write_optimum(checkpoint: Path, folder: Path, precision: str) -> None:
    """Write model.onnx into `folder` by `optimum-cli export onnx --task text-generation-with-past`.

    Args:
        checkpoint: a folder of safetensors.
        folder: where the file goes; it exists.
        precision: `fp32`, or `int8` as in `portable`.

    Raises:
        PrerequisiteError: there is no such environment.
        EmpathyEdgeError: optimum-cli failed; with its last lines.
    """
    folder_of_it = Path(os.environ.get(ENVIRONMENT, ".venv-optimum")).expanduser().absolute()
    program = folder_of_it / ("Scripts/optimum-cli.exe" if os.name == "nt" else "bin/optimum-cli")
    if not program.is_file():
        raise PrerequisiteError(
            "optimum-cli is not installed in an environment of its own.",
            f"make setup-optimum (or say in {ENVIRONMENT} where that environment is)",
        )
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=folder) as scratch:
        command = [
            str(program),
            "export",
            "onnx",
            "--task",
            "text-generation-with-past",
            "--model",
            str(checkpoint),
            scratch,
        ]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
        )
        made = Path(scratch) / "model.onnx"
        if done.returncode != 0 or not made.is_file():
            last = [line for line in done.stderr.splitlines() if line.strip()][-3:]
            raise EmpathyEdgeError(f"{checkpoint}: optimum-cli failed:\n  " + "\n  ".join(last))
        if precision == "int8":
            save_int8(made, folder / "model.onnx")
        else:
            for item in (*Path(scratch).glob("*.onnx"), *Path(scratch).glob("*.onnx_data")):
                os.replace(item, folder / item.name)
