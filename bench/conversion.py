"""What conversion and merging cost: seconds and peak memory, ours beside llama.cpp's script and PEFT.

Run as `python -m empathy_edge.bench.conversion CHECKPOINT SCRIPT [ADAPTER …]`, SCRIPT being convert_hf_to_gguf.py of a llama.cpp
checkout, CHECKPOINT the adapters' base. Each arm is a process of its own, imports included; the arms take turns.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS = 5

_WRITE = "from empathy_edge.export.gguf.writer import write_float; from pathlib import Path; write_float(Path({0!r}), Path({1!r}))"
_MERGE = "from empathy_edge.export.merged import merge; from pathlib import Path; merge(Path({0!r}), [Path(a) for a in {2!r}], Path({1!r}))"
_PEFT = (
    "import torch; from transformers import AutoModelForCausalLM; from peft import PeftModel\n"
    "model = AutoModelForCausalLM.from_pretrained({0!r}, dtype=torch.float32)\n"
    "for adapter in {2!r}: model = PeftModel.from_pretrained(model, adapter).merge_and_unload()\n"
    "model.save_pretrained({1!r})"
)


def compare(checkpoint: str, script: str, adapters: list[str]) -> str:
    """A Markdown table."""
    scratch = Path(tempfile.mkdtemp(prefix="conversion-"))
    arms: dict[str, Callable[[], list[str]]] = {
        "to F16, ours": lambda: _python(_WRITE, checkpoint, scratch / "ours.gguf", []),
        "to F16, convert_hf_to_gguf.py": lambda: [
            sys.executable, script, checkpoint, "--outtype", "f16", "--outfile", str(scratch / "theirs.gguf"),
        ],
    }  # fmt: skip
    if adapters:
        arms |= {
            "merge, ours": lambda: _python(_MERGE, checkpoint, scratch / "ours", adapters),
            "merge, PEFT": lambda: _python(_PEFT, checkpoint, scratch / "theirs", adapters),
        }
    found: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arms}
    try:
        for turn in range(ROUNDS):
            for arm in arms if turn % 2 == 0 else reversed(arms):
                for name in ("ours", "theirs"):
                    shutil.rmtree(scratch / name, ignore_errors=True)
                    (scratch / name).mkdir()
                found[arm].append(_measure(arms[arm]()))
    finally:
        shutil.rmtree(scratch)
    lines = [
        f"| {ROUNDS} rounds, processes of their own | median s | s, least to most | peak RSS, MB |",
        "|---|---|---|---|",
    ]
    for arm, runs in found.items():
        seconds = [run[0] for run in runs]
        lines.append(
            f"| {arm} | {statistics.median(seconds):.1f} | {min(seconds):.1f}–{max(seconds):.1f} | {max(run[1] for run in runs):.0f} |"
        )
    return "\n".join(lines)


def _python(code: str, checkpoint: str, out: Path, adapters: list[str]) -> list[str]:
    return [sys.executable, "-c", code.format(checkpoint, str(out), adapters)]


def _measure(command: list[str]) -> tuple[float, float]:
    """Seconds, and peak RSS in MB."""
    start = time.perf_counter()
    null = os.open(os.devnull, os.O_WRONLY)
    process = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)],
    )
    os.close(null)
    _, status, usage = os.wait4(process, 0)
    if status != 0:
        raise RuntimeError(f"{' '.join(command)[:300]} failed")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    print(compare(sys.argv[1], sys.argv[2], sys.argv[3:]))
