"""Measures one artifact in a process of its own, so that its memory is its own; prints one JSON object.

Run as `python -m empathy_edge.bench.worker ARTIFACT JSON-SETTINGS`. Small on purpose: without a model, and
with llama.cpp's library, under 150 MB.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import sys
import time
from dataclasses import asdict, dataclass
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
    MemoryByPhase,
    Settings,
    SustainedRun,
    SustainedSettings,
    Window,
    WorkerRun,
)
from empathy_edge.console import quiet_libraries
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message
from empathy_edge.models.find import ModelRef, dequantized, find_model
from empathy_edge.prompts import load_prompts
from empathy_edge.runtimes import Reply, Runtime, open_runtime, require_no_crash
from empathy_edge.system.files import MANIFEST, read_json
from empathy_edge.system.memory import memory_mb, minor_major_faults, reset_peak

FILLER = (
    "I came home late and the house was quiet. My sister had left a note on the table, and I read it "
    "three times before I understood what she was trying to tell me about our father, the garden, and "
    "the long summer. "
)
TEMPLATES = ("jinja2.ext", "jinja2.sandbox")
"""What every runtime imports to render its chat template."""

LIBRARIES: dict[str, tuple[str, ...]] = {
    "gguf": ("llama_cpp", "empathy_edge.runtimes.llama_cpp_runtime"),
    "checkpoint": (
        "torch",
        "transformers.models.auto.modeling_auto",
        "transformers.tokenization_utils_tokenizers",
        "empathy_edge.runtimes.torch_runtime",
        "empathy_edge.runtimes.held_weights",
    ),
    "onnx-genai": ("onnxruntime_genai", "empathy_edge.runtimes.genai_runtime"),
    "onnx-portable": ("onnxruntime", "tokenizers", "empathy_edge.runtimes.onnx_runtime"),
    "executorch": (
        "torch",
        "executorch.extension.pybindings.portable_lib",
        "executorch.runtime",
        "tokenizers",
        "empathy_edge.runtimes.executorch_runtime",
    ),
    "litertlm": ("litert_lm", "tokenizers", "empathy_edge.runtimes.litert_lm_runtime"),
}
"""An artifact's format → what its runtime imports while it loads a model."""

