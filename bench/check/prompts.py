"""The prompts of a check: the shipped ones, or the user's own."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

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

    Args:
        file: dialogues in any form; what was said before and the utterance are used, responses are not.
        most: only so many of them.
        seed: of the order.

    Raises:
        EmpathyEdgeError: the file is missing or a row is wrong; names the row.
    """
    prompts = [_prompt_of(dialogue) for dialogue in read_dialogues(file or check_prompts())]
    random.Random(seed).shuffle(prompts)
    return prompts[:most]


def sha256_of(prompts: list[CheckPrompt]) -> str:
    """The hash of the prompts, in their order."""
    return sha256_json([[prompt.id, list(prompt.messages)] for prompt in prompts])


def _prompt_of(dialogue: Dialogue) -> CheckPrompt:
    return CheckPrompt(dialogue.id, (*dialogue.history, {"role": "user", "content": dialogue.utterance}))
