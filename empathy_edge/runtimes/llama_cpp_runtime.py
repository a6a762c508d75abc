"""GGUF files on llama.cpp, through llama-cpp-python."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.gguf_header import check_gguf
from empathy_edge.runtimes.base import Runtime


class LlamaCppRuntime(Runtime):
    """One GGUF, perhaps with a LoRA on it; keeps its prompt cache between replies, so that a conversation is read only once."""

    def __init__(
        self, file: Path, *, threads: int, context: int, all_logits: bool = False, lora: Path | None = None
    ) -> None:
        require_extra("llama_cpp", "gguf", f"Running {file.name}")
        import llama_cpp

        self._llama_cpp = llama_cpp
        self._file, self._all_logits = file, all_logits
        self.name, self.threads = file.stem, threads
        with quiet_stderr():
            try:
                self._llama = llama_cpp.Llama(
                    model_path=str(file),
                    n_ctx=context,
                    n_batch=min(512, context),
                    n_threads=threads,
                    n_threads_batch=threads,
                    logits_all=all_logits,
                    verbose=False,
                )
            except (ValueError, RuntimeError, AssertionError):
                raise EmpathyEdgeError(
                    f"{file}: llama.cpp cannot load it; the file is damaged or of a kind it does not know."
                ) from None
        if lora is not None:
            self._add_lora(lora)
        architecture = self._llama.metadata.get("general.architecture", "llama")
        trained = int(self._llama.metadata.get(f"{architecture}.context_length", self._llama.n_ctx()))
        self.context = min(self._llama.n_ctx(), trained)
        template = self._llama.metadata.get("tokenizer.chat_template")
        if not template:
            raise EmpathyEdgeError(f"{file}: the GGUF has no chat template; export it again with one.")
        self.template = template
        vocabulary = llama_cpp.llama_model_get_vocab(self._llama.model)
        self.bos = _text_of(vocabulary, llama_cpp.llama_vocab_bos(vocabulary))
        self.eos = _text_of(vocabulary, llama_cpp.llama_vocab_eos(vocabulary))
        # What the file says, not what llama.cpp guesses beyond it from the tokens' names.
        ends = (self._llama.metadata.get(f"tokenizer.ggml.{role}_token_id") for role in ("eos", "eot"))
        self.declared_stop_ids = frozenset(int(token) for token in ends if token is not None)
        self.stop_ids = self._stop_ids([self._llama.token_eos(), *self.declared_stop_ids])

    def _add_lora(self, lora: Path) -> None:
        """Lay an adapter on the model. Not by Llama(lora_path=…), which gives up mapping the file into memory."""
        check_gguf(lora)
        with quiet_stderr():
            self._adapter = self._llama_cpp.llama_adapter_lora_init(self._llama.model, str(lora).encode())
            adapters = (self._llama_cpp.llama_adapter_lora_p_ctypes * 1)(self._adapter)
            failed = not self._adapter or self._llama_cpp.llama_set_adapters_lora(
                self._llama.ctx, adapters, 1, (ctypes.c_float * 1)(1.0)
            )
        if failed:
            raise EmpathyEdgeError(f"{lora}: llama.cpp cannot lay this adapter on {self._file}.")

    def tokenize(self, text: str) -> list[int]:
        return self._llama.tokenize(text.encode("utf-8"), add_bos=False, special=True)

    def token_bytes(self, token: int) -> bytes:
        return self._llama.detokenize([token])

    def tokens(
        self, ids: Sequence[int], temperature: float, seed: int, most: int, ignore_stop: bool
    ) -> Iterator[int]:
        if temperature > 0:
            self._llama.set_seed(seed)
        # top_k 1 at temperature 0: the greedy choice without sorting the whole vocabulary.
        return self._llama.generate(
            list(ids),
            temp=temperature,
            top_k=40 if temperature > 0 else 1,
            top_p=0.95 if temperature > 0 else 1.0,
            min_p=0.05 if temperature > 0 else 0.0,
            repeat_penalty=1.0,
        )

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        if not self._all_logits:
            raise RuntimeError("open the runtime with all_logits=True")
        self._llama.reset()
        self._llama.eval(list(ids))
        return np.array(self._llama.scores[: len(ids)], dtype=np.float32)

    def next_logits(self, ids: Sequence[int]) -> np.ndarray:
        next(iter(self.tokens(ids, 0.0, 0, 1, True)))  # reads what the prompt cache does not have yet
        last = self._llama_cpp.llama_get_logits_ith(self._llama.ctx, -1)
        return np.ctypeslib.as_array(last, shape=(self._llama.n_vocab(),)).astype(np.float32)

    def forget(self) -> None:
        self._llama.reset()

    def close(self) -> None:
        self._llama.close()


def _text_of(vocabulary: object, token: int) -> str:
    """A special token's text; empty where the model has none."""
    import llama_cpp

    return llama_cpp.llama_vocab_get_text(vocabulary, token).decode("utf-8", "replace") if token >= 0 else ""


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """llama.cpp prints to file descriptor 2 while it loads, whatever `verbose` says."""
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
