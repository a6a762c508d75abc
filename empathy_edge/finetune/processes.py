"""Training in several processes (`accelerate launch`, `torchrun`): who writes, and who waits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from empathy_edge.run import MANIFEST, Stage, read_json


def process_count() -> int:
    """How many processes train together; 1 outside a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that writes files and speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_everyone() -> None:
    """Go on when every process has come here."""
    if process_count() > 1:
        _state().wait_for_everyone()


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """The main process runs the block, then the others, who find what it left."""
    if not is_main():
        wait_for_everyone()
    yield
    if is_main():
        wait_for_everyone()


def finish(stage: Stage, **results: Any) -> dict[str, Any]:
    """`Stage.finish`, by the main process alone; every process has the manifest."""
    if is_main():
        stage.finish(**results)
    wait_for_everyone()
    manifest: dict[str, Any] = read_json(stage.folder / MANIFEST)
    return manifest


def _state() -> Any:
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())
