"""The log-probability that a model gives to responses."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from empathy_edge.console import progress, quiet_libraries
from empathy_edge.formats.chat_format import fit_to_template, template_of
from empathy_edge.models.find import ModelRef

BATCH_TOKENS = 3000
"""Tokens of a batch, padding included."""


class _Encoded(NamedTuple):
    """Token ids of a prompt with its response, and how many of them are the prompt's."""

    ids: list[int]
    prompt_tokens: int


def log_probs_per_character(
    base: ModelRef,
    adapters: list[Path],
    prompts: list[list[dict[str, str]]],
    responses: list[str],
    label: str,
) -> list[float]:
    """The log-probability (nats) of each response, its stop token included, per character of the response.

    It is not divided by the number of tokens: a rare spelling has many tokens, and most of them are easy to
    guess after the first one.

    Args:
        base: the model's checkpoint.
        adapters: PEFT adapter folders to add to it.
        prompts: the messages before each response.
        responses: as many texts.
        label: for the progress bar.
    """
    quiet_libraries()
    import torch

    model, tokenizer = _load(base, adapters)
    encoded = [
        _encode(tokenizer, prompt, response) for prompt, response in zip(prompts, responses, strict=True)
    ]
    found: list[float] = []
    with progress() as bar, torch.inference_mode():
        task = bar.add_task(label, total=len(encoded), note="")
        for batch in _batches(encoded):
            found += _log_probs(model, batch)
            bar.advance(task, len(batch))
    return [total / max(1, len(response)) for total, response in zip(found, responses, strict=True)]


def _load(base: ModelRef, adapters: list[Path]) -> tuple[Any, Any]:
    """The model, with a forward pass that gives log-probabilities and keeps no logits, and its tokenizer."""
    from trl.trainer.utils import add_fused_lm_head

    from empathy_edge.runtimes.packed import can_pack, pack_batches
    from empathy_edge.runtimes.torch_loading import load_base
    from empathy_edge.system.memory import keep_freed_memory

    keep_freed_memory()
    model, tokenizer, _ = load_base(base.path, "auto", adapters, Path())
    if can_pack(model):
        pack_batches(model)
    else:
        add_fused_lm_head(model)
    model.eval()
    return model, tokenizer


def _encode(tokenizer: Any, prompt: list[dict[str, str]], response: str) -> _Encoded:
    prompt = fit_to_template(template_of(tokenizer), prompt)
    prompt_ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    whole = [*prompt, {"role": "assistant", "content": response}]
    return _Encoded(tokenizer.apply_chat_template(whole, return_dict=False), len(prompt_ids))


def _batches(encoded: list[_Encoded]) -> list[list[_Encoded]]:
    """Batches of at most BATCH_TOKENS padded tokens, in order: neighbours share their prompts."""
    batches: list[list[_Encoded]] = []
    longest = 0
    for item in encoded:
        longest = max(longest, len(item.ids))
        if not batches or longest * (len(batches[-1]) + 1) > BATCH_TOKENS:
            batches.append([])
            longest = len(item.ids)
        batches[-1].append(item)
    return batches


def _log_probs(model: Any, batch: list[_Encoded]) -> list[float]:
    """The log-probability (nats) of each response."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    rows = [torch.tensor(item.ids, device=model.device) for item in batch]
    labels = [row.clone() for row in rows]
    for row, item in zip(labels, batch, strict=True):
        row[: item.prompt_tokens] = -100  # no loss on the prompt
    output = model(
        input_ids=pad_sequence(rows, batch_first=True),
        attention_mask=pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
        labels=pad_sequence(labels, batch_first=True, padding_value=-100),
        fused_lm_head=True,
    )
    totals: list[float] = output.log_probs.sum(1).tolist()
    return totals


def describe(values: list[float]) -> dict[str, Any]:
    """Mean and quartiles of log-probabilities, for a manifest."""
    import numpy as np

    quartiles = np.percentile(values, [25, 50, 75])
    return {
        "mean": round(float(np.mean(values)), 4),
        "quartiles": [round(float(value), 4) for value in quartiles],
    }
