"""Measures one artifact in a process of its own, so that its memory is its own; prints one JSON object.

Run as `python -m empathy_edge.bench.worker ARTIFACT JSON-SETTINGS`.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from empathy_edge.memory import memory_mb, page_faults
from empathy_edge.runtimes import open_runtime

FILLER = (
    "I came home late and the house was quiet. My sister had left a note on the table, and I read it three times "
    "before I understood what she was trying to tell me about our father, the garden, and the long summer. "
)


def measure(artifact: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Load, warm up, and time `repetitions` replies of a fixed length after a prompt of a fixed length.

    Args:
        artifact: what `open_runtime` takes.
        settings: `prompt_tokens`, `decode_tokens`, `repetitions`, `threads`.

    Returns:
        Raw samples in seconds, memory in MB (10^6 bytes) at four points, and what was run.
    """
    # The libraries are loaded before the clock starts: load time is the model's.
    _import_runtimes()
    memory = {"baseline": memory_mb()}
    start = time.perf_counter()
    runtime = open_runtime(
        artifact,
        threads=settings["threads"],
        context=settings["prompt_tokens"] + settings["decode_tokens"] + 64,
    )
    load_s = time.perf_counter() - start
    memory["loaded"] = memory_mb()
    ids = runtime.tokenize(FILLER * (settings["prompt_tokens"] // 20 + 1))[: settings["prompt_tokens"]]
    assert len(ids) == settings["prompt_tokens"]
    new = settings["decode_tokens"]
    runtime.reply(ids, max_new_tokens=8, ignore_stop=True)  # warm-up
    samples = []
    for repetition in range(settings["repetitions"]):
        runtime.forget()
        if repetition == 0:
            runtime.reply(ids, max_new_tokens=1, ignore_stop=True)
            memory["after_prefill"] = memory_mb()
            runtime.forget()
        faults = page_faults()
        reply = runtime.reply(ids, max_new_tokens=new, ignore_stop=True)
        samples.append(
            {
                "ttft_s": reply.ttft_s,
                "prefill_tps": reply.prefill_tps,
                "decode_tps": reply.decode_tps,
                "token_times_s": [round(value, 6) for value in reply.token_times_s],
                "major_faults": page_faults() - faults,
            }
        )
    memory["after_decode"] = memory_mb()
    return {
        "runtime": type(runtime).__name__,
        "threads": runtime.threads,
        "prompt_tokens": len(ids),
        "decode_tokens": new,
        "load_s": load_s,
        "samples": samples,
        "memory_mb": memory,
    }


def _import_runtimes() -> None:
    import importlib
    import importlib.util

    for module in ("llama_cpp", "onnxruntime_genai"):
        if importlib.util.find_spec(module):
            importlib.import_module(module)


if __name__ == "__main__":
    from empathy_edge.errors import EmpathyEdgeError

    try:
        print(json.dumps(measure(sys.argv[1], json.loads(sys.argv[2]))))
    except EmpathyEdgeError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