ROOM_OF_SUSTAINED = 16
"""New tokens that a reply of the sustained suite must have room for, at least."""

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
    ref = find_model(artifact)
    if ref.kind == "checkpoint":
        ref = dequantized(ref)
    # The libraries are imported before the clock starts and before the baseline: both are the model's.
    import_libraries(format_of(ref))
    if ref.kind == "checkpoint":
        import_architecture(ref.path)
    require_no_crash(ref)
    cold = settings.cold and drop_from_page_cache(ref.path)
    memory = {"baseline": memory_mb()}
    start = time.perf_counter()
    runtime = open_runtime(ref.path, threads=settings.threads, context=settings.context, device="cpu")
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
    """For each prompt length: prefill it, then decode a fixed number of tokens at that depth; each once.

    Raises:
        EmpathyEdgeError: the longest prompt and its new tokens do not fit into the context window.
    """
    require_room(runtime, max(settings.prompt_tokens), settings.decode_tokens)
    warm_up(runtime)
    samples = {}
    for length in settings.prompt_tokens:
        samples[str(length)] = _grid_sample(runtime, length, settings.decode_tokens)
    text = (FILLER * (max(settings.prompt_tokens) // 20 + 1))[:2000]
    start = time.perf_counter()
    tokens = len(runtime.tokenize(text))
    tokenize_us = 1e6 * (time.perf_counter() - start) / tokens
    return GridRun(**vars(loaded), samples=samples, tokenize_us_per_token=tokenize_us)


def require_room(runtime: Runtime, prompt_tokens: int, new_tokens: int) -> None:
    """Refuse lengths that the model's context window cannot hold.

    Raises:
        EmpathyEdgeError: names the window and the lengths.
    """
    if prompt_tokens + new_tokens > runtime.context:
        raise EmpathyEdgeError(
            f"its context window holds {runtime.context} tokens; a prompt of {prompt_tokens} and "
            f"{new_tokens} new tokens do not fit. Measure shorter ones."
        )


def warm_up(runtime: Runtime) -> None:
    """A first reply, which is not counted: it touches all weights."""
    runtime.reply(prompt_of_length(runtime, 16), max_new_tokens=8, ignore_stop=True)


def _grid_sample(runtime: Runtime, length: int, new_tokens: int) -> GridSample:
    ids = prompt_of_length(runtime, length)
    memory: MemoryByPhase = {}
    runtime.forget()
    reset_peak()
    runtime.reply(ids, max_new_tokens=1, ignore_stop=True)
    memory["after_prefill"] = memory_mb()
    runtime.forget()
    reset_peak()
    # Reading the memory figures cools the CPU's caches; llama-bench measures with warm ones.
    runtime.reply(ids, max_new_tokens=1, ignore_stop=True)
    runtime.forget()
    faults_before, forward_before = minor_major_faults(), runtime.forward_s()
    reply = runtime.reply(ids, max_new_tokens=new_tokens, ignore_stop=True)
    faults_after, forward_after = minor_major_faults(), runtime.forward_s()
    memory["after_decode"] = memory_mb()
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
        memory_mb=memory,
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


@dataclass
class _OpenWindow:
    """What was decoded since the last window ended, in seconds and tokens."""

    begin_s: float
    tokens: int = 0
    decode_s: float = 0.0

    def add(self, reply: Reply) -> None:
        """Count its tokens after the first one: prefill, which is before that, is no decode.

        Raises:
            EmpathyEdgeError: there is none after the first one.
        """
        times = reply.token_times_s
        if len(times) < 2:
            raise EmpathyEdgeError("its replies end before the second token: there is no decode to measure.")
        self.tokens += len(times) - 1
        self.decode_s += times[-1] - times[0]

    def closed(self, end_s: float) -> Window:
        """With its speed."""
        return Window(end_s=round(end_s, 2), tps=round(self.tokens / self.decode_s, 2))


def sustained(runtime: Runtime, settings: SustainedSettings, loaded: WorkerRun) -> SustainedRun:
    """Reply after reply for `seconds`; the decode speed in each window.

    Raises:
        EmpathyEdgeError: the context window has no room for a reply.
    """
    ids = prompt_of_length(runtime, 32)
    require_room(runtime, len(ids), ROOM_OF_SUSTAINED)
    warm_up(runtime)
    windows = []
    begin = time.perf_counter()
    window, now_s = _OpenWindow(0.0), 0.0
    while now_s < settings.seconds:
        runtime.forget()
        window.add(runtime.reply(ids, max_new_tokens=settings.decode_tokens, ignore_stop=True))
        now_s = time.perf_counter() - begin
        if now_s - window.begin_s >= settings.window_s or now_s >= settings.seconds:
            windows.append(window.closed(now_s))
            window = _OpenWindow(now_s)
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


def format_of(ref: ModelRef) -> str:
    """The format whose runtime opens a model: `gguf`, `checkpoint`, or that of an artifact's manifest."""
    return str(read_json(ref.path / MANIFEST)["artifact"]["format"]) if ref.kind == "artifact" else ref.kind


def import_libraries(format_name: str) -> None:
    """Import what one format's runtime needs, and nothing else: no other library is in its memory.

    A library that is not installed is said where the model is opened.
    """
    quiet_libraries()
    for module in (*TEMPLATES, *LIBRARIES.get(format_name, ())):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


def import_architecture(folder: Path) -> None:
    """Import the module of a checkpoint's architecture, which transformers does while it loads the model.

    What is wrong with the checkpoint is said where the model is opened.
    """
    with contextlib.suppress(Exception):  # transformers and its parts raise their own
        from transformers import AutoConfig
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]


def prompt_of_length(runtime: Runtime, length: int) -> list[int]:
    """Exactly `length` tokens of the artifact's own tokenizer."""
    ids = runtime.tokenize(FILLER * (length // 20 + 1))[:length]
    if len(ids) != length:
        raise RuntimeError(f"the tokenizer made {len(ids)} tokens where {length} were wanted")
    return ids


if __name__ == "__main__":
    try:
        print(json.dumps(asdict(measure(sys.argv[1], parse_settings(sys.argv[2])))))
    except EmpathyEdgeError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
