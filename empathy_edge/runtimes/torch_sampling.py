"""Replies drawn from a torch model, many at once, with the log-probability of each token.

`transformers.generate` keeps rows that have ended until the longest of a batch ends; here they leave.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from empathy_edge.runtimes.drawn import Drawn

ROWS = 64
"""How many replies are drawn at once."""


class EndTokens(NamedTuple):
    """The tokens at which a reply ends, and the one for padding."""

    stop_ids: Collection[int]
    pad_id: int


def draw(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: EndTokens,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    drawn: Callable[[], None] = lambda: None,
) -> list[Drawn]:
    """One reply to each prompt, drawn from the model's whole distribution at a temperature.

    Args:
        model: a causal language model of transformers.
        prompts: token ids; give a prompt twice for two replies.
        tokens: at which replies end, and for padding.
        max_new_tokens: the largest number of tokens of a reply, its stop token included.
        temperature: logits are divided by it; 0 takes the likeliest token, and gives it at temperature 1.
        seed: of the draws.
        drawn: called after each reply.

    Returns:
        The replies in the order of the prompts.
    """
    generator = np.random.default_rng(seed)
    replies: list[Drawn | None] = [None] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    for start in range(0, len(order), ROWS):
        places = order[start : start + ROWS]
        batch = [list(prompts[place]) for place in places]
        for row, reply in _draw_batch(model, batch, tokens, max_new_tokens, temperature, generator):
            replies[places[row]] = reply
            drawn()
    return [reply for reply in replies if reply is not None]


def _draw_batch(
    model: Any,
    prompts: list[list[int]],
    end: EndTokens,
    max_new_tokens: int,
    temperature: float,
    generator: np.random.Generator,
) -> Iterator[tuple[int, Drawn]]:
    """The row and the reply of each prompt of one batch, as they end."""
    import torch

    longest = max(map(len, prompts))
    padded = [[end.pad_id] * (longest - len(ids)) + ids for ids in prompts]
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=model.device)
    step = torch.tensor(padded, device=model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache: Any = None
    rows = list(range(len(prompts)))
    ids: list[list[int]] = [[] for _ in prompts]
    log_probs: list[list[float]] = [[] for _ in prompts]
    with torch.inference_mode():
        for number in range(1, max_new_tokens + 1):
            output = model(
                input_ids=step,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            tokens, chances = _choose(output.logits[:, -1].float(), temperature, generator)
            goes_on = []
            for place, row in enumerate(rows):
                ids[row].append(int(tokens[place]))
                log_probs[row].append(float(chances[place]))
                stopped = ids[row][-1] in end.stop_ids
                if stopped or number == max_new_tokens:
                    yield row, Drawn(ids[row], log_probs[row], stopped)
                else:
                    goes_on.append(place)
            if not goes_on:
                return
            if len(goes_on) < len(rows):
                kept = torch.tensor(goes_on, device=model.device)
                cache.batch_select_indices(kept)
                mask, positions, tokens = mask[kept], positions[kept], tokens[kept]
                rows = [rows[place] for place in goes_on]
            step = tokens[:, None]
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            positions = positions[:, -1:] + 1


def _choose(logits: Any, temperature: float, generator: np.random.Generator) -> tuple[Any, Any]:
    """A token of each row and its log-probability; logits are [rows, vocabulary]."""
    import torch

    if temperature <= 0:
        tokens = logits.argmax(-1)
    else:
        logits = logits / temperature
        probabilities = torch.softmax(logits, dim=-1)
        # Inverse of the cumulative distribution: torch.multinomial takes three times as long.
        cumulative = probabilities.double().cumsum(-1)
        uniform = torch.from_numpy(generator.random((len(logits), 1))).to(cumulative.device)
        tokens = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)[:, 0]
        tokens = tokens.clamp(max=logits.shape[-1] - 1)
    chosen = logits.gather(1, tokens[:, None])[:, 0]
    return tokens, (chosen - logits.logsumexp(-1)).cpu()
