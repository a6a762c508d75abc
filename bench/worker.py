"""Measures one artifact in a process of its own, so that its memory is its own; prints one JSON object.

Run as `python -m empathy_edge.bench.worker ARTIFACT JSON-SETTINGS`. Small on purpose: no torch, no console,
under 150 MB of its own.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from empathy_edge.bench.worker_records import (
    ChatRun,
    ChatSettings,
    ChatTurn,
    GridRun,
    GridSample,
    GridSettings,
    Settings,
    SustainedRun,
    SustainedSettings,
    Window,
    WorkerRun,
)
from empathy_edge.formats.chat_format import Message
from empathy_edge.models.find import find_model
from empathy_edge.prompts import load_prompts
from empathy_edge.runtimes import Reply, Runtime, open_runtime, require_no_crash
from empathy_edge.system.memory import memory_mb, minor_major_faults, reset_peak

FILLER = (
    "I came home late and the house was quiet. My sister had left a note on the table, and I read it "
    "three times before I understood what she was trying to tell me about our father, the garden, and "
    "the long summer. "
)
WINDOW_S = 10
_SENTENCE_END = re.compile(r"[.!?…。](\s|$)")


def parse_settings(text: str) -> Settings:
    """The settings of the suite that the JSON names."""
    values: dict[str, Any] = json.loads(text)
    if values["suite"] == "grid":
        return GridSettings(**values)
    if values["suite"] == "chat":
        return ChatSettings(**values)
    return SustainedSettings(**values)


def measure(artifact: str, settings: Settings) -> WorkerRun:
    """Load, warm up, and run one suite once.

    Args:
        artifact: what `open_runtime` takes.
        settings: of one suite.

    Returns:
        Raw samples in seconds, memory in MB (10^6 bytes) at each phase, and what was run.
    """
    # The libraries are loaded before the clock starts: load time is the model's.
    import_runtimes()
    ref = find_model(artifact)
    require_no_crash(ref)
    cold = settings.cold and drop_from_page_cache(ref.path)
    memory = {"baseline": memory_mb()}
    start = time.perf_counter()
    runtime = open_runtime(artifact, threads=settings.threads, context=settings.context, device="cpu")
    load_s = time.perf_counter() - start
    memory["loaded"] = memory_mb()
    # Each suite adds the phases of its own to `memory_mb`.
    loaded = WorkerRun(
        runtime=type(runtime).__name__, threads=runtime.threads, load_s=load_s, cold=cold, memory_mb=memory
    )
    if isinstance(settings, GridSettings):
        return grid(runtime, settings, loaded)
    if isinstance(settings, ChatSettings):
        return chat(runtime, settings, loaded)
    return sustained(runtime, settings, loaded)


def grid(runtime: Runtime, settings: GridSettings, loaded: WorkerRun) -> GridRun:
    """For each prompt length: prefill it, then decode a fixed number of tokens at that depth; each once."""
    runtime.reply(prompt_of_length(runtime, 16), max_new_tokens=8, ignore_stop=True)  # warm-up
    samples = {}
    for length in settings.prompt_tokens:
        samples[str(length)] = _grid_sample(runtime, length, settings.decode_tokens, loaded)
    text = (FILLER * (max(settings.prompt_tokens) // 20 + 1))[:2000]
    start = time.perf_counter()
    tokens = len(runtime.tokenize(text))
    tokenize_us = 1e6 * (time.perf_counter() - start) / tokens
    return GridRun(**vars(loaded), samples=samples, tokenize_us_per_token=tokenize_us)


def _grid_sample(runtime: Runtime, length: int, new_tokens: int, loaded: WorkerRun) -> GridSample:
    ids = prompt_of_length(runtime, length)
    runtime.forget()
    reset_peak()
    runtime.reply(ids, max_new_tokens=1, ignore_stop=True)
    loaded.memory_mb["after_prefill"] = memory_mb()
    runtime.forget()
    reset_peak()
    # Reading the memory figures cools the CPU's caches; llama-bench measures with warm ones.
    runtime.reply(ids, max_new_tokens=1, ignore_stop=True)
    runtime.forget()
    faults_before, forward_before = minor_major_faults(), runtime.forward_s()
    reply = runtime.reply(ids, max_new_tokens=new_tokens, ignore_stop=True)
    faults_after, forward_after = minor_major_faults(), runtime.forward_s()
    loaded.memory_mb["after_decode"] = memory_mb()
    assert len(reply.token_times_s) == new_tokens and reply.decode_tps is not None
    own_prefill_tps, own_decode_tps = runtime.own_speeds()
    return GridSample(
        ttft_s=reply.ttft_s,
        prefill_tps=reply.prefill_tps,
        decode_tps=reply.decode_tps,
        token_times_s=[round(value, 6) for value in reply.token_times_s],
        forward_s=None if forward_before is None else (forward_after or 0) - forward_before,
        major_faults=faults_after[1] - faults_before[1],
        minor_faults=faults_after[0] - faults_before[0],
        own_prefill_tps=own_prefill_tps,
        own_decode_tps=own_decode_tps,
    )


def chat(runtime: Runtime, settings: ChatSettings, loaded: WorkerRun) -> ChatRun:
    """Whole conversations, turn by turn, with the prompt cache kept and with it dropped before each turn."""
    turns = []
    for cache_kept in settings.cache_kept:
        for conversation in settings.conversations:
            turns += _conversation(runtime, conversation, cache_kept, settings.max_new_tokens)
    loaded.memory_mb["after_chat"] = memory_mb()
    return ChatRun(**vars(loaded), turns=turns)


def _conversation(
    runtime: Runtime, conversation: list[str], cache_kept: bool, max_new_tokens: int
) -> list[ChatTurn]:
    runtime.forget()
    messages: list[Message] = [{"role": "system", "content": load_prompts("chat").text("system")}]
    turns = []
    for number, text in enumerate(conversation, 1):
        messages.append({"role": "user", "content": text})
        if not cache_kept:
            runtime.forget()
        reply, first_sentence_s = _timed_reply(runtime, messages, max_new_tokens)
        messages.append({"role": "assistant", "content": reply.text})
        gaps_s = [round(later - earlier, 6) for earlier, later in pairwise(reply.token_times_s)]
        turns.append(
            ChatTurn(
                turn=number,
                cache_kept=cache_kept,
                prompt_tokens=reply.prompt_tokens,
                cached_tokens=reply.cached_tokens,
                ttft_s=reply.ttft_s,
                first_sentence_s=first_sentence_s,
                gaps_s=gaps_s,
                decode_tps=reply.decode_tps,
                stopped=reply.finish_reason == "stop",
            )
        )
    return turns


def _timed_reply(
    runtime: Runtime, messages: list[Message], max_new_tokens: int
) -> tuple[Reply, float | None]:
    """The reply, and the seconds to the end of its first sentence."""
    start = time.perf_counter()
    text, first_sentence_s = "", None
    for piece in runtime.stream(messages, max_new_tokens=max_new_tokens):
        if isinstance(piece, Reply):
            return piece, first_sentence_s
        text += piece
        if first_sentence_s is None and _SENTENCE_END.search(text):
            first_sentence_s = time.perf_counter() - start
    raise AssertionError("a stream ends with its Reply")


def sustained(runtime: Runtime, settings: SustainedSettings, loaded: WorkerRun) -> SustainedRun:
    """Decode without a pause for `seconds`; tokens/s of each window of 10 s."""
    ids = prompt_of_length(runtime, 32)
    windows = []
    begin = window_begin = time.perf_counter()
    tokens = 0
    while window_begin - begin < settings.seconds:
        runtime.forget()
        reply = runtime.reply(ids, max_new_tokens=settings.decode_tokens, ignore_stop=True)
        tokens += len(reply.token_times_s)
        now = time.perf_counter()
        if now - window_begin >= WINDOW_S or now - begin >= settings.seconds:
            windows.append(Window(end_s=round(now - begin, 2), tps=round(tokens / (now - window_begin), 2)))
            window_begin, tokens = now, 0
    loaded.memory_mb["after_decode"] = memory_mb()
    return SustainedRun(**vars(loaded), windows=windows)


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


def import_runtimes() -> None:
    """Import the libraries that run models, those that are installed."""
    import importlib
    import importlib.util

    for module in ("llama_cpp", "onnxruntime_genai", "litert_lm"):
        if importlib.util.find_spec(module):
            importlib.import_module(module)


def prompt_of_length(runtime: Runtime, length: int) -> list[int]:
    """Exactly `length` tokens of the artifact's own tokenizer."""
    ids = runtime.tokenize(FILLER * (length // 20 + 1))[:length]
    if len(ids) != length:
        raise RuntimeError(f"the tokenizer made {len(ids)} tokens where {length} were wanted")
    return ids


if __name__ == "__main__":
    from empathy_edge.errors import EmpathyEdgeError

    try:
        print(json.dumps(asdict(measure(sys.argv[1], parse_settings(sys.argv[2])))))
    except EmpathyEdgeError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
