"""Checkpoints on torch, computed in fp32: the reference that every artifact is compared with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.console import quiet_libraries
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.chat_format import Message
from empathy_edge.models.adapter_folder import tokenizer_folder
from empathy_edge.models.templated_folder import template_for
from empathy_edge.runtimes.base import Reply, Runtime, Sampling, common_prefix
from empathy_edge.runtimes.drawn import Drawn
from empathy_edge.runtimes.pieces import ids_of, piece_bytes
from empathy_edge.runtimes.torch_batch import GreedyReply, generate, generate_with_logits


class TorchRuntime(Runtime):
    """A checkpoint folder, with PEFT adapters or without."""

    def __init__(
        self,
        folder: Path,
        *,
        threads: int,
        context: int = 2048,
        adapters: Sequence[Path] = (),
        device: str = "cpu",
    ) -> None:
        require_extra("transformers", "train", f"Running the checkpoint {folder.name}")
        quiet_libraries()
        import torch
        from transformers import AutoTokenizer

        from empathy_edge.runtimes.held_weights import load_in_fp32

        self._torch = torch
        torch.set_num_threads(threads)
        self.name = folder.name
        self.threads = threads
        self._forward_s = 0.0
        self._read: list[int] = []
        self._cache: Any = None
        self.model = load_in_fp32(folder, device, adapters)
        source = tokenizer_folder(folder, list(adapters))
        self.tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
        rows = self.model.get_input_embeddings().weight.shape[0]
        pad = self.tokenizer.pad_token_id
        if pad is None or pad >= rows:  # none, or one that was added without a row of embeddings
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.template = template_for(folder, list(adapters))
        self.context = min(context, self.model.config.get_text_config().max_position_embeddings)
        generation_ends = ids_of(self.model.generation_config.eos_token_id)
        self.declared_stop_ids = generation_ends | ids_of(self.tokenizer.eos_token_id)
        self.bos = self.tokenizer.bos_token or ""
        self.eos = self.tokenizer.eos_token or ""
        self._byte_level = "Ġ" in self.tokenizer.get_vocab()
        self.stop_ids = self._stop_ids([*self.declared_stop_ids])

    def tokenize(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        rows = self.model.get_input_embeddings().weight.shape[0]
        unknown = next((token for token in ids if token >= rows), None)
        if unknown is not None:
            raise EmpathyEdgeError(
                f"{self.name}: the text has the token {self.tokenizer.convert_ids_to_tokens(unknown)!r} "
                f"(number {unknown}), but there are {rows} rows of embeddings.\n"
                "  The tokenizer has grown without the model; take the one that it was trained with."
            )
        return ids

    def token_bytes(self, token: int) -> bytes:
        if token in self.tokenizer.all_special_ids:
            return b""
        return piece_bytes(self.tokenizer.convert_ids_to_tokens(token) or "", self._byte_level)

    def tokens(self, ids: Sequence[int], sampling: Sampling) -> Iterator[int]:
        torch = self._torch
        generator = torch.Generator().manual_seed(sampling.seed)
        self.cached_tokens = self._rewind(ids)
        step = list(ids)[self.cached_tokens :]
        with torch.inference_mode():
            for _ in range(sampling.max_new_tokens + 1):
                logits = self._step(step)
                if sampling.temperature > 0:
                    probabilities = torch.softmax(logits / sampling.temperature, -1)
                    token = int(torch.multinomial(probabilities, 1, generator=generator))
                else:
                    token = int(logits.argmax())
                yield token
                step = [token]

    def _step(self, ids: list[int]) -> Any:
        """Read more tokens; returns the logits after the last one, a float32 tensor [vocabulary]."""
        start = time.perf_counter()
        read, cache = self._read, self._cache
        self.forget()  # until every layer has read them: Ctrl-C or an error may come in between
        output = self.model(
            input_ids=self._torch.tensor([ids], device=self.model.device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._forward_s += time.perf_counter() - start
        read += ids
        self._read, self._cache = read, output.past_key_values
        return output.logits[0, -1].float().cpu()

    def _rewind(self, ids: Sequence[int]) -> int:
        """Truncate the prompt cache to what it has in common with `ids`; returns how many tokens that is."""
        common = common_prefix(self._read, ids)
        read, cache = self._read, self._cache
        self.forget()  # until every layer is truncated
        if not common or not hasattr(cache, "crop") or any(getattr(cache, "is_sliding", [])):
            return 0
        try:
            cache.crop(common - len(read))  # negative: as many tokens fewer
        except RuntimeError:  # a state that went through all tokens, as LFM2's, cannot go back
            return 0
        self._read, self._cache = read[:common], cache
        return common

    def forget(self, keep: int = 0) -> None:
        self._read, self._cache = [], None

    def draw(
        self,
        prompts: Sequence[Sequence[int]],
        samples: int,
        sampling: Sampling,
        drawn: Callable[[], None] = lambda: None,
    ) -> list[Drawn]:
        from empathy_edge.runtimes.torch_sampling import EndTokens, draw

        return draw(
            self.model,
            [ids for ids in prompts for _ in range(samples)],
            tokens=EndTokens(self.stop_ids, self.tokenizer.pad_token_id),
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            seed=sampling.seed,
            drawn=drawn,
        )

    def forward_s(self) -> float | None:
        return self._forward_s

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        with self._torch.inference_mode():
            output = self.model(input_ids=self._torch.tensor([list(ids)], device=self.model.device))
            logits: np.ndarray = output.logits[0].float().cpu().numpy()
        return logits

    def greedy_replies(self, prompts: list[list[int]], *, max_new_tokens: int) -> list[GreedyReply]:
        """Greedy replies to several prompts of token ids at once, with the logits of their tokens."""
        return generate_with_logits(
            self.model,
            prompts,
            stop_ids=self.stop_ids,
            pad_id=self.tokenizer.pad_token_id,
            max_new_tokens=max_new_tokens,
        )

    def reply_batch(self, conversations: list[list[Message]], *, max_new_tokens: int) -> list[Reply]:
        """Greedy replies to several conversations at once; their times are 0, for none are measured."""
        prompts = [self.encode(messages) for messages in conversations]
        generated = generate(
            self.model,
            prompts,
            stop_ids=self.stop_ids,
            pad_id=self.tokenizer.pad_token_id,
            max_new_tokens=max_new_tokens,
        )
        replies = []
        for ids, one in zip(prompts, generated, strict=True):
            reply = Reply(
                text=self.tokenizer.decode(one.token_ids, skip_special_tokens=True).strip(),
                token_ids=tuple(one.token_ids),
                prompt_tokens=len(ids),
                ttft_s=0.0,
                token_times_s=(),
                finish_reason="stop" if one.stopped else "length",
            )
            replies.append(reply)
        return replies
