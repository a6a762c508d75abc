"""One ONNX graph with a cache on plain ONNX Runtime: what a browser or a phone without the GenAI library runs."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.chat_format import read_template
from empathy_edge.runtimes.base import Runtime, common_prefix
from empathy_edge.runtimes.pieces import piece_bytes, special_text
from empathy_edge.system.files import read_json


class FolderRuntime(Runtime):
    """What runtimes share that step a graph themselves: tokenizer and template from the folder, and the loop over tokens."""

    def __init__(self, folder: Path, context: int) -> None:
        require_extra("tokenizers", "onnx", f"Running {folder.name}")
        from tokenizers import Tokenizer

        self.name = folder.name
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.template = read_template(folder)
        config = read_json(folder / "config.json")
        names = read_json(folder / "tokenizer_config.json")
        self.context = min(context, int(config["max_position_embeddings"]))
        end = config.get("eos_token_id")
        self.declared_stop_ids = frozenset(end if isinstance(end, list) else [end] if end is not None else [])
        self.bos, self.eos = (special_text(names.get(f"{role}_token")) for role in ("bos", "eos"))
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

    def tokens(
        self, ids: Sequence[int], temperature: float, seed: int, most: int, ignore_stop: bool
    ) -> Iterator[int]:
        chance = np.random.default_rng(seed)
        self.reused = common = common_prefix(self._read, ids)
        self._cut(common)
        pending = list(ids[common:])
        while True:
            start = time.perf_counter()
            scores = self._step(pending)[-1]
            self._forward_s += time.perf_counter() - start
            token = int(scores.argmax()) if temperature <= 0 else _sample(scores / temperature, chance)
            yield token
            pending = [token]

    def forward_s(self) -> float | None:
        return self._forward_s

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        self.forget()
        return self._step(list(ids))

    @abstractmethod
    def _cut(self, length: int) -> None:
        """Keep only the first `length` tokens of what was read."""

    @abstractmethod
    def _step(self, ids: list[int]) -> np.ndarray:
        """Read more tokens; the logits after each, float32 [len(ids), vocabulary]."""


class OnnxRuntime(FolderRuntime):
    """A folder with model.onnx, tokenizer.json and config.json; keeps its cache between replies."""

    def __init__(self, folder: Path, *, threads: int, context: int) -> None:
        require_extra("onnxruntime", "onnx", f"Running {folder.name}")
        import onnxruntime

        super().__init__(folder, context)
        self.threads = threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                folder / "model.onnx", options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the bindings raise their own exceptions, without a common parent
            raise EmpathyEdgeError(f"{folder}: ONNX Runtime cannot load it: {error}") from None
        self._inputs = {port.name: port for port in self._session.get_inputs()}
        self.forget()

    def forget(self, keep: int = 0) -> None:
        self._read = []
        self._cache = {
            name: np.zeros(_empty(port), np.float32)
            for name, port in self._inputs.items()
            if name.startswith("past_key_values.")
        }

    def _cut(self, length: int) -> None:
        if length < len(self._read):
            self._read = self._read[:length]
            self._cache = {
                name: np.ascontiguousarray(value[:, :, :length]) for name, value in self._cache.items()
            }

    def _step(self, ids: list[int]) -> np.ndarray:
        feed: dict[str, Any] = {"input_ids": np.array([ids], np.int64), **self._cache}
        length = len(self._read) + len(ids)
        if "position_ids" in self._inputs:
            feed["position_ids"] = np.arange(len(self._read), length, dtype=np.int64)[None]
        if "attention_mask" in self._inputs:
            feed["attention_mask"] = np.ones((1, length), np.int64)
        found = self._session.run(None, feed)
        outputs = {port.name: value for port, value in zip(self._session.get_outputs(), found, strict=True)}
        self._read = [*self._read, *ids]
        self._cache = {name: outputs[name.replace("past_key_values", "present")] for name in self._cache}
        return np.asarray(outputs["logits"][0], np.float32)


def _empty(port: Any) -> tuple[int, ...]:
    """The shape of an empty cache input: one text, heads, no token yet, size; fixed sizes may come as text."""
    _, heads, _, size = port.shape
    return 1, int(heads), 0, int(size)


def _sample(scores: np.ndarray, chance: np.random.Generator) -> int:
    """One of the 40 likeliest tokens, by its probability."""
    top = np.argpartition(scores, -40)[-40:]
    weights = np.exp(scores[top] - scores[top].max())
    return int(chance.choice(top, p=weights / weights.sum()))
