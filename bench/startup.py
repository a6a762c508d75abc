"""How long a command takes to start, beside an interpreter that does nothing; they take turns.

Run as `python -m empathy_edge.bench.startup`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 15
COMMANDS = {
    "python": "pass",
    "empathy-edge --help": "from empathy_edge.cli import run_cli; run_cli(['--help'])",
    "bench's worker, no model": (
        "from empathy_edge.bench.worker import import_libraries; import_libraries('gguf')"
    ),
}


def measure(rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each command, `rounds` times in turn, after one round that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, code in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            if number > 0:
                found[name].append(time.perf_counter() - start)
    return found


if __name__ == "__main__":
    results = measure()
    bare_s = statistics.median(results["python"])
    print(f"start-up, measured-host, median of {ROUNDS} rounds (shortest, longest):")
    for name, seconds in results.items():
        median_s = statistics.median(seconds)
        spread = f"({min(seconds):.3f}, {max(seconds):.3f})"
        print(f"  {name:<26}{median_s:.3f} s {spread}, {median_s / bare_s:.1f} times python alone")
