"""Measures one artifact in a process of its own, so that its memory is its own; prints one JSON object.

Run as `python -m empathy_edge.bench.worker ARTIFACT JSON-SETTINGS`. Small on purpose: no torch, no console, under
150 MB of its own.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from empathy_edge.formats.chat_format import Message
from empathy_edge.models.find import find_model
from empathy_edge.prompts import load_prompts
from empathy_edge.runtimes import Reply, Runtime, open_runtime
from empathy_edge.system.memory import memory_mb, minor_major_faults, reset_peak

FILLER = (
    "I came home late and the house was quiet. My sister had left a note on the table, and I read it three times "
    "before I understood what she was trying to tell me about our father, the garden, and the long summer. "
)
_SENTENCE = re.compile(r"[.!?…。](\s|$)")


def measure(artifact: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Load, warm up, and run one suite once.

    Args:
        artifact: what `open_runtime` takes.
        settings: `suite` (`grid`, `chat` or `sustained`), `threads`, and what the suite needs.

    Returns:
        Raw samples in seconds, memory in MB (10^6 bytes) at each phase, and what was run.
    """
    # The libraries are loaded before the clock starts: load time is the model's.
    _import_runtimes()
    ref = find_model(artifact)
    cold = bool(settings.get("cold")) and drop_from_page_cache(ref.path)
    memory = {"baseline": memory_mb()}
    start = time.perf_counter()
    runtime = open_runtime(artifact, threads=settings["threads"], context=settings["context"])
    load_s = time.perf_counter() - start
    memory["loaded"] = memory_mb()
    suite = {"grid": grid, "chat": chat, "sustained": sustained}[settings["suite"]]
    result = suite(runtime, settings, memory)
    return {
        "runtime": type(runtime).__name__,
        "threads": runtime.threads,
        "load_s": load_s,
        "cold": cold,
        "memory_mb": memory,
        **result,
    }


def grid(runtime: Runtime, settings: dict[str, Any], memory: dict[str, Any]) -> dict[str, Any]:
    """For each prompt length: prefill it, then decode a fixed number of tokens at that depth; each once."""
    new = settings["decode_tokens"]
    runtime.reply(_prompt(runtime, 16), max_new_tokens=8, ignore_stop=True)  # warm-up
    samples = {}
    for length in settings["prompt_tokens"]:
        ids = _prompt(runtime, length)
        runtime.forget()
        reset_peak()
        runtime.reply(ids, max_new_tokens=1, ignore_stop=True)
        memory["after_prefill"] = memory_mb()
        runtime.forget()
        reset_peak()
        runtime.reply(
            ids, max_new_tokens=1, ignore_stop=True
        )  # warm again, as llama-bench is: what is above cools it
        runtime.forget()
        faults, model = minor_major_faults(), runtime.forward_s()
        reply = runtime.reply(ids, max_new_tokens=new, ignore_stop=True)
        after = minor_major_faults()
        memory["after_decode"] = memory_mb()
        assert len(reply.token_times_s) == new
        samples[str(length)] = {
            "ttft_s": reply.ttft_s,
            "prefill_tps": reply.prefill_tps,
            "decode_tps": reply.decode_tps,
            "token_times_s": [round(value, 6) for value in reply.token_times_s],
            "forward_s": None if model is None else (runtime.forward_s() or 0) - model,
            "major_faults": after[1] - faults[1],
            "minor_faults": after[0] - faults[0],
        }
    text = (FILLER * (max(settings["prompt_tokens"]) // 20 + 1))[:2000]
    start = time.perf_counter()
    tokens = len(runtime.tokenize(text))
    return {"samples": samples, "tokenize_us_per_token": 1e6 * (time.perf_counter() - start) / tokens}


def chat(runtime: Runtime, settings: dict[str, Any], memory: dict[str, Any]) -> dict[str, Any]:
    """Whole conversations, turn by turn, with the prompt cache kept and with it dropped before each turn."""
    system = load_prompts("chat").text("system")
    turns = []
    for kept in settings["cache_kept"]:
        for conversation in settings["conversations"]:
            runtime.forget()
            messages: list[Message] = [{"role": "system", "content": system}]
            for number, said in enumerate(conversation, 1):
                messages.append({"role": "user", "content": said})
                if not kept:
                    runtime.forget()
                turn, text = _turn(runtime, messages, settings["max_new_tokens"])
                turns.append({"turn": number, "cache_kept": kept, **turn})
                messages.append({"role": "assistant", "content": text})
    memory["after_chat"] = memory_mb()
    return {"turns": turns}


def _turn(runtime: Runtime, messages: list[Message], most: int) -> tuple[dict[str, Any], str]:
    start = time.perf_counter()
    text, first_sentence = "", None
    for piece in runtime.stream(messages, max_new_tokens=most):
        if isinstance(piece, Reply):
            reply = piece
        else:
            text += piece
            if first_sentence is None and _SENTENCE.search(text):
                first_sentence = time.perf_counter() - start
    gaps = [b - a for a, b in zip(reply.token_times_s, reply.token_times_s[1:], strict=False)]
    return {
        "prompt_tokens": reply.prompt_tokens,
        "cached_tokens": reply.cached_tokens,
        "ttft_s": reply.ttft_s,
        "first_sentence_s": first_sentence,
        "gaps_s": [round(gap, 6) for gap in gaps],
        "decode_tps": reply.decode_tps,
        "stopped": reply.finish_reason == "stop",
    }, reply.text


def sustained(runtime: Runtime, settings: dict[str, Any], memory: dict[str, Any]) -> dict[str, Any]:
    """Decode without a pause for `seconds`; tokens/s of each window of 10 s."""
    ids = _prompt(runtime, 32)
    windows: list[dict[str, float]] = []
    begin = mark = time.perf_counter()
    count = 0
    while mark - begin < settings["seconds"]:
        runtime.forget()
        reply = runtime.reply(ids, max_new_tokens=settings["decode_tokens"], ignore_stop=True)
        count += len(reply.token_times_s)
        now = time.perf_counter()
        if now - mark >= 10 or now - begin >= settings["seconds"]:
            windows.append({"end_s": round(now - begin, 2), "tps": round(count / (now - mark), 2)})
            mark, count = now, 0
    memory["after_decode"] = memory_mb()
    return {"windows": windows}


def drop_from_page_cache(path: Path) -> bool:
    """Ask the kernel to forget a model's files, so that the next load reads them from the disk.

    Returns False where the system has no such call (macOS, Windows): what follows is a warm start.
    """
    if not hasattr(os, "posix_fadvise"):
        return False
    for file in [path] if path.is_file() else [item for item in path.iterdir() if item.is_file()]:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
    return True


def _prompt(runtime: Runtime, length: int) -> list[int]:
    """Exactly `length` tokens of the artifact's own tokenizer."""
    ids = runtime.tokenize(FILLER * (length // 20 + 1))[:length]
    if len(ids) != length:
        raise RuntimeError(f"the tokenizer made {len(ids)} tokens where {length} were wanted")
    return ids


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
