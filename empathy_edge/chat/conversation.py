"""A conversation: its turns, as many of them as fit into the context window, and its file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from rich.markup import escape

from empathy_edge.chat.chat_settings import ChatSettings
from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message
from empathy_edge.formats.json_lines import whole_characters
from empathy_edge.prompts import load_prompts
from empathy_edge.runtimes import Runtime, open_runtime
from empathy_edge.system.files import write_atomically

KEPT_SHARE = 0.6
"""When the context window is full, old turns are dropped until the rest fits into this share of the prompt's
room: of what the reply leaves of the window.

The prompt cache is lost when turns are dropped; so it is lost now and then, and not at every turn.
"""

FOR_PEOPLE = (".md", ".markdown", ".txt")
"""How the names of files end that people read: Markdown and text."""

MAX_FILE_BYTES = 10_000_000


@dataclass
class Conversation:
    """The turns so far, and as many of them as fit into the context window.

    Attributes:
        runtime: the model.
        reply_tokens: tokens of the context window that are kept free for the reply.
        system: the system prompt.
        turns: user and assistant in turn.
    """

    runtime: Runtime
    reply_tokens: int
    system: str = field(default_factory=lambda: load_prompts("chat").text("system"))
    turns: list[Message] = field(default_factory=list)

    def prompt(self, said: str) -> tuple[list[Message], int]:
        """Add what the person said; returns the messages that fit, and how many old turns were dropped.

        The oldest turns are dropped first, in pairs.
        """
        self.turns.append({"role": "user", "content": said})
        dropped = 0
        room = self.runtime.context - self.reply_tokens
        if self.tokens() > room:
            while len(self.turns) > 1 and self.tokens() > KEPT_SHARE * room:
                del self.turns[:2]
                dropped += 2
        return self.messages(), dropped

    def answer(self, text: str) -> None:
        """Add the reply."""
        self.turns.append({"role": "assistant", "content": text})

    def add(self, said: str, text: str) -> None:
        """Add a message and a reply that is not the model's; nothing is tokenized for it."""
        self.turns.append({"role": "user", "content": said})
        self.answer(text)

    def reset(self) -> None:
        """Forget every turn."""
        self.turns.clear()
        self.runtime.forget()

    def messages(self) -> list[Message]:
        """System prompt and turns, as the model gets them."""
        return [{"role": "system", "content": self.system}, *self.turns]

    def tokens(self) -> int:
        """How many tokens the conversation has."""
        return len(self.runtime.encode(self.messages()))

    def save(self, path: Path, second: Conversation | None = None) -> None:
        """Write the conversation; an existing file is not overwritten.

        By the end of the file's name: Markdown (.md, .markdown), text (.txt), else JSON, which alone can be
        loaded again.

        Args:
            path: the file.
            second: another model's answers to the same messages, which are written as well.
        """
        if path.exists():
            raise EmpathyEdgeError(f"{path}: exists already; choose another name.")
        if is_to_read(path):
            write_atomically(path, self._to_read(path.suffix.lower() != ".txt", second))
            return
        content: dict[str, object] = {"system": self.system, "turns": self.turns}
        if second:
            content["compared"] = {"model": second.runtime.name, "turns": second.turns}
        write_atomically(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")

    def _to_read(self, markdown: bool, second: Conversation | None) -> str:
        """System prompt and turns for people, a name above each text; two answers below each other."""
        names = {"system": "System", "user": "You", "assistant": self.runtime.name}
        parts: list[str] = []
        for message, other in zip(self.messages(), self._answers_of(second), strict=True):
            said = [(names[message["role"]], message["content"])]
            if second and other is not None and other != message["content"]:
                said.append((second.runtime.name, other))
            for name, text in said:
                parts += [f"**{name}**" if markdown else f"{name}:", text]
        return "\n\n".join(parts) + "\n"

    def _answers_of(self, second: Conversation | None) -> list[str | None]:
        """For each of our messages the second model's answer in its place; None where it has none.

        Each conversation drops its oldest turns by itself, so that only their ends stand beside each other.
        """
        own = self.messages()
        answers: list[str | None] = [None] * len(own)
        if second:
            for distance, (ours, theirs) in enumerate(
                zip(reversed(self.turns), reversed(second.turns), strict=False), 1
            ):
                if ours["role"] == theirs["role"] == "assistant":
                    answers[-distance] = theirs["content"]
        return answers

    def load(self, path: Path) -> None:
        """Replace the conversation by a saved one.

        Raises:
            EmpathyEdgeError: the file is not one; the conversation is not changed.
        """
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ValueError("it is larger than 10 MB")
            written = path.read_text(encoding="utf-8")
            content = whole_characters(json.loads(written), written)
            system = content["system"]
            turns: list[Message] = [
                {"role": turn["role"], "content": turn["content"]} for turn in content["turns"]
            ]
            _check(system, turns)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            why = f" ({error})."
            if is_to_read(path) and not isinstance(error, OSError):
                why = ". Markdown and text are to read; save it as .json to load it."
            raise EmpathyEdgeError(f"{path}: is no conversation that /save wrote{why}") from None
        self.system = system
        self.turns = turns


def is_to_read(path: Path) -> bool:
    """Whether a conversation is saved in such a file for people, not to be loaded again."""
    return path.suffix.lower() in FOR_PEOPLE


def open_conversation(model: str, settings: ChatSettings) -> Conversation:
    """A new conversation with a model.

    Args:
        model: what `open_runtime` takes.
        settings: threads, context window and the length of replies, which take at most half of the window
            that the model has.

    Raises:
        EmpathyEdgeError: replies may be so long that there is no room for a conversation; or the model's.
    """
    if settings.max_new_tokens > settings.context // 2:
        raise EmpathyEdgeError(
            f"A reply of {settings.max_new_tokens} tokens leaves no room for a conversation in a context "
            f"of {settings.context}; --max-new-tokens may be at most half of --context."
        )
    runtime = open_runtime(model, threads=settings.threads, context=settings.context)
    reply_tokens = min(settings.max_new_tokens, runtime.context // 2)
    if reply_tokens < settings.max_new_tokens:
        say(
            f"[dim]{escape(runtime.name)}: its context window has {runtime.context} tokens; "
            f"a reply gets at most {reply_tokens} of them.[/]"
        )
    return Conversation(runtime, reply_tokens=reply_tokens)


def _check(system: object, turns: list[Message]) -> None:
    """Raise ValueError for what /save has not written."""
    roles = [turn["role"] for turn in turns]
    texts = [system, *(turn["content"] for turn in turns)]
    if roles != ["user", "assistant"] * (len(turns) // 2) or not all(isinstance(text, str) for text in texts):
        raise ValueError("its turns are not user and assistant in turn")
