"""Many replies at once on llama.cpp: one pass through the weights serves a token of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.runtimes.base import Sampling
from empathy_edge.runtimes.drawn import Drawn, choose
from empathy_edge.system.quiet import quiet_stderr

SEQUENCES = 32
"""How many replies are drawn at once; each has its own part of the cache."""

MOST_TOKENS = 16_384
"""Of all sequences together: more would take much memory with large models."""

BATCH = 512

CELLS = 256
"""llama.cpp gives a sequence a multiple of so many tokens, rounding down."""


class _Growing:
    """A reply that is being drawn."""

    def __init__(self, place: int, prompt_tokens: int, stop_ids: frozenset[int], sampling: Sampling) -> None:
        self.place = place
        self.position = prompt_tokens - 1
        self.token_ids: list[int] = []
        self._log_probs: list[float] = []
        self._stop_ids = stop_ids
        self._sampling = sampling
        self._random = np.random.default_rng([sampling.seed, place])

    def add(self, logits: np.ndarray) -> Drawn | None:
        """Draw the next token; the reply, if that ends it."""
        token, log_prob = choose(logits, self._sampling.temperature, self._random.random())
        self.token_ids.append(token)
        self._log_probs.append(log_prob)
        self.position += 1
        stopped = token in self._stop_ids
        if stopped or len(self.token_ids) == self._sampling.max_new_tokens:
            return Drawn(self.token_ids, self._log_probs, stopped)
        return None


class BatchDrawer:
    """Draws replies with a context of its own beside the one of a runtime; `close` frees it.

    The replies that are being drawn have the sequences 0, 1, 2 … without a gap, in which llama.cpp reads them
    in one go; where one ends, the last one takes its sequence.

    Args:
        lib: the module llama_cpp.
        model: llama.cpp's model.
        vocabulary: the number of tokens.
        threads: CPU threads.
        longest: the largest number of tokens of a prompt with its reply.
        samples: replies to each prompt.

    Attributes:
        context: llama.cpp's.
    """

    def __init__(
        self, lib: Any, model: Any, *, vocabulary: int, threads: int, longest: int, samples: int
    ) -> None:
        self._lib = lib
        self._vocabulary = vocabulary
        self._samples = samples
        self._sequences = max(min(SEQUENCES, MOST_TOKENS // (longest + 1)) // samples, 1) * samples
        parameters = lib.llama_context_default_params()
        parameters.n_ctx = -(-(longest + 1) // CELLS) * CELLS * self._sequences
        parameters.n_seq_max = self._sequences
        parameters.n_batch = parameters.n_ubatch = BATCH
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.kv_unified = False
        # Flash attention rounds queries to F16; these probabilities are compared with others'.
        parameters.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
        with quiet_stderr():
            self.context = lib.llama_init_from_model(model, parameters)
        if not self.context:
            raise EmpathyEdgeError(
                f"llama.cpp could not make a context of {parameters.n_ctx} tokens. "
                "Use fewer --max-new-tokens."
            )
        self._memory = lib.llama_get_memory(self.context)
        self._batch = lib.llama_batch_init(max(BATCH, self._sequences), 0, 1)

    def close(self) -> None:
        """Free the memory."""
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self.context)

    def draw(
        self,
        prompts: Sequence[Sequence[int]],
        stop_ids: frozenset[int],
        sampling: Sampling,
        drawn: Callable[[], None],
    ) -> list[Drawn]:
        """Replies in the order of the prompts, those to one prompt beside each other; see `Runtime.draw`."""
        replies: list[Drawn | None] = [None] * (len(prompts) * self._samples)
        growing: list[_Growing] = []
        read = 0
        while growing or read < len(prompts):
            logits = []
            if growing:
                self._decode(
                    [(one.token_ids[-1], one.position, row, True) for row, one in enumerate(growing)]
                )
                logits = [self._logits(row).copy() for row in range(len(growing))]
            while read < len(prompts) and len(growing) + self._samples <= self._sequences:
                row = self._read_prompt(prompts[read], len(growing))
                for place in range(read * self._samples, (read + 1) * self._samples):
                    growing.append(_Growing(place, len(prompts[read]), stop_ids, sampling))
                    logits.append(row)
                read += 1
            for sequence in reversed(range(len(growing))):
                reply = growing[sequence].add(logits[sequence])
                if reply:
                    replies[growing[sequence].place] = reply
                    drawn()
                    self._end(sequence, growing)
        return [reply for reply in replies if reply is not None]

    def _end(self, sequence: int, growing: list[_Growing]) -> None:
        """Forget a sequence; the last one takes its place."""
        last = len(growing) - 1
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        if sequence != last:
            self._lib.llama_memory_seq_cp(self._memory, last, sequence, -1, -1)
            self._lib.llama_memory_seq_rm(self._memory, last, -1, -1)
        growing[sequence] = growing[last]
        growing.pop()

    def _read_prompt(self, ids: Sequence[int], first: int) -> np.ndarray:
        """Read a prompt once, for the sequences from `first` on; the logits after its last token."""
        for start in range(0, len(ids), BATCH):
            part = ids[start : start + BATCH]
            self._decode(
                [(token, place, first, place == len(ids) - 1) for place, token in enumerate(part, start)]
            )
        logits = self._logits(-1).copy()
        for other in range(first + 1, first + self._samples):
            self._lib.llama_memory_seq_cp(self._memory, first, other, -1, -1)
        return logits

    def _decode(self, tokens: Sequence[tuple[int, int, int, bool]]) -> None:
        """Read tokens: each with its position, its sequence, and whether its logits are wanted."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for place, (token, position, sequence, wanted) in enumerate(tokens):
            batch.token[place] = token
            batch.pos[place] = position
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = sequence
            batch.logits[place] = wanted
        code = self._lib.llama_decode(self.context, batch)
        if code:
            raise EmpathyEdgeError(f"llama.cpp could not decode {len(tokens)} tokens (code {code}).")

    def _logits(self, place: int) -> np.ndarray:
        """Those of a token of the last batch: llama.cpp's memory, not a copy."""
        pointer = self._lib.llama_get_logits_ith(self.context, place)
        return np.ctypeslib.as_array(pointer, shape=(self._vocabulary,))
