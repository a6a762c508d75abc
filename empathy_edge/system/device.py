"""On which device torch computes: the one that the user chose with --device, or the best there is."""

from __future__ import annotations

import os

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError

CHOSEN = "EMPATHY_EDGE_DEVICE"
"""The environment variable that holds the choice; child processes inherit it."""

DEVICES = ("auto", "cpu", "cuda", "mps")


def chosen_device() -> str:
    """`cpu`, `cuda` or `mps`: `auto` takes a GPU where torch can use one.

    Raises:
        PrerequisiteError: the chosen device is not here.
    """
    import torch

    choice = os.environ.get(CHOSEN, "auto")
    if choice not in DEVICES:
        raise EmpathyEdgeError(f"{CHOSEN}={choice}: no such device. Choose one of: {', '.join(DEVICES)}.")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if choice == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if present[name])
    if not present[choice]:
        raise PrerequisiteError(
            f"torch finds no device '{choice}' here.",
            "Take --device auto, or install a build of torch for it (https://pytorch.org).",
        )
    return choice


def free_on(device: str) -> float:
    """The free memory of a device in MB (10^6 bytes)."""
    if device == "cuda":
        import torch

        own = int(os.environ.get("LOCAL_RANK", "0"))  # of several processes each has one
        return float(torch.cuda.mem_get_info(own)[0]) / 1e6
    from empathy_edge.system.free_memory import free_memory_mb

    return free_memory_mb()
