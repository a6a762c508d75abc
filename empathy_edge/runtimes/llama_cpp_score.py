"""Several replies to one prompt, read in one go on llama.cpp: their log-probabilities, what follows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from empathy_edge.runtimes.base import log_softmax_at
from empathy_edge.runtimes.llama_cpp_batch import BatchContext, BatchToken

SEQUENCES = 16
"""Replies at once."""

BATCH = 256
"""Tokens at once: the fastest of 256, 512 and 1024 for SmolLM2-135M on two cores."""

CELLS = 4096
"""Tokens of a prompt and all replies that are scored at once."""


class _Scored(NamedTuple):
    """The logits of `token` tell the log-probability of the reply's token at `place`."""

    token: BatchToken
    reply: int
    place: int


def score_replies(
    context: BatchContext, prompt: Sequence[int], replies: Sequence[Sequence[int]], temperature: float
) -> list[np.ndarray]:
    """The log-probability of each token of each reply; see `Runtime.reply_log_probs`.

    The prompt is read once for every group of replies that fits into the context.
    """
    found: list[np.ndarray] = []
    for group in _groups(len(prompt), replies):
        found += _score_group(context, prompt, group, temperature)
    return found


def logits_after(
    context: BatchContext, prompt: Sequence[int], replies: Sequence[Sequence[int]]
) -> list[np.ndarray]:
    """The logits after the last token of each reply, float32 [vocabulary]."""
    found = []
    for group in _groups(len(prompt), replies):
        context.lib.llama_memory_clear(context.memory, True)
        every = range(len(group))
        tokens = [BatchToken(token, position, every, False) for position, token in enumerate(prompt)]
        for number, reply in enumerate(group):
            for place, token in enumerate(reply):
                is_last = place == len(reply) - 1
                tokens.append(BatchToken(token, len(prompt) + place, (number,), is_last))
        for start in range(0, len(tokens), BATCH):
            part = tokens[start : start + BATCH]
            context.decode(part)
            found += [context.logits(row).copy() for row, token in enumerate(part) if token.wanted]
    return found


def _groups(prompt_tokens: int, replies: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Replies that fit into the context together with their prompt, at least one at a time."""
    done = 0
    while done < len(replies):
        group: list[Sequence[int]] = []
        room = CELLS - prompt_tokens
        for reply in replies[done : done + SEQUENCES]:
            if group and len(reply) > room:
                break
            room -= len(reply)
            group.append(reply)
        done += len(group)
        yield group


def _score_group(
    context: BatchContext, prompt: Sequence[int], replies: Sequence[Sequence[int]], temperature: float
) -> list[np.ndarray]:
    context.lib.llama_memory_clear(context.memory, True)
    every = range(len(replies))
    asked = [
        _Scored(BatchToken(token, position, every, position == len(prompt) - 1), -1, 0)
        for position, token in enumerate(prompt)
    ]
    for number, reply in enumerate(replies):
        for place, token in enumerate(reply[:-1]):
            position = len(prompt) + place
            asked.append(_Scored(BatchToken(token, position, (number,), True), number, place + 1))
    found = [np.empty(len(reply)) for reply in replies]
    for start in range(0, len(asked), BATCH):
        part = asked[start : start + BATCH]
        context.decode([item.token for item in part])
        for row, item in enumerate(part):
            if not item.token.wanted:
                continue
            of_replies = every if item.reply < 0 else (item.reply,)
            logits = context.logits(row)[None]
            for number in of_replies:
                token = replies[number][item.place]
                found[number][item.place] = log_softmax_at(logits, [token], temperature)[0]
    return found
