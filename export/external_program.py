"""Run another program's exporter or converter, and turn its failure into one clear error."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError

ERROR_LINES = 3
"""How many of the last lines on stderr the error shows."""


def run_external_program(
    command: Sequence[str], *, output: Path, failure: str, environment: Mapping[str, str] | None = None
) -> None:
    """Run `command` and wait until it ends; what it prints is not shown.

    Args:
        command: the program and its arguments.
        output: the file that it must have written.
        failure: how the error message begins, without a colon at the end.
        environment: its environment variables; None takes those of this process.

    Raises:
        EmpathyEdgeError: it failed, or did not write `output`; with its last lines.
    """
    ended = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        stdin=subprocess.DEVNULL,
    )
    if ended.returncode != 0 or not output.is_file():
        lines = [line for line in ended.stderr.splitlines() if line.strip()]
        raise EmpathyEdgeError(f"{failure}:\n  " + "\n  ".join(lines[-ERROR_LINES:]))


def offline_environment() -> dict[str, str]:
    """This process's environment variables, and those that keep Hugging Face's libraries off the network."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
