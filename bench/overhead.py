"""What our own loop costs: decode speed of `Runtime.stream` beside the library's own loop, same file, same tokens.

Run as `python -m empathy_edge.bench.overhead MODEL`. Both loops alternate in one process over one loaded model, so
that the machine's noise hits both.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

from empathy_edge.bench.worker import FILLER
from empathy_edge.judging.statistics import bootstrap_mean
from empathy_edge.runtimes import Reply, open_runtime

ROUNDS = 40
PROMPT_TOKENS = 128
DECODE_TOKENS = 128


def compare(model: str, rounds: int = ROUNDS) -> dict[str, Any]:
    """Decode tokens/s of both loops in alternating rounds; the ratio is ours over raw."""
    runtime = open_runtime(model, context=PROMPT_TOKENS + DECODE_TOKENS + 64)
    raw_loop = _raw_genai if type(runtime).__name__ == "GenAIRuntime" else _raw
    ids = runtime.tokenize(FILLER * 20)[:PROMPT_TOKENS]
    ours, raw = [], []
    same = True
    for turn in range(rounds + 1):
        pair = [_ours, raw_loop] if turn % 2 else [raw_loop, _ours]
        results = {loop: loop(runtime, ids) for loop in pair}
        same = same and results[_ours][1] == results[raw_loop][1]
        if turn:  # the first round warms up
            ours.append(results[_ours][0])
            raw.append(results[raw_loop][0])
    ratio = bootstrap_mean([mine / other for mine, other in zip(ours, raw, strict=True)], 2000, 0)
    return {
        "library": {"_raw": "llama-cpp-python", "_raw_genai": "onnxruntime-genai"}[raw_loop.__name__],
        "ours_decode_tps": statistics.median(ours),
        "raw_decode_tps": statistics.median(raw),
        "ratio": ratio,
        "same_tokens": same,
    }


def _ours(runtime: Any, ids: list[int]) -> tuple[float, list[int]]:
    runtime.forget()
    *_, reply = runtime.stream(ids, max_new_tokens=DECODE_TOKENS, ignore_stop=True)
    assert isinstance(reply, Reply) and reply.decode_tps
    return reply.decode_tps, list(reply.token_ids)


def _raw(runtime: Any, ids: list[int]) -> tuple[float, list[int]]:
    llama = runtime._llama
    llama.reset()
    tokens, times = [], []
    for token in llama.generate(list(ids), temp=0.0, top_k=1, top_p=1.0, min_p=0.0, repeat_penalty=1.0):
        times.append(time.perf_counter())
        tokens.append(token)
        if len(tokens) == DECODE_TOKENS:
            break
    return (len(times) - 1) / (times[-1] - times[0]), tokens


def _raw_genai(runtime: Any, ids: list[int]) -> tuple[float, list[int]]:
    import numpy as np

    parameters = runtime._og.GeneratorParams(runtime._model)
    total = runtime.context
    parameters.set_search_options(max_length=total, min_length=total, do_sample=False)
    generator = runtime._og.Generator(runtime._model, parameters)
    generator.append_tokens(np.asarray(ids, dtype=np.int32))
    tokens: list[int] = []
    times: list[float] = []
    while len(tokens) < DECODE_TOKENS:
        generator.generate_next_token()
        times.append(time.perf_counter())
        tokens.append(int(generator.get_next_tokens()[0]))
    return (len(times) - 1) / (times[-1] - times[0]), tokens


if __name__ == "__main__":
    found = compare(sys.argv[1])
    ratio = found["ratio"]
    print(f"decode, measured-host, median of {ROUNDS} rounds, {DECODE_TOKENS} tokens after {PROMPT_TOKENS}:")
    print(f"  empathy-edge        {found['ours_decode_tps']:.1f} tokens/s")
    print(f"  {found['library']:<20}{found['raw_decode_tps']:.1f} tokens/s")
    print(
        f"  ratio               {ratio['mean']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}] (95 % bootstrap)"
    )
    print(f"  same tokens         {found['same_tokens']}")
