"""Our rates beside llama-bench's, same GGUF, same threads: both are run in turn, so that the machine's noise hits both.

Run as `python -m empathy_edge.bench.parity MODEL LLAMA_BENCH [ROUNDS]`. LLAMA_BENCH is built from the source that
llama-cpp-python's sdist carries (docs/bench.md), outside of this project.
"""

from __future__ import annotations

import json
import subprocess
import sys

from empathy_edge.bench.timing_intervals import ratio_interval
from empathy_edge.bench.latency import measure
from empathy_edge.bench.phones.device_folder import gguf_file
from empathy_edge.runtimes import default_threads

PROMPT, DECODE = 128, 64


def compare(model: str, program: str, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Tokens/s of both, by round: `prefill` of 128 tokens, `decode` of 64 tokens after 128."""
    file = str(gguf_file(model))
    threads = default_threads()
    options = {
        "suite": "grid",
        "threads": threads,
        "prompt_tokens": [PROMPT],
        "decode_tokens": DECODE,
        "context": PROMPT + DECODE + 64,
    }
    speeds: dict[str, dict[str, list[float]]] = {
        name: {"ours": [], "llama-bench": []} for name in ("prefill", "decode")
    }
    for number in range(rounds):
        for who in ("ours", "llama-bench") if number % 2 else ("llama-bench", "ours"):
            if who == "ours":
                sample = measure(model, options)["samples"][str(PROMPT)]
                speeds["prefill"][who].append(sample["prefill_tps"])
                speeds["decode"][who].append(sample["decode_tps"])
                continue
            for phase, test in (
                ("prefill", ["-p", str(PROMPT), "-n", "0"]),
                ("decode", ["-p", "0", "-n", str(DECODE), "-d", str(PROMPT)]),
            ):
                command = [program, "-m", file, "-t", str(threads), *test, "-r", "1", "-o", "jsonl"]
                done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
                speeds[phase][who].append(json.loads(done.stdout.splitlines()[-1])["avg_ts"])
    return speeds


if __name__ == "__main__":
    found = compare(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 15)
    for phase, both in found.items():
        ratio = ratio_interval(both["ours"], both["llama-bench"])
        medians = {who: sorted(values)[len(values) // 2] for who, values in both.items()}
        print(
            f"{phase}, measured-host, {len(both['ours'])} rounds: ours {medians['ours']:.1f}, llama-bench "
            f"{medians['llama-bench']:.1f} tokens/s; ratio {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
        )
