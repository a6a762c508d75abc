"""ONNX models on ONNX Runtime GenAI, the runtime with Android and iOS bindings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.chat_format import read_template
from empathy_edge.formats.genai_config import GENAI_CONFIG, read_genai_config
from empathy_edge.runtimes.base import Runtime, Sampling, common_prefix
from empathy_edge.runtimes.pieces import ids_of, piece_bytes, special_text
from empathy_edge.system.files import read_json


class GenAIRuntime(Runtime):
    """A folder with genai_config.json, an ONNX graph and its tokenizer."""

    def __init__(self, folder: Path, *, threads: int, context: int) -> None:
        require_extra("onnxruntime_genai", "onnx", f"Running {folder.name}")
        import onnxruntime_genai as og

        checked = read_genai_config(folder / GENAI_CONFIG)  # og.Config does whatever it says
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
        settings = checked["model"]
        self.context = min(context, int(settings["context_length"]))
        self.declared_stop_ids = ids_of(settings["eos_token_id"])
        self._special, self._pieces = _vocabulary(folder)
        self._byte_level = "Ġ" in self._pieces.values()
        names = read_json(folder / "tokenizer_config.json")
        self.bos = special_text(names.get("bos_token"))
        self.eos = special_text(names.get("eos_token"))
        self.stop_ids = self._stop_ids([*self.declared_stop_ids])
        self._generator: Any = None
        self._sampling: Sampling | None = None
        self._read: list[int] = []

    def tokenize(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer.encode(text)]

    def token_bytes(self, token: int) -> bytes:
        if token in self._special:
            return b""
        return piece_bytes(self._pieces.get(token, ""), self._byte_level)

    def tokens(self, ids: Sequence[int], sampling: Sampling) -> Iterator[int]:
        self.cached_tokens = common_prefix(self._read, ids) if self._can_go_on(sampling) else 0
        self._read = []  # until the prompt is read: Ctrl-C or an error may come in between
        if self.cached_tokens:
            self._generator.rewind_to(self.cached_tokens)
        else:
            self._new_generator(sampling)
        self._generator.append_tokens(np.asarray(ids[self.cached_tokens :], dtype=np.int32))
        self._read = list(ids)
        while not self._generator.is_done():
            self._generator.generate_next_token()
            token = int(self._generator.get_next_tokens()[0])
            yield token
            self._read.append(token)  # a token is in the cache only once the caller asks for the next one

    def _can_go_on(self, sampling: Sampling) -> bool:
        """Whether the last reply's generator, with its cache, can make this reply too.

        Only if both are greedy: a sampled reply depends on the seed that its generator began with.
        """
        last = self._sampling
        return (
            self._generator is not None
            and last is not None
            and sampling.temperature <= 0
            and (last.temperature, last.ignore_stop) == (sampling.temperature, sampling.ignore_stop)
        )

    def _new_generator(self, sampling: Sampling) -> None:
        """Begin a generator with an empty cache."""
        parameters = self._og.GeneratorParams(self._model)
        parameters.set_search_options(
            max_length=self.context,
            min_length=self.context if sampling.ignore_stop else 0,
            do_sample=sampling.temperature > 0,
            temperature=sampling.temperature or 1.0,
            top_k=0 if sampling.all_tokens else 40,
            top_p=1.0 if sampling.all_tokens else 0.95,
            random_seed=sampling.seed,
        )
        self._generator = self._og.Generator(self._model, parameters)
        self._sampling = sampling

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
    """The ids of the special tokens, and each id's piece, from tokenizer.json."""
    content = read_json(folder / "tokenizer.json")
    special = {item["id"] for item in content.get("added_tokens", []) if item.get("special")}
    pieces = {index: piece for piece, index in content["model"]["vocab"].items()}
    return special, pieces
