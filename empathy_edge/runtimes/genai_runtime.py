"""ONNX models on ONNX Runtime GenAI, the runtime with Android and iOS bindings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.chat_format import read_template
from empathy_edge.runtimes.base import Runtime, common_prefix
from empathy_edge.runtimes.pieces import piece_bytes, special_text


class GenAIRuntime(Runtime):
    """A folder with genai_config.json, an ONNX graph and its tokenizer."""

    def __init__(self, folder: Path, *, threads: int, context: int) -> None:
        require_extra("onnxruntime_genai", "onnx", f"Running {folder.name}")
        import onnxruntime_genai as og

        self._og = og
        self.name, self.threads = folder.name, threads
        self.template = read_template(folder)
        try:
            config = og.Config(str(folder))
            options = {"session_options": {"intra_op_num_threads": threads, "inter_op_num_threads": 1}}
            config.overlay(json.dumps({"model": {"decoder": options}}))
            self._model = og.Model(config)
            self._tokenizer = og.Tokenizer(self._model)
        except Exception as error:  # the bindings raise plain RuntimeError and OrtException
            raise EmpathyEdgeError(f"{folder}: ONNX Runtime GenAI cannot load it: {error}") from None
        settings = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
        self.context = min(context, int(settings["context_length"]))
        end = settings["eos_token_id"]
        self.declared_stop_ids = frozenset(end if isinstance(end, list) else [end])
        self._special, self._pieces = _vocabulary(folder)
        self._byte_level = "Ġ" in self._pieces.values()
        names = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.bos, self.eos = (special_text(names.get(f"{role}_token")) for role in ("bos", "eos"))
        self.stop_ids = self._stop_ids([*self.declared_stop_ids])
        self._generator: Any = None
        self._options = (0.0, False)
        self._read: list[int] = []

    def tokenize(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer.encode(text)]

    def token_bytes(self, token: int) -> bytes:
        if token in self._special:
            return b""
        return piece_bytes(self._pieces.get(token, ""), self._byte_level)

    def tokens(
        self, ids: Sequence[int], temperature: float, seed: int, most: int, ignore_stop: bool
    ) -> Iterator[int]:
        same = (
            self._generator is not None and temperature <= 0 and self._options == (temperature, ignore_stop)
        )
        self.reused = common = common_prefix(self._read, ids) if same else 0
        if common:
            self._generator.rewind_to(common)
        else:
            self._begin(temperature, seed, ignore_stop)
        self._read = list(ids)
        self._generator.append_tokens(np.asarray(ids[common:], dtype=np.int32))
        while not self._generator.is_done():
            self._generator.generate_next_token()
            token = int(self._generator.get_next_tokens()[0])
            yield token
            self._read.append(token)  # only what was asked to go on is sure to be in the cache

    def _begin(self, temperature: float, seed: int, ignore_stop: bool) -> None:
        """A new generator, with an empty cache; sampled answers never go on with an old one, for the seed's sake."""
        parameters = self._og.GeneratorParams(self._model)
        parameters.set_search_options(
            max_length=self.context,
            min_length=self.context if ignore_stop else 0,
            do_sample=temperature > 0,
            temperature=temperature or 1.0,
            top_k=40,
            top_p=0.95,
            random_seed=seed,
        )
        self._generator = self._og.Generator(self._model, parameters)
        self._options = (temperature, ignore_stop)

    def forget(self, keep: int = 0) -> None:
        del self._read[keep:]
        if not self._read:
            self._generator = None

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        parameters = self._og.GeneratorParams(self._model)
        parameters.set_search_options(max_length=len(ids) + 1)
        generator = self._og.Generator(self._model, parameters)
        generator.append_tokens(np.asarray(ids, dtype=np.int32))
        return np.array(generator.get_output("logits")[0], dtype=np.float32)


def _vocabulary(folder: Path) -> tuple[set[int], dict[int, str]]:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    special = {item["id"] for item in content.get("added_tokens", []) if item.get("special")}
    return special, {index: piece for piece, index in content["model"]["vocab"].items()}
