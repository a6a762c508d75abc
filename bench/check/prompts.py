"""The prompts of a check: the shipped ones, or the user's own."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rich.markup import escape

from empathy_edge.console import say
from empathy_edge.data import check_prompts
from empathy_edge.formats.chat_format import Message, messages_for
from empathy_edge.formats.dialogue import Dialogue, read_dialogues
from empathy_edge.system.files import sha256_json

FEWEST = 64
"""With fewer prompts no artifact can pass: one bad reply in twenty would not be noticed."""


@dataclass(frozen=True)
class CheckPrompt:
    """A conversation that ends with what a person says; `messages` holds no system turn of ours."""

    id: str
    messages: tuple[Message, ...]

    @property
    def said(self) -> str:
        """The person's last message."""
        return self.messages[-1]["content"]

    def conversation(self) -> list[Message]:
        """The messages with our system prompt, where the prompt has none of its own."""
        return messages_for(self.said, history=self.messages[:-1])


def read_prompts(file: Path | None, most: int | None, seed: int) -> list[CheckPrompt]:
    """The prompts in a random order that depends on the seed only; the shipped ones where no file is given.

    Copies are left out, and of each conversation all but the longest prompt: replies to them would not be
    independent evidence. How many they are is said on stderr.

    Args:
        file: dialogues in any form; what was said before and the utterance are used, responses are not.
        most: only so many of them.
        seed: of the order.

    Raises:
        EmpathyEdgeError: the file is missing, or a row is wrong; names the row.
    """
    path = file or check_prompts()
    prompts = [_prompt_of(dialogue) for dialogue in read_dialogues(path)]
    prompts = _independent(path, prompts)
    random.Random(seed).shuffle(prompts)
    return prompts[:most]


def sha256_of(prompts: list[CheckPrompt]) -> str:
    """The hash of the prompts, in their order."""
    return sha256_json([[prompt.id, list(prompt.messages)] for prompt in prompts])


def _prompt_of(dialogue: Dialogue) -> CheckPrompt:
    return CheckPrompt(dialogue.id, (*dialogue.history, {"role": "user", "content": dialogue.utterance}))


def _independent(path: Path, prompts: list[CheckPrompt]) -> list[CheckPrompt]:
    """The prompts that are no copy of an earlier one, and no beginning of a longer one, in their order."""
    turns = []
    for prompt in prompts:
        turns.append([(message["role"], message["content"]) for message in prompt.messages])
    # Sorted, a prompt stands right before those that it begins; of equal ones, the first of the file is last.
    places = sorted(range(len(prompts)), key=lambda place: (turns[place], -place))
    copies: set[int] = set()
    beginnings: set[int] = set()
    for place, following in pairwise(places):
        if turns[place] == turns[following]:
            copies.add(place)
        elif turns[place] == turns[following][: len(turns[place])]:
            beginnings.add(place)
    if copies or beginnings:
        say(
            f"{escape(str(path))}: of {len(prompts)} prompts {len(copies)} are left out as copies of another "
            f"one, and {len(beginnings)} as the beginning of a longer one: they would not be independent."
        )
    return [prompt for place, prompt in enumerate(prompts) if place not in copies | beginnings]
