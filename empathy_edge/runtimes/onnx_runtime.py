"""An ONNX graph on plain ONNX Runtime, for browsers and for phones without the GenAI library."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.chat_format import read_template
from empathy_edge.runtimes.base import Runtime, Sampling, common_prefix
from empathy_edge.runtimes.pieces import ids_of, piece_bytes, special_text
from empathy_edge.system.files import read_json

TOP_K = 40
"""Sampling chooses among this many tokens."""


class FolderRuntime(Runtime):
    """A runtime that executes a graph step by step; its tokenizer and template come from the folder."""

    def __init__(self, folder: Path, context: int) -> None:
        require_extra("tokenizers", "onnx", f"Running {folder.name}")
        from tokenizers import Tokenizer

        self.name = folder.name
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.template = read_template(folder)
        config = read_json(folder / "config.json")
        names = read_json(folder / "tokenizer_config.json")
        self.context = min(context, int(config["max_position_embeddings"]))
        self.declared_stop_ids = ids_of(config.get("eos_token_id"))
        self.bos = special_text(names.get("bos_token"))
        self.eos = special_text(names.get("eos_token"))
        self.stop_ids = self._stop_ids([*self.declared_stop_ids])
        self._byte_level = self._tokenizer.token_to_id("Ġ") is not None
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = {token for token, item in added.items() if item.special}
        self._read: list[int] = []
        self._forward_s = 0.0

    def tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def token_bytes(self, token: int) -> bytes:
        if token in self._special:
            return b""
        return piece_bytes(self._tokenizer.id_to_token(token) or "", self._byte_level)

    def tokens(self, ids: Sequence[int], sampling: Sampling) -> Iterator[int]:
        generator = np.random.default_rng(sampling.seed)
        self.cached_tokens = common_prefix(self._read, ids)
        self._truncate(self.cached_tokens)
        pending = list(ids[self.cached_tokens :])
        while True:
            start = time.perf_counter()
            logits = self._last_logits(pending)
            self._forward_s += time.perf_counter() - start
            if sampling.temperature <= 0:
                token = int(logits.argmax())
            else:
                most = len(logits) if sampling.all_tokens else TOP_K
                token = _sample(logits / sampling.temperature, generator, most)
            yield token
            pending = [token]

    def forward_s(self) -> float | None:
        return self._forward_s

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        self.forget()
        return self._step(list(ids))

    def _last_logits(self, ids: list[int]) -> np.ndarray:
        """Read more tokens; returns the logits after the last one, float32 [vocabulary]."""
        last: np.ndarray = self._step(ids)[-1]
        return last

    @abstractmethod
    def _truncate(self, length: int) -> None:
        """Keep only the first `length` tokens of what was read."""

    @abstractmethod
    def _step(self, ids: list[int]) -> np.ndarray:
        """Read more tokens; returns the logits after each, float32 [len(ids), vocabulary]."""


class OnnxRuntime(FolderRuntime):
    """A folder with model.onnx, tokenizer.json and config.json; the prompt cache is kept between replies."""

    def __init__(self, folder: Path, *, threads: int, context: int) -> None:
        require_extra("onnxruntime", "onnx", f"Running {folder.name}")
        import onnxruntime

        super().__init__(folder, context)
        self.threads = threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        try:
            self._session = onnxruntime.InferenceSession(
                folder / "model.onnx", options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the bindings raise their own exceptions, without a common parent
            raise EmpathyEdgeError(f"{folder}: ONNX Runtime cannot load it: {error}") from None
        self._inputs = {item.name: item for item in self._session.get_inputs()}
        self._output_names = [item.name for item in self._session.get_outputs()]
        self.forget()

    def forget(self, keep: int = 0) -> None:
        self._read = []
        self._cache = {
            name: np.zeros(_empty_shape(item), np.float32)
            for name, item in self._inputs.items()
            if name.startswith("past_key_values.")
        }

    def _truncate(self, length: int) -> None:
        if length < len(self._read):
            cache = {name: np.ascontiguousarray(value[:, :, :length]) for name, value in self._cache.items()}
            self._read, self._cache = self._read[:length], cache

    def _step(self, ids: list[int]) -> np.ndarray:
        feed: dict[str, np.ndarray] = {"input_ids": np.array([ids], np.int64), **self._cache}
        length = len(self._read) + len(ids)
        if "position_ids" in self._inputs:
            feed["position_ids"] = np.arange(len(self._read), length, dtype=np.int64)[None]
        if "attention_mask" in self._inputs:
            feed["attention_mask"] = np.ones((1, length), np.int64)
        values = self._session.run(None, feed)
        outputs = dict(zip(self._output_names, values, strict=True))
        cache = {name: outputs[name.replace("past_key_values", "present")] for name in self._cache}
        self._read, self._cache = [*self._read, *ids], cache  # at once: Ctrl-C may come in between
        return np.asarray(outputs["logits"][0], np.float32)


def _empty_shape(cache_input: Any) -> tuple[int, ...]:
    """[batch 1, heads, no token yet, size]; ONNX Runtime may give fixed sizes as text."""
    _, heads, _, size = cache_input.shape
    return 1, int(heads), 0, int(size)


def _sample(logits: np.ndarray, generator: np.random.Generator, most: int) -> int:
    """One of so many likeliest tokens, drawn by its probability."""
    top = np.argpartition(logits, -most)[-most:]
    weights = np.exp(logits[top] - logits[top].max())
    return int(generator.choice(top, p=weights / weights.sum()))
