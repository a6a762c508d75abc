"""A llama.cpp context for several sequences at once, beside the one of a runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.system.quiet import quiet_stderr


class BatchToken(NamedTuple):
    """A token to read: where it stands, in which sequences, and whether its logits are wanted."""

    token: int
    position: int
    sequences: Sequence[int]
    wanted: bool


class LoadedModel(NamedTuple):
    """A model of llama.cpp, the module llama_cpp, the number of tokens, and of CPU threads."""

    lib: Any
    model: Any
    vocabulary: int
    threads: int


class BatchContext:
    """A context with its batch; `close` frees both.

    Args:
        loaded: the model.
        cells: the number of tokens that it holds, of all sequences together.
        sequences: how many there are.
        batch: the largest number of tokens that are read in one go.
        shared: whether sequences may have tokens in common and be of very different lengths; else each has
            its own part of the cells, which is faster where all get one token at a time.

    Attributes:
        context: llama.cpp's.
        memory: its cells.
    """

    def __init__(self, loaded: LoadedModel, *, cells: int, sequences: int, batch: int, shared: bool) -> None:
        self.lib = lib = loaded.lib
        self._vocabulary = loaded.vocabulary
        parameters = lib.llama_context_default_params()
        parameters.n_ctx = cells
        parameters.n_seq_max = sequences
        parameters.n_batch = parameters.n_ubatch = batch
        parameters.n_threads = parameters.n_threads_batch = loaded.threads
        parameters.kv_unified = shared
        # As the runtime's own context: flash attention rounds queries to F16.
        parameters.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
        with quiet_stderr():
            self.context = lib.llama_init_from_model(loaded.model, parameters)
        if not self.context:
            raise PrerequisiteError(
                f"llama.cpp could not make a context of {cells} tokens: the machine has too little memory.",
                "Free some, or use a smaller --max-new-tokens.",
            )
        self.memory = lib.llama_get_memory(self.context)
        self._batch = lib.llama_batch_init(max(batch, sequences), 0, sequences if shared else 1)

    def close(self) -> None:
        """Free the memory."""
        self.lib.llama_batch_free(self._batch)
        self.lib.llama_free(self.context)

    def decode(self, tokens: Sequence[BatchToken]) -> None:
        """Read tokens."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for place, item in enumerate(tokens):
            batch.token[place] = item.token
            batch.pos[place] = item.position
            batch.n_seq_id[place] = len(item.sequences)
            for number, sequence in enumerate(item.sequences):
                batch.seq_id[place][number] = sequence
            batch.logits[place] = item.wanted
        code = self.lib.llama_decode(self.context, batch)
        if code:
            raise EmpathyEdgeError(f"llama.cpp could not decode {len(tokens)} tokens (code {code}).")

    def logits(self, place: int) -> np.ndarray:
        """Those of a token of the last batch: llama.cpp's memory, not a copy."""
        pointer = self.lib.llama_get_logits_ith(self.context, place)
        return np.ctypeslib.as_array(pointer, shape=(self._vocabulary,))
