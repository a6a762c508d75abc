"""Checkpoints on torch: the full-precision arm that every artifact is compared with."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.console import quiet_libraries
from empathy_edge.errors import require_extra
from empathy_edge.formats.chat_format import Message, read_template
from empathy_edge.models.lora import add_adapters
from empathy_edge.runtimes.base import Reply, Runtime, common_prefix
from empathy_edge.runtimes.pieces import piece_bytes
from empathy_edge.runtimes.torch_batch import generate


class TorchRuntime(Runtime):
    """A checkpoint folder in fp32, or a model that is already in memory."""

    def __init__(
        self,
        folder: Path,
        *,
        threads: int,
        context: int = 2048,
        model: Any = None,
        adapters: Sequence[Path] = (),
    ) -> None:
        require_extra("transformers", "train", f"Running the checkpoint {folder.name}")
        quiet_libraries()
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._torch = torch
        torch.set_num_threads(threads)
        self.name, self.threads = folder.name, threads
        self._forward_s = 0.0
        self._read: list[int] = []
        self._cache: Any = None
        self.model = (
            model
            if model is not None
            else AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        )
        add_adapters(self.model, list(adapters))
        self.model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.template = read_template(folder)
        self.context = min(context, self.model.config.max_position_embeddings)
        end = self.model.generation_config.eos_token_id
        ends = [*(end if isinstance(end, list) else [end]), self.tokenizer.eos_token_id]
        self.declared_stop_ids = frozenset(token for token in ends if token is not None)
        self.bos, self.eos = self.tokenizer.bos_token or "", self.tokenizer.eos_token or ""
        self._byte_level = "Ġ" in self.tokenizer.get_vocab()
        self.stop_ids = self._stop_ids([*self.declared_stop_ids])

    def tokenize(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def token_bytes(self, token: int) -> bytes:
        if token in self.tokenizer.all_special_ids:
            return b""
        return piece_bytes(self.tokenizer.convert_ids_to_tokens(token) or "", self._byte_level)

    def tokens(
        self, ids: Sequence[int], temperature: float, seed: int, most: int, ignore_stop: bool
    ) -> Iterator[int]:
        torch = self._torch
        noise = torch.Generator().manual_seed(seed)
        self.reused = self._rewind(ids)
        step = list(ids)[self.reused :]
        with torch.inference_mode():
            for _ in range(most + 1):
                start = time.perf_counter()
                output = self.model(
                    input_ids=torch.tensor([step]),
                    past_key_values=self._cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                self._forward_s += time.perf_counter() - start
                self._read += step
                self._cache, scores = output.past_key_values, output.logits[0, -1].float()
                if temperature > 0:
                    token = int(
                        torch.multinomial(torch.softmax(scores / temperature, -1), 1, generator=noise)
                    )
                else:
                    token = int(scores.argmax())
                yield token
                step = [token]

    def _rewind(self, ids: Sequence[int]) -> int:
        """Take the prompt cache back to what it has in common with `ids`; returns how many tokens that is."""
        common = common_prefix(self._read, ids)
        if common and hasattr(self._cache, "crop") and not any(getattr(self._cache, "is_sliding", [])):
            self._cache.crop(common - len(self._read))  # negative: so many tokens less
        else:
            common, self._cache = 0, None
        del self._read[common:]
        return common

    def forget(self, keep: int = 0) -> None:
        self._read, self._cache = [], None

    def forward_s(self) -> float | None:
        return self._forward_s

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        with self._torch.inference_mode():
            return self.model(input_ids=self._torch.tensor([list(ids)])).logits[0].float().numpy()

    def reply_batch(self, conversations: list[list[Message]], *, max_new_tokens: int) -> list[Reply]:
        """Greedy replies to several conversations at once, left-padded; times are not taken (0)."""
        prompts = [self.encode(messages) for messages in conversations]
        generated = generate(
            self.model,
            prompts,
            stop_ids=self.stop_ids,
            pad_id=self.tokenizer.pad_token_id,
            max_new_tokens=max_new_tokens,
        )
        replies = []
        for ids, (new, stopped) in zip(prompts, generated, strict=True):
            text = self.tokenizer.decode(new, skip_special_tokens=True).strip()
            replies.append(Reply(text, tuple(new), len(ids), 0.0, (), "stop" if stopped else "length"))
        return replies
