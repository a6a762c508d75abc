"""Many replies at once on llama.cpp: one pass through the weights serves a token of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from empathy_edge.runtimes.base import Sampling
from empathy_edge.runtimes.drawn import Drawn, choose
from empathy_edge.runtimes.llama_cpp_batch import BatchContext, BatchToken, LoadedModel

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
        loaded: the model.
        longest: the largest number of tokens of a prompt with its reply.
        samples: replies to each prompt.

    Attributes:
        context: llama.cpp's.
    """

    def __init__(self, loaded: LoadedModel, *, longest: int, samples: int) -> None:
        self._samples = samples
        self._sequences = max(min(SEQUENCES, MOST_TOKENS // (longest + 1)) // samples, 1) * samples
        self._batch = BatchContext(
            loaded,
            cells=-(-(longest + 1) // CELLS) * CELLS * self._sequences,
            sequences=self._sequences,
            batch=BATCH,
            shared=False,
        )
        self.context = self._batch.context

    def close(self) -> None:
        """Free the memory."""
        self._batch.close()

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
                self._batch.decode(
                    [
                        BatchToken(one.token_ids[-1], one.position, (row,), True)
                        for row, one in enumerate(growing)
                    ]
                )
                logits = [self._batch.logits(row).copy() for row in range(len(growing))]
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
        lib, memory = self._batch.lib, self._batch.memory
        lib.llama_memory_seq_rm(memory, sequence, -1, -1)
        if sequence != last:
            lib.llama_memory_seq_cp(memory, last, sequence, -1, -1)
            lib.llama_memory_seq_rm(memory, last, -1, -1)
        growing[sequence] = growing[last]
        growing.pop()

    def _read_prompt(self, ids: Sequence[int], first: int) -> np.ndarray:
        """Read a prompt once, for the sequences from `first` on; the logits after its last token."""
        for start in range(0, len(ids), BATCH):
            part = ids[start : start + BATCH]
            self._batch.decode(
                [
                    BatchToken(token, place, (first,), place == len(ids) - 1)
                    for place, token in enumerate(part, start)
                ]
            )
        logits = self._batch.logits(-1).copy()
        for other in range(first + 1, first + self._samples):
            self._batch.lib.llama_memory_seq_cp(self._batch.memory, first, other, -1, -1)
        return logits
