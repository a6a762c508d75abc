"""The turns of a conversation, as many of them as fit into the context window, kept in a file if asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message
from empathy_edge.prompts import load_prompts
from empathy_edge.runtimes import Runtime
from empathy_edge.system.files import write_atomically

REFILL = 0.6
"""When the window is full, turns go until this share of it is left: the cache is lost once then, and not at every turn."""
_LARGEST_FILE = 10_000_000


@dataclass
class Conversation:
    """The turns so far, and as many of them as fit into the context window."""

    runtime: Runtime
    room: int
    system: str = field(default_factory=lambda: load_prompts("chat").text("system"))
    turns: list[Message] = field(default_factory=list)

    def prompt(self, said: str) -> tuple[list[Message], int]:
        """Add what the person said; returns the messages that fit and how many old turns had to go.

        The oldest turns go first, in pairs, until `room` tokens are left for the response and the window is not nearly
        full again at the next turn.
        """
        self.turns.append({"role": "user", "content": said})
        dropped = 0
        if not self._fits(self.runtime.context):
            while len(self.turns) > 1 and not self._fits(int(REFILL * self.runtime.context)):
                del self.turns[:2]
                dropped += 2
        return self.messages(), dropped

    def answer(self, text: str) -> None:
        """Add what was answered."""
        self.turns.append({"role": "assistant", "content": text})

    def reset(self) -> None:
        """Forget every turn."""
        self.turns.clear()
        self.runtime.forget()

    def messages(self) -> list[Message]:
        """What the model is given."""
        return [{"role": "system", "content": self.system}, *self.turns]

    def tokens(self) -> int:
        """How many tokens the conversation has."""
        return len(self.runtime.encode(self.messages()))

    def save(self, path: Path) -> None:
        """Write the conversation as JSON; an existing file is not overwritten."""
        if path.exists():
            raise EmpathyEdgeError(f"{path}: exists already; choose another name.")
        content = {"system": self.system, "turns": self.turns}
        write_atomically(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")

    def load(self, path: Path) -> None:
        """Go on with a saved conversation.

        Raises:
            EmpathyEdgeError: the file is not one; the conversation is as it was.
        """
        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise ValueError("it is larger than 10 MB")
            content = json.loads(path.read_text(encoding="utf-8"))
            system, turns = content["system"], content["turns"]
            roles = [turn["role"] for turn in turns]
            texts = [system, *(turn["content"] for turn in turns)]
            if roles != ["user", "assistant"] * (len(turns) // 2) or not all(
                isinstance(text, str) for text in texts
            ):
                raise ValueError("its turns are not user and assistant in turn")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise EmpathyEdgeError(f"{path}: is no conversation that /save wrote ({error}).") from None
        self.system = system
        self.turns = [cast(Message, {"role": turn["role"], "content": turn["content"]}) for turn in turns]

    def _fits(self, window: int) -> bool:
        return self.tokens() + self.room <= window
