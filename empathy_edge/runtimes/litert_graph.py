"""The graph inside a .litertlm on LiteRT's own interpreter: its logits, which LiteRT-LM does not give.

LiteRT-LM gives texts, and log-probabilities of texts that are wrong after a prompt (docs/decisions/010). The
graph's own logits are those of the checkpoint: of a float export within 1e-4 of torch.
"""

from __future__ import annotations

import atexit
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.litertlm_file import LitertLmFile
from empathy_edge.system.quiet import discard_stderr, quiet_stderr

_MASKED = np.float32(-0.7 * np.finfo(np.float32).max)
"""What is added to the scores of tokens that are not to be looked at, as LiteRT-LM does it."""


class LitertGraph:
    """A graph with two signatures: `prefill_N` reads N tokens, `decode` reads one and gives its logits.

    Keys and values of all tokens lie in two sets of buffers of a fixed length: each step reads one set and
    writes the other.

    Attributes:
        context: the length of the buffers in tokens.
        vocabulary: how many logits there are.
        read: the tokens that are in the buffers.
    """

    def __init__(self, file: LitertLmFile, threads: int) -> None:
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.cpu_options import CpuOptions
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        from ai_edge_litert.options import Options

        atexit.register(discard_stderr)  # at its very end it names each accelerator that it lets go
        self._content = file.graph()  # the model computes from these bytes
        options = Options(
            hardware_accelerators=HardwareAccelerator.CPU, cpu_options=CpuOptions(num_threads=threads)
        )
        try:
            with quiet_stderr():  # it names each accelerator that it does not find, a line an operator
                self._model = CompiledModel.from_buffer(self._content, options=options)
                self._connect(file.path)
        except EmpathyEdgeError:
            raise
        except Exception as error:  # the bindings raise plain RuntimeError
            raise EmpathyEdgeError(f"{file.path}: LiteRT cannot load its graph: {error}") from None
        self.read: list[int] = []

    def _connect(self, path: Path) -> None:
        """Make the buffers of both signatures."""
        signatures = self._model.get_signature_list()
        prefills = sorted(name for name in signatures if name.startswith("prefill_"))
        if "decode" not in signatures or not prefills:
            raise EmpathyEdgeError(f"{path}: its graph has no signatures prefill_N and decode.")
        self._prefill = prefills[0]
        details = self._model.get_input_tensor_details("decode")
        inputs, outputs = signatures["decode"]["inputs"], signatures["decode"]["outputs"]
        caches = [name for name in inputs if name.startswith("kv_cache_")]
        if {*inputs} - {*caches} != {"tokens", "input_pos", "mask"} or {*outputs} - {*caches} != {"logits"}:
            raise EmpathyEdgeError(f"{path}: its graph has other inputs than tokens, places, mask, caches.")
        self.context = int(details["mask"]["shape"][-1])
        shapes = self._model.get_input_tensor_details(self._prefill)
        self._prefill_length = int(shapes["tokens"]["shape"][-1])
        self._decode_inputs = self._inputs("decode")
        self._prefill_inputs = self._inputs(self._prefill)
        self._logits = self._model.create_output_buffer_by_name("decode", "logits")
        logits = self._model.get_output_tensor_details("decode")["logits"]
        self.vocabulary = int(logits["shape"][-1])
        self._old = {name: self._model.create_input_buffer_by_name("decode", name) for name in caches}
        self._new = {name: self._model.create_output_buffer_by_name("decode", name) for name in caches}
        for name in caches:
            self._old[name].write(np.zeros(details[name]["shape"], np.float32))

    def _inputs(self, signature: str) -> dict[str, Any]:
        make = self._model.create_input_buffer_by_name
        return {name: make(signature, name) for name in ("tokens", "input_pos", "mask")}

    def truncate(self, length: int) -> None:
        """Keep only the first `length` tokens; what lies behind them is masked and written again."""
        del self.read[length:]

    def add(self, ids: list[int]) -> None:
        """Read tokens without their logits."""
        for begin in range(0, len(ids), self._prefill_length):
            part = ids[begin : begin + self._prefill_length]
            length, start = self._prefill_length, len(self.read)
            tokens = np.zeros((1, length), np.int32)
            tokens[0, : len(part)] = part
            if start + length > self.context:  # a whole step would write beyond the buffers' end
                for token in part:
                    self.step(token)
                continue
            places = np.arange(start, start + length, dtype=np.int32)
            hidden = np.arange(self.context)[None] > places[:, None]
            mask = np.where(hidden, _MASKED, np.float32(0))[None, None]
            self._run(self._prefill, self._prefill_inputs, tokens, places, mask, {})
            self.read += part

    def step(self, token: int) -> np.ndarray:
        """Read one token; returns the logits after it, float32 [vocabulary]."""
        place = len(self.read)
        mask = np.full((1, 1, 1, self.context), _MASKED, np.float32)
        mask[..., : place + 1] = 0
        tokens, places = np.array([[token]], np.int32), np.array([place], np.int32)
        self._run("decode", self._decode_inputs, tokens, places, mask, {"logits": self._logits})
        self.read.append(token)
        logits: np.ndarray = self._logits.read(self.vocabulary, np.float32)
        return np.array(logits, np.float32)

    def close(self) -> None:
        """Free the memory."""
        del self._old, self._new, self._logits, self._decode_inputs, self._prefill_inputs, self._model

    def _run(
        self,
        signature: str,
        inputs: dict[str, Any],
        tokens: np.ndarray,
        places: np.ndarray,
        mask: np.ndarray,
        outputs: dict[str, Any],
    ) -> None:
        inputs["tokens"].write(tokens)
        inputs["input_pos"].write(places)
        inputs["mask"].write(mask)
        self._model.run_by_name(signature, {**inputs, **self._old}, {**outputs, **self._new})
        self._old, self._new = self._new, self._old
