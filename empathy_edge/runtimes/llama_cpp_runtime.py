"""GGUF files on llama.cpp, through llama-cpp-python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.chat_format import no_template
from empathy_edge.formats.gguf_header import check_gguf
from empathy_edge.formats.vocabulary import vocabulary_of_gguf
from empathy_edge.runtimes.base import Runtime, Sampling, common_prefix, log_softmax_at
from empathy_edge.runtimes.drawn import Drawn
from empathy_edge.runtimes.llama_cpp_batch import BatchContext, LoadedModel
from empathy_edge.system.quiet import quiet_stderr


class LlamaCppRuntime(Runtime):
    """A GGUF file, with or without a LoRA adapter; with its own chat template, or the one that is given.

    The prompt cache is kept between replies, so that a conversation is read only once.
    """

    def __init__(
        self,
        file: Path,
        *,
        threads: int,
        context: int,
        exact_logits: bool = False,
        lora: Path | None = None,
        template: str | None = None,
    ) -> None:
        require_extra("llama_cpp", "gguf", f"Running {file.name}")
        import llama_cpp

        self._llama_cpp = llama_cpp
        self._file = file
        self._exact_logits = exact_logits
        self._batch = min(512, context)
        self._read: list[int] = []
        self._pieces: dict[int, bytes] = {}
        self._adapter: Any = None
        self._scorer: BatchContext | None = None
        self.name = file.stem
        self.threads = threads
        self._llama = self._load(context)
        self._row = ctypes.c_float * self._llama.n_vocab()
        if lora is not None:
            self._add_lora(lora)
        metadata = self._llama.metadata
        architecture = metadata.get("general.architecture", "llama")
        trained_context = int(metadata.get(f"{architecture}.context_length", self._llama.n_ctx()))
        self.context = min(self._llama.n_ctx(), trained_context)
        template = template or metadata.get("tokenizer.chat_template")
        if not template:
            raise no_template(file, vocabulary_of_gguf(file))
        self.template = template
        vocabulary = llama_cpp.llama_model_get_vocab(self._llama.model)
        self.bos = _text_of(vocabulary, llama_cpp.llama_vocab_bos(vocabulary))
        self.eos = _text_of(vocabulary, llama_cpp.llama_vocab_eos(vocabulary))
        # From the file: llama.cpp itself guesses further ones from the tokens' names.
        declared = (metadata.get(f"tokenizer.ggml.{role}_token_id") for role in ("eos", "eot"))
        self.declared_stop_ids = frozenset(int(token) for token in declared if token is not None)
        self.stop_ids = self._stop_ids([self._llama.token_eos(), *self.declared_stop_ids])

    def _loaded(self) -> LoadedModel:
        return LoadedModel(self._llama_cpp, self._llama.model, self._llama.n_vocab(), self.threads)

    def _load(self, context: int) -> Any:
        with quiet_stderr():
            try:
                return self._llama_cpp.Llama(
                    model_path=str(self._file),
                    n_ctx=context,
                    n_batch=self._batch,
                    n_threads=self.threads,
                    n_threads_batch=self.threads,
                    # Flash attention is 10 to 20 % faster on a CPU (docs/results/bench.md), but it rounds
                    # queries to F16: logits that are compared with another runtime's are made without it.
                    flash_attn=not self._exact_logits,
                    verbose=False,
                )
            except (ValueError, RuntimeError, AssertionError):
                raise EmpathyEdgeError(
                    f"{self._file}: llama.cpp cannot load it; "
                    "the file is damaged or of a kind it does not know."
                ) from None

    def _add_lora(self, lora: Path) -> None:
        """Apply an adapter to the model; Llama(lora_path=…) would not map the model's file into memory."""
        check_gguf(lora)
        with quiet_stderr():
            self._adapter = self._llama_cpp.llama_adapter_lora_init(self._llama.model, str(lora).encode())
        if not self._adapter:
            raise EmpathyEdgeError(f"{lora}: llama.cpp cannot read it as an adapter of {self._file}.")
        self._apply_adapter(self._llama.ctx)

    def _apply_adapter(self, context: Any) -> None:
        """Let a context of the model use the adapter, if there is one."""
        if not self._adapter:
            return
        adapters = (self._llama_cpp.llama_adapter_lora_p_ctypes * 1)(self._adapter)
        scales = (ctypes.c_float * 1)(1.0)
        if self._llama_cpp.llama_set_adapters_lora(context, adapters, 1, scales):
            raise EmpathyEdgeError(f"{self.name}: llama.cpp cannot apply its adapter.")

    def tokenize(self, text: str) -> list[int]:
        ids: list[int] = self._llama.tokenize(text.encode("utf-8"), add_bos=False, special=True)
        return ids

    def token_bytes(self, token: int) -> bytes:
        if token not in self._pieces:
            self._pieces[token] = self._piece(token)
        return self._pieces[token]

    def _piece(self, token: int) -> bytes:
        """A token's bytes from llama.cpp itself: llama-cpp-python gives none where they are more than 32."""
        vocabulary = self._llama_cpp.llama_model_get_vocab(self._llama.model)
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._llama_cpp.llama_token_to_piece(vocabulary, token, buffer, size, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            size = -length  # what it needs

    def tokens(self, ids: Sequence[int], sampling: Sampling) -> Iterator[int]:
        """New tokens after `ids`, one at a time.

        Calls llama.cpp directly: llama-cpp-python's own loop takes about 2 % longer (docs/results/bench.md).
        """
        self._read_prompt(ids)
        if sampling.temperature <= 0:
            while True:
                token = int(self._last_logits().argmax())
                yield token
                self._decode([token])
        yield from self._sample(self._sampler(sampling))

    def tokens_of_schema(self, ids: Sequence[int], schema: str, sampling: Sampling) -> Iterator[int]:
        from llama_cpp.llama_grammar import json_schema_to_gbnf

        lib = self._llama_cpp
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        vocabulary = lib.llama_model_get_vocab(self._llama.model)
        grammar = json_schema_to_gbnf(schema).encode()
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_grammar(vocabulary, grammar, b"root"))
        last = self._sampler(sampling) if sampling.temperature > 0 else lib.llama_sampler_init_greedy()
        lib.llama_sampler_chain_add(chain, last)
        self._read_prompt(ids)
        yield from self._sample(chain)

    def _sample(self, sampler: ctypes.c_void_p) -> Iterator[int]:
        """New tokens from a sampler, which is freed at the end."""
        try:
            while True:
                token = self._llama_cpp.llama_sampler_sample(sampler, self._llama.ctx, -1)
                yield token
                self._decode([token])
        finally:
            self._llama_cpp.llama_sampler_free(sampler)

    def _read_prompt(self, ids: Sequence[int]) -> None:
        """Read those tokens of a prompt that are not in the cache, and always the last one."""
        memory = self._llama_cpp.llama_get_memory(self._llama.ctx)
        common = common_prefix(self._read, ids)
        del self._read[common:]  # before llama.cpp forgets them: Ctrl-C may come in between
        if not self._llama_cpp.llama_memory_seq_rm(memory, 0, common, -1):
            # A recurrent state cannot be rewound; such models read the whole prompt again.
            self._read.clear()
            self._llama_cpp.llama_memory_clear(memory, True)
            common = 0
        self.cached_tokens = common
        for start in range(common, len(ids), self._batch):
            self._decode(ids[start : start + self._batch])

    def _last_logits(self) -> np.ndarray:
        """The logits after the last token, float32 [vocabulary]: llama.cpp's memory, not a copy."""
        return self._logits_at(-1)

    def _logits_at(self, place: int) -> np.ndarray:
        pointer = self._llama_cpp.llama_get_logits_ith(self._llama.ctx, place)
        row = self._row.from_address(ctypes.addressof(pointer.contents))
        return np.frombuffer(memoryview(row), np.float32)

    def _decode(self, ids: Sequence[int]) -> None:
        """Read tokens after those that were read before."""
        array = (self._llama_cpp.llama_token * len(ids))(*ids)  # kept alive: the batch only points to it
        batch = self._llama_cpp.llama_batch_get_one(array, len(ids))
        self._check(self._llama_cpp.llama_decode(self._llama.ctx, batch))
        self._read += ids

    def _check(self, code: int) -> None:
        if code:
            raise EmpathyEdgeError(f"{self.name}: llama.cpp could not decode (code {code}).")

    def _sampler(self, sampling: Sampling) -> ctypes.c_void_p:
        """Samples with llama.cpp's default values of top-k, top-p and min-p, or without these."""
        lib = self._llama_cpp
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        samplers = [
            lib.llama_sampler_init_temp(sampling.temperature),
            lib.llama_sampler_init_dist(sampling.seed),
        ]
        if not sampling.all_tokens:
            likely = [
                lib.llama_sampler_init_top_k(40),
                lib.llama_sampler_init_top_p(0.95, 1),
                lib.llama_sampler_init_min_p(0.05, 1),
            ]
            samplers = likely + samplers
        for sampler in samplers:
            lib.llama_sampler_chain_add(chain, sampler)
        return cast("ctypes.c_void_p", chain)

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        self.forget()
        return np.concatenate([rows.copy() for rows in self._logits_from([*ids, 0], 1)])

    def reply_logits(self, prompt: Sequence[int], reply: Sequence[int]) -> np.ndarray:
        return np.concatenate([rows.copy() for rows in self._logits_from([*prompt, *reply], len(prompt))])

    def next_logits(self, ids: Sequence[int]) -> np.ndarray:
        self._read_prompt(ids)
        return self._last_logits().copy()

    def log_probs(self, ids: Sequence[int], start: int, temperature: float = 1.0) -> np.ndarray:
        parts = []
        for rows in self._logits_from(ids, start):
            parts.append(log_softmax_at(rows, ids[start : start + len(rows)], temperature))
            start += len(rows)
        return np.concatenate(parts)

    def _logits_from(self, ids: Sequence[int], start: int) -> Iterator[np.ndarray]:
        """The logits from which each of `ids[start:]` is chosen, some rows at a time.

        The first row is llama.cpp's own memory: it is valid until the next one is asked for.
        """
        self._read_prompt(ids[:start])
        yield self._last_logits()[None]
        for first in range(start, len(ids) - 1, self._batch):
            end = min(first + self._batch, len(ids) - 1)
            self._decode_with_all_logits(ids[first:end])
            yield np.stack([self._logits_at(place) for place in range(end - first)])

    def reply_log_probs(
        self, prompt: Sequence[int], replies: Sequence[Sequence[int]], temperature: float = 1.0
    ) -> list[np.ndarray]:
        from empathy_edge.runtimes import llama_cpp_score as score

        if not self._reads_replies_at_once():
            return super().reply_log_probs(prompt, replies, temperature)
        return score.score_replies(self._opened_scorer(), prompt, replies, temperature)

    def logits_after(self, prompt: Sequence[int], replies: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """The logits after the last token of each reply to one prompt, float32 [vocabulary] each."""
        from empathy_edge.runtimes import llama_cpp_score as score

        if not self._reads_replies_at_once():
            return [self.next_logits([*prompt, *reply]) for reply in replies]
        return score.logits_after(self._opened_scorer(), prompt, replies)

    def _reads_replies_at_once(self) -> bool:
        model = self._llama.model
        recurrent = self._llama_cpp.llama_model_is_recurrent(model)
        return not (recurrent or self._llama_cpp.llama_model_is_hybrid(model))

    def _opened_scorer(self) -> BatchContext:
        from empathy_edge.runtimes import llama_cpp_score as score

        if self._scorer is None:
            self._scorer = BatchContext(
                self._loaded(),
                cells=score.CELLS,
                sequences=score.SEQUENCES,
                batch=score.BATCH,
                shared=True,
            )
            self._apply_adapter(self._scorer.context)
        return self._scorer

    def _decode_with_all_logits(self, ids: Sequence[int]) -> None:
        """As `_decode`, but the logits after every token are kept until the next call."""
        lib = self._llama_cpp
        batch = lib.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for place, token in enumerate(ids):
                batch.token[place] = token
                batch.pos[place] = len(self._read) + place
                batch.n_seq_id[place] = 1
                batch.seq_id[place][0] = 0
                batch.logits[place] = 1
            self._check(lib.llama_decode(self._llama.ctx, batch))
        finally:
            lib.llama_batch_free(batch)
        self._read += ids

    def draw(
        self,
        prompts: Sequence[Sequence[int]],
        samples: int,
        sampling: Sampling,
        drawn: Callable[[], None] = lambda: None,
    ) -> list[Drawn]:
        from empathy_edge.runtimes.llama_cpp_draw import BatchDrawer

        drawer = BatchDrawer(
            self._loaded(),
            longest=max(map(len, prompts)) + sampling.max_new_tokens,
            samples=samples,
        )
        try:
            self._apply_adapter(drawer.context)
            return drawer.draw(prompts, self.stop_ids, sampling, drawn)
        finally:
            drawer.close()

    def forward_s(self) -> float | None:
        times = self._llama_cpp.llama_perf_context(self._llama.ctx)
        return float(times.t_p_eval_ms + times.t_eval_ms) / 1000

    def forget(self, keep: int = 0) -> None:
        del self._read[keep:]

    def close(self) -> None:
        if self._scorer is not None:
            self._scorer.close()
            self._scorer = None
        self._llama.close()


def _text_of(vocabulary: object, token: int) -> str:
    """A special token's text; empty where the model has none (a negative id)."""
    import llama_cpp

    if token < 0:
        return ""
    return str(llama_cpp.llama_vocab_get_text(vocabulary, token).decode("utf-8", "replace"))
