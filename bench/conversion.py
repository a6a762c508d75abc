"""What conversion and merging cost: seconds and peak memory, ours beside llama.cpp's script and PEFT.

Run as `python -m empathy_edge.bench.conversion CHECKPOINT SCRIPT [ADAPTER …]`. SCRIPT is
convert_hf_to_gguf.py of a llama.cpp checkout, CHECKPOINT the adapters' base. Each way is a process of its
own, imports included, and they take turns.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROUNDS = 5

# Programs; {0} stands for the checkpoint, {1} for what is written, {2} for the adapters.
_OUR_CONVERSION = """
from pathlib import Path
from empathy_edge.export.gguf.writer import write_float
write_float(Path({0!r}), Path({1!r}))
"""
_OUR_MERGE = """
from pathlib import Path
from empathy_edge.export.merged import merge
merge(Path({0!r}), [Path(adapter) for adapter in {2!r}], Path({1!r}))
"""
_PEFT_MERGE = """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained({0!r}, dtype=torch.float32)
for adapter in {2!r}:
    model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
model.save_pretrained({1!r})
"""


class Cost(NamedTuple):
    """What one process took: seconds, and peak resident memory in MB (10^6 bytes)."""

    seconds: float
    peak_rss_mb: float


def compare(checkpoint: str, script: str, adapters: list[str]) -> str:
    """A Markdown table."""
    scratch = Path(tempfile.mkdtemp(prefix="conversion-"))
    ways = _commands(checkpoint, script, adapters, scratch)
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    try:
        for number in range(ROUNDS):
            for way in ways if number % 2 == 0 else reversed(ways):
                for name in ("ours", "theirs"):
                    shutil.rmtree(scratch / name, ignore_errors=True)
                    (scratch / name).mkdir()
                costs[way].append(_measure(ways[way]))
    finally:
        shutil.rmtree(scratch)
    lines = [
        f"| {ROUNDS} rounds, processes of their own | median s | s, shortest to longest | peak RSS, MB |",
        "|---|---|---|---|",
    ]
    for way, runs in costs.items():
        seconds = [run.seconds for run in runs]
        peak = max(run.peak_rss_mb for run in runs)
        middle = statistics.median(seconds)
        lines.append(f"| {way} | {middle:.1f} | {min(seconds):.1f}–{max(seconds):.1f} | {peak:.0f} |")
    return "\n".join(lines)


def _commands(checkpoint: str, script: str, adapters: list[str], scratch: Path) -> dict[str, list[str]]:
    """The command line of each way."""
    ours, theirs = str(scratch / "ours"), str(scratch / "theirs")

    def python(program: str, out: str) -> list[str]:
        return [sys.executable, "-c", program.format(checkpoint, out, adapters)]

    their_conversion = [script, checkpoint, "--outtype", "f16", "--outfile", f"{theirs}.gguf"]
    commands = {
        "to F16, ours": python(_OUR_CONVERSION, f"{ours}.gguf"),
        "to F16, convert_hf_to_gguf.py": [sys.executable, *their_conversion],
    }
    if adapters:
        commands["merge, ours"] = python(_OUR_MERGE, ours)
        commands["merge, PEFT"] = python(_PEFT_MERGE, theirs)
    return commands


def _measure(command: list[str]) -> Cost:
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
    return Cost(time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e6)


if __name__ == "__main__":
    print(compare(sys.argv[1], sys.argv[2], sys.argv[3:]))
