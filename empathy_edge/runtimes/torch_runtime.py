"""Checkpoints on torch: the full-precision arm that every artifact is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.chat_format import Message, read_template
from empathy_edge.console import quiet_libraries
from empathy_edge.errors import require_extra
from empathy_edge.runtimes.base import Reply, Runtime
from empathy_edge.runtimes.byte_level import piece_bytes


class TorchRuntime(Runtime):
    """A checkpoint folder in fp32, or a model that is already in memory."""

    def __init__(self, folder: Path, *, threads: int, context: int = 2048, model: Any = None) -> None:
        require_extra("transformers", "train", f"Running the checkpoint {folder.name}")
        quiet_libraries()
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._torch = torch
        torch.set_num_threads(threads)
        self.name, self.threads = folder.name, threads
        self.model = (
            model
            if model is not None
            else AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        )
        self.model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.template = read_template(folder)
        self.context = min(context, self.model.config.max_position_embeddings)
        end = self.model.generation_config.eos_token_id
        self.stop_ids = self._stop_ids(end if isinstance(end, list) else [end] if end is not None else [])

    def tokenize(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def token_bytes(self, token: int) -> bytes:
        if token in self.tokenizer.all_special_ids:
            return b""
        piece = self.tokenizer.convert_ids_to_tokens(token) or ""
        known = piece_bytes(piece)
        return self.tokenizer.decode([token]).encode("utf-8") if known is None else known

    def tokens(
        self, ids: Sequence[int], temperature: float, seed: int, most: int, ignore_stop: bool
    ) -> Iterator[int]:
        torch = self._torch
        noise = torch.Generator().manual_seed(seed)
        cache = None
        step = torch.tensor([list(ids)])
        with torch.inference_mode():
            for _ in range(most + 1):
                output = self.model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache, scores = output.past_key_values, output.logits[0, -1].float()
                if temperature > 0:
                    token = int(torch.multinomial(torch.softmax(scores / temperature, -1), 1, generator=noise))
                else:
                    token = int(scores.argmax())
                yield token
                step = torch.tensor([[token]])

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        with self._torch.inference_mode():
            return self.model(input_ids=self._torch.tensor([list(ids)])).logits[0].float().numpy()

    def reply_batch(self, conversations: list[list[Message]], *, max_new_tokens: int) -> list[Reply]:
        """Greedy replies to several conversations at once, left-padded; times are not taken (0)."""
        torch = self._torch
        prompts = [self.encode(messages) for messages in conversations]
        longest = max(len(ids) for ids in prompts)
        pad = self.tokenizer.pad_token_id
        padded = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in prompts])
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
        with torch.inference_mode():
            result = self.model.generate(
                input_ids=padded,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=sorted(self.stop_ids),
                pad_token_id=pad,
            )[:, longest:].tolist()
        replies = []
        for ids, new in zip(prompts, result, strict=True):
            end = next((place for place, token in enumerate(new) if token in self.stop_ids), None)
            kept = new if end is None else new[:end]
            text = self.tokenizer.decode(kept, skip_special_tokens=True).strip()
            replies.append(Reply(text, tuple(kept), len(ids), 0.0, (), "length" if end is None else "stop"))
        return replies
