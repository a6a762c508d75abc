"""Run another program's exporter or converter, and turn its failure into one clear error."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.system.processes import run_captured

ERROR_LINES = 3
"""How many of the last lines on stderr the error shows; of a Python traceback only the last one."""


_EXCEPTION = re.compile(r"^(?:\w+\.)*(\w+): (.*)$")
"""The last line of a Python traceback."""


def run_external_program(
    command: Sequence[str],
    *,
    output: Path,
    failure: str,
    remedy: str = "",
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run `command` and wait until it ends; what it prints is not shown.

    Args:
        command: the program and its arguments.
        output: the file that it must have written.
        failure: how the error message begins, without a colon at the end.
        remedy: what the user can do then, in one line.
        environment: its environment variables; None takes those of this process.

    Raises:
        EmpathyEdgeError: it failed, or did not write `output`; with its last lines.
    """
    ended = run_captured(command, environment)
    if ended.returncode != 0 or not output.is_file():
        said = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
        last = [line[:300] for line in said[-ERROR_LINES:]] or [f"it ended with the code {ended.returncode}"]
        if any(line.startswith("Traceback (") for line in said):
            last = [_EXCEPTION.sub(r"\1 (\2)", last[-1])]
        raise EmpathyEdgeError("\n  ".join([f"{failure}:", *last, *([remedy] if remedy else [])]))


def offline_environment() -> dict[str, str]:
    """This process's environment variables, and those that keep Hugging Face's libraries off the network."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
