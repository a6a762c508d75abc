"""The portable graph by `optimum-cli`, in an environment of its own.

Its versions cannot be installed beside ours (docs/decisions/001).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from empathy_edge.errors import PrerequisiteError
from empathy_edge.export.external_program import offline_environment, run_external_program
from empathy_edge.export.onnx.portable import save_int8

ENVIRONMENT = "EMPATHY_EDGE_OPTIMUM"
"""The variable that names the environment's folder; by default it is .venv-optimum in the working folder."""


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
    program = _optimum_cli()
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=folder) as scratch:
        command = [str(program), "export", "onnx", "--task", "text-generation-with-past"]
        command += ["--model", str(checkpoint), scratch]
        environment = offline_environment()
        environment.pop("PYTHONPATH", None)
        exported = Path(scratch) / "model.onnx"
        run_external_program(
            command,
            output=exported,
            failure=f"{checkpoint}: optimum-cli failed",
            environment=environment,
        )
        if precision == "int8":
            save_int8(exported, folder / "model.onnx")
        else:
            for item in (*Path(scratch).glob("*.onnx"), *Path(scratch).glob("*.onnx_data")):
                os.replace(item, folder / item.name)


def _optimum_cli() -> Path:
    """The program in its environment.

    Raises:
        PrerequisiteError: it is not there.
    """
    environment = Path(os.environ.get(ENVIRONMENT, ".venv-optimum")).expanduser().absolute()
    program = environment / ("Scripts/optimum-cli.exe" if os.name == "nt" else "bin/optimum-cli")
    if not program.is_file():
        raise PrerequisiteError(
            "optimum-cli is not installed in an environment of its own.",
            f"make setup-optimum (or say in {ENVIRONMENT} where that environment is)",
        )
    return program
