"""Many replies at once from a torch model: far cheaper than one by one, since the weights are read once a step."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def generate(
    model: Any,
    prompts: list[list[int]],
    *,
    stop_ids: Collection[int],
    pad_id: int,
    max_new_tokens: int,
    temperature: float = 0.0,
    samples: int = 1,
) -> list[tuple[list[int], bool]]:
    """New token ids for each prompt (left-padded together), without the stop token, and whether it came.

    Greedy at temperature 0; else `samples` of each prompt, in order, from torch's own random state, out of the 50
    likeliest tokens (sorting all of them for top-p takes longer than the model).
    """
    import torch

    longest = max(map(len, prompts))
    rows = [[pad_id] * (longest - len(ids)) + ids for ids in prompts]
    masks = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts]
    how = {"do_sample": True, "temperature": temperature, "top_k": 50, "num_return_sequences": samples}
    with torch.inference_mode():
        result = model.generate(
            input_ids=torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(masks, device=model.device),
            max_new_tokens=max_new_tokens,
            eos_token_id=sorted(stop_ids),
            pad_token_id=pad_id,
            repetition_penalty=1.0,  # a checkpoint's generation_config may ask for others
            no_repeat_ngram_size=0,
            **(how if temperature > 0 else {"do_sample": False}),
        )[:, longest:].tolist()
    ends = [next((place for place, token in enumerate(new) if token in stop_ids), None) for new in result]
    return [(new[:end], end is not None) for new, end in zip(result, ends, strict=True)]
