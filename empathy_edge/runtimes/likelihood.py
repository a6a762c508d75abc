"""How likely a student finds given responses: the log-probability of each, by its length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from empathy_edge.console import progress, quiet_libraries
from empathy_edge.models.find import ModelRef

BATCH_TOKENS = 3000


def log_probs_per_character(
    base: ModelRef,
    adapters: list[Path],
    prompts: list[list[dict[str, str]]],
    responses: list[str],
    label: str,
) -> list[float]:
    """The log-probability (nats) of each response to its prompt, the stop token included, divided by its characters.

    Not by its tokens: rare spellings fall into many tokens, most of which are easy to guess once the first is there.

    Args:
        base: the student's checkpoint.
        adapters: PEFT adapter folders to add to it.
        prompts: the messages before each response.
        responses: as many texts.
        label: for the progress bar.
    """
    quiet_libraries()
    import torch
    from torch.nn.utils.rnn import pad_sequence
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
    encoded = []
    for prompt, response in zip(prompts, responses, strict=True):
        start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template(
            [*prompt, {"role": "assistant", "content": response}], return_dict=False
        )
        encoded.append((whole, len(start)))
    found = [0.0] * len(encoded)
    with progress() as bar, torch.inference_mode():
        task = bar.add_task(label, total=len(encoded), note="")
        for group in _batches(encoded):
            rows = [torch.tensor(encoded[place][0], device=model.device) for place in group]
            labels = [row.clone() for row in rows]
            for row, place in zip(labels, group, strict=True):
                row[: encoded[place][1]] = -100
            output = model(
                input_ids=pad_sequence(rows, batch_first=True),
                attention_mask=pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
                labels=pad_sequence(labels, batch_first=True, padding_value=-100),
                fused_lm_head=True,
            )
            for place, total in zip(group, output.log_probs.sum(1).tolist(), strict=True):
                found[place] = total / max(1, len(responses[place]))
            bar.advance(task, len(group))
    return found


def _batches(encoded: list[tuple[list[int], int]]) -> list[list[int]]:
    """Places in groups of at most BATCH_TOKENS padded tokens; neighbours share their prompts, so they stay together."""
    groups: list[list[int]] = []
    longest = 0
    for place, (ids, _) in enumerate(encoded):
        longest = max(longest, len(ids)) if groups else len(ids)
        if not groups or longest * (len(groups[-1]) + 1) > BATCH_TOKENS:
            groups.append([])
            longest = len(ids)
        groups[-1].append(place)
    return groups


def describe(values: list[float]) -> dict[str, Any]:
    """Mean and quartiles of log-probabilities, for a manifest."""
    import numpy as np

    low, middle, high = np.percentile(values, [25, 50, 75])
    return {
        "mean": round(float(np.mean(values)), 4),
        "quartiles": [round(float(v), 4) for v in (low, middle, high)],
    }
