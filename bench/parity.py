"""Our rates beside llama-bench's, same GGUF, same threads.

Run as `python -m empathy_edge.bench.parity MODEL LLAMA_BENCH [ROUNDS]`. LLAMA_BENCH is built from the source
that llama-cpp-python's sdist carries (docs/bench.md), outside of this project. Both run in turn, so that the
machine's noise hits both.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field

from empathy_edge.bench.phones.device_folder import gguf_file
from empathy_edge.bench.run_worker import run_worker
from empathy_edge.bench.timing_intervals import ratio_interval
from empathy_edge.bench.worker_records import GridRun, GridSettings
from empathy_edge.runtimes import default_threads

PROMPT, DECODE = 128, 64


@dataclass(frozen=True)
class Rates:
    """Tokens per second of one program, by round."""

    prefill_tps: list[float] = field(default_factory=list)
    decode_tps: list[float] = field(default_factory=list)


def compare(model: str, llama_bench: str, rounds: int) -> tuple[Rates, Rates]:
    """Ours and llama-bench's: prefill of 128 tokens, and decode of 64 tokens after 128."""
    ours, theirs = Rates(), Rates()
    for number in range(rounds):
        if number % 2:
            _run_ours(model, ours)
            _run_llama_bench(model, llama_bench, theirs)
        else:
            _run_llama_bench(model, llama_bench, theirs)
            _run_ours(model, ours)
    return ours, theirs


def _run_ours(model: str, rates: Rates) -> None:
    settings = GridSettings(
        threads=default_threads(),
        prompt_tokens=[PROMPT],
        decode_tokens=DECODE,
        context=PROMPT + DECODE + 64,
    )
    sample = run_worker(model, settings, GridRun).samples[str(PROMPT)]
    rates.prefill_tps.append(sample.prefill_tps)
    rates.decode_tps.append(sample.decode_tps)


def _run_llama_bench(model: str, program: str, rates: Rates) -> None:
    common = [program, "-m", str(gguf_file(model)), "-t", str(default_threads()), "-r", "1", "-o", "jsonl"]
    prefill = ["-p", str(PROMPT), "-n", "0"]
    decode = ["-p", "0", "-n", str(DECODE), "-d", str(PROMPT)]
    rates.prefill_tps.append(_tokens_per_second([*common, *prefill]))
    rates.decode_tps.append(_tokens_per_second([*common, *decode]))


def _tokens_per_second(command: list[str]) -> float:
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["avg_ts"])


def _print(phase: str, ours: list[float], theirs: list[float]) -> None:
    ratio = ratio_interval(ours, theirs)
    our_median, their_median = (sorted(values)[len(values) // 2] for values in (ours, theirs))
    print(
        f"{phase}, measured-host, {len(ours)} rounds: ours {our_median:.1f}, llama-bench "
        f"{their_median:.1f} tokens/s; ratio {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
    )


if __name__ == "__main__":
    found = compare(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 15)
    _print("prefill", found[0].prefill_tps, found[1].prefill_tps)
    _print("decode", found[0].decode_tps, found[1].decode_tps)
