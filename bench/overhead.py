"""What our loop costs: decode speed of `Runtime.stream` beside the library's own loop, same file and tokens.

Run as `python -m empathy_edge.bench.overhead MODEL`. Both loops alternate in one process over one loaded
model, so that the machine's noise hits both.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from empathy_edge.bench.worker import FILLER
from empathy_edge.judging.statistics import Interval, bootstrap
from empathy_edge.runtimes import Reply, open_runtime

ROUNDS = 40
PROMPT_TOKENS = 128
DECODE_TOKENS = 128

Loop = Callable[[Any, list[int]], tuple[float, list[int]]]
"""From a runtime and a prompt's token ids to tokens per second and the new token ids."""


@dataclass(frozen=True)
class Overhead:
    """Both loops over one model.

    Attributes:
        library: whose own loop it was.
        ours_decode_tps: new tokens per second, median.
        raw_decode_tps: the same of the library's own loop.
        ratio: ours over the library's, mean with its 95 % bootstrap interval.
        same_tokens: both loops made the same tokens in every round.
    """

    library: str
    ours_decode_tps: float
    raw_decode_tps: float
    ratio: Interval
    same_tokens: bool


def compare(model: str, rounds: int = ROUNDS) -> Overhead:
    """Both loops in alternating rounds, after one that is not counted."""
    runtime = open_runtime(model, context=PROMPT_TOKENS + DECODE_TOKENS + 64, device="cpu")
    library, raw_loop = _library_of(type(runtime).__name__)
    ids = runtime.tokenize(FILLER * 20)[:PROMPT_TOKENS]
    ours, raw = [], []
    same = True
    for number in range(rounds + 1):
        order = [_our_loop, raw_loop] if number % 2 else [raw_loop, _our_loop]
        results = {loop: loop(runtime, ids) for loop in order}
        our_tps, our_tokens = results[_our_loop]
        raw_tps, raw_tokens = results[raw_loop]
        same = same and our_tokens == raw_tokens
        if number > 0:  # the first round warms up
            ours.append(our_tps)
            raw.append(raw_tps)
    ratios = [mine / other for mine, other in zip(ours, raw, strict=True)]
    return Overhead(
        library=library,
        ours_decode_tps=statistics.median(ours),
        raw_decode_tps=statistics.median(raw),
        ratio=bootstrap(ratios, resamples=2000, seed=0),
        same_tokens=same,
    )


def _library_of(runtime: str) -> tuple[str, Loop]:
    if runtime == "GenAIRuntime":
        return "onnxruntime-genai", _genai_loop
    return "llama-cpp-python", _llama_loop


def _our_loop(runtime: Any, ids: list[int]) -> tuple[float, list[int]]:
    runtime.forget()
    *_, reply = runtime.stream(ids, max_new_tokens=DECODE_TOKENS, ignore_stop=True)
    assert isinstance(reply, Reply) and reply.decode_tps
    return reply.decode_tps, list(reply.token_ids)


def _llama_loop(runtime: Any, ids: list[int]) -> tuple[float, list[int]]:
    llama = runtime._llama
    llama.reset()
    tokens, times = [], []
    for token in llama.generate(list(ids), temp=0.0, top_k=1, top_p=1.0, min_p=0.0, repeat_penalty=1.0):
        times.append(time.perf_counter())
        tokens.append(token)
        if len(tokens) == DECODE_TOKENS:
            break
    return (len(times) - 1) / (times[-1] - times[0]), tokens


def _genai_loop(runtime: Any, ids: list[int]) -> tuple[float, list[int]]:
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


def _print(found: Overhead) -> None:
    ratio = found.ratio
    print(f"decode, measured-host, median of {ROUNDS} rounds, {DECODE_TOKENS} tokens after {PROMPT_TOKENS}:")
    print(f"  empathy-edge        {found.ours_decode_tps:.1f} tokens/s")
    print(f"  {found.library:<20}{found.raw_decode_tps:.1f} tokens/s")
    print(f"  ratio               {ratio.mean:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] (95 % bootstrap)")
    print(f"  same tokens         {found.same_tokens}")


if __name__ == "__main__":
    _print(compare(sys.argv[1]))
