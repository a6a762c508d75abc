"""Start the worker that measures one artifact in a process of its own, and read what it found."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from empathy_edge.bench.worker_records import Settings, WorkerRun
from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.system.processes import run_captured

RunKind = TypeVar("RunKind", bound=WorkerRun)


def run_worker(
    artifact: str,
    settings: Settings,
    kind: type[RunKind],
    prefix: tuple[str, ...] = (),
    timeout_s: float | None = None,
) -> RunKind:
    """Run one suite once on one artifact.

    Args:
        artifact: what `open_runtime` takes.
        settings: of the suite.
        kind: the suite's record.
        prefix: a program with its arguments that starts the worker.
        timeout_s: it is ended after so many seconds; None: never.

    Raises:
        EmpathyEdgeError: the worker failed, or took too long; says why.
    """
    arguments = [artifact, json.dumps(asdict(settings))]
    try:
        command = [*prefix, sys.executable, "-P", "-m", "empathy_edge.bench.worker", *arguments]
        done = run_captured(command, timeout_s=timeout_s)
    except EmpathyEdgeError:
        raise EmpathyEdgeError(
            f"{artifact}: could not be measured:\n  it was not done after {timeout_s:.0f} s."
        ) from None
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if line.strip()][-2:]
        reason = (
            "\n  ".join(last) or f"it ended with {done.returncode} (-9: killed, mostly for want of memory)"
        )
        raise EmpathyEdgeError(f"{artifact}: could not be measured:\n  {reason}")
    return TypeAdapter(kind).validate_json(done.stdout.splitlines()[-1])


def say_if_warm(*, cold: bool) -> None:
    """Tell the user when a run that was to start cold could not."""
    if not cold:
        say(
            "[dim]This system cannot drop files from its page cache: "
            "every load time is that of a warm start.[/]"
        )


def size_mb(path: Path) -> float:
    """The model files of an artifact, MB (10^6 bytes)."""
    files = [path] if path.is_file() else [item for item in path.iterdir() if item.name.startswith("model")]
    return round(sum(file.stat().st_size for file in files) / 1e6, 1)
