"""Prompts for a release where the data keep no dialogue for tests: those of `check`."""

from __future__ import annotations

import random
from itertools import chain, zip_longest

from empathy_edge.data import check_prompts
from empathy_edge.formats.dialogue import Dialogue, read_dialogues

DEFAULT_COUNT = 32
"""How many are answered where nothing else is said: one for each emotion."""

SEED = 0
"""Of their order. It is always the same, so that fewer prompts are the first ones of more."""


def shipped_prompts(count: int) -> list[Dialogue]:
    """So many of the prompts of `check`, spread over the emotions; no more than there are.

    They are in no training data: `finetune` refuses rows that hold one of them. They have no responses.
    """
    generator = random.Random(SEED)
    of_emotion: dict[str, list[Dialogue]] = {}
    for dialogue in read_dialogues(check_prompts()):
        of_emotion.setdefault(dialogue.emotion, []).append(dialogue)
    groups = list(of_emotion.values())
    generator.shuffle(groups)
    for group in groups:
        generator.shuffle(group)
    rounds = chain.from_iterable(zip_longest(*groups))
    return [dialogue for dialogue in rounds if dialogue is not None][:count]
