"""Many replies at once from a torch model: each step reads the weights once for all of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

TOP_K = 50
"""Sampling chooses among this many tokens; top-p would sort the whole vocabulary, which takes very long."""


class Generated(NamedTuple):
    """New token ids without the stop token, and whether it came."""

    token_ids: list[int]
    stopped: bool


class GreedyReply(NamedTuple):
    """A reply with the logits of each of its tokens.

    Attributes:
        token_ids: the stop token included, where it came.
        stopped: whether it came.
        logits: float32 [tokens, vocabulary].
    """

    token_ids: list[int]
    stopped: bool
    logits: np.ndarray


def generate(
    model: Any,
    prompts: list[list[int]],
    *,
    stop_ids: Collection[int],
    pad_id: int,
    max_new_tokens: int,
    temperature: float = 0.0,
    samples: int = 1,
) -> list[Generated]:
    """Replies to several prompts, which are left-padded to one length.

    Args:
        model: a causal language model of transformers.
        prompts: token ids.
        stop_ids: the tokens at which a reply ends.
        pad_id: the padding token.
        max_new_tokens: the largest number of tokens of a reply.
        temperature: 0 takes the likeliest token each time; above, tokens are drawn from torch's global random
            state.
        samples: replies per prompt, with a temperature above 0.

    Returns:
        The replies, those of one prompt beside each other.
    """
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {
            "do_sample": True,
            "temperature": temperature,
            "top_k": TOP_K,
            "num_return_sequences": samples,
        }
    longest = max(map(len, prompts))
    sequences = _generate(model, prompts, stop_ids, pad_id, max_new_tokens=max_new_tokens, **sampling)
    return [_until_stop(new_ids, stop_ids) for new_ids in sequences[:, longest:].tolist()]


def generate_with_logits(
    model: Any, prompts: list[list[int]], *, stop_ids: Collection[int], pad_id: int, max_new_tokens: int
) -> list[GreedyReply]:
    """Greedy replies with their logits; the arguments are those of `generate`."""
    longest = max(map(len, prompts))
    found = _generate(
        model,
        prompts,
        stop_ids,
        pad_id,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    replies = []
    for row, new_ids in enumerate(found.sequences[:, longest:].tolist()):
        ids, stopped = _until_stop(new_ids, stop_ids)
        count = len(ids) + stopped
        logits = np.stack([step[row].float().cpu().numpy() for step in found.logits[:count]])
        replies.append(GreedyReply(new_ids[:count], stopped, logits))
    return replies


def _generate(
    model: Any, prompts: list[list[int]], stop_ids: Collection[int], pad_id: int, **options: Any
) -> Any:
    """What transformers generates for prompts that are left-padded to one length."""
    import torch
    from transformers import GenerationConfig

    longest = max(map(len, prompts))
    padded = [[pad_id] * (longest - len(ids)) + ids for ids in prompts]
    masks = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts]
    own = model.generation_config
    model.generation_config = GenerationConfig()  # without the checkpoint's own beams, penalties, limits
    try:
        with torch.inference_mode():
            return model.generate(
                input_ids=torch.tensor(padded, device=model.device),
                attention_mask=torch.tensor(masks, device=model.device),
                eos_token_id=sorted(stop_ids),
                pad_token_id=pad_id,
                **options,
            )
    finally:
        model.generation_config = own


def _until_stop(new_ids: list[int], stop_ids: Collection[int]) -> Generated:
    for place, token in enumerate(new_ids):
        if token in stop_ids:
            return Generated(new_ids[:place], True)
    return Generated(new_ids, False)
