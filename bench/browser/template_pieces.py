"""A chat template as the text between what is said, so that the page needs no Jinja and works offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from empathy_edge.bench.result_file import Record
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION, Message, render, takes_system

_MARK = "\u241fsaid\u241f"
"""Stands for what someone says."""


class TemplatePieces(Record):
    """What a template writes before, between and after what is said.

    Attributes:
        start: before everything.
        after_system: between the system prompt and the first message; None where the template takes none.
        after_user: after what the person says.
        before_assistant: then, before an earlier reply.
        after_assistant: between an earlier reply and the person's next message.
        reply: after the last message: it opens the reply to be made.
    """

    start: str
    after_system: str | None
    after_user: str
    before_assistant: str
    after_assistant: str
    reply: str

    def render(self, messages: Sequence[Message]) -> str:
        """The text that the model reads; the page does the same."""
        text = self.start
        for message in messages:
            if message["role"] == "system":
                text += "" if self.after_system is None else message["content"] + self.after_system
            elif message["role"] == "user":
                text += message["content"] + self.after_user
            else:
                text += self.before_assistant + message["content"] + self.after_assistant
        return text + self.reply


def template_pieces(template: str, *, bos: str = "", eos: str = "") -> TemplatePieces | None:
    """A template in pieces; None where they give another text than the template itself.

    Args:
        template: Jinja source.
        bos: the beginning-of-sequence token's text.
        eos: the end-of-sequence token's text.
    """

    def rendered(messages: list[Message], *, generate: bool = False) -> str:
        return render(template, messages, generate=generate, bos=bos, eos=eos)

    has_system = takes_system(template)
    try:
        found = _take_apart(rendered, has_system)
        if found is None:
            return None
        for messages in _conversations(has_system):
            if found.render(messages) != rendered(messages, generate=True):
                return None
    except EmpathyEdgeError:  # the template refuses some conversation
        return None
    return found


class _Rendered(Protocol):
    """The template, applied to messages."""

    def __call__(self, messages: list[Message], *, generate: bool = False) -> str: ...


def _take_apart(rendered: _Rendered, has_system: bool) -> TemplatePieces | None:
    """The pieces, from a conversation of two turns; None where they do not show in it."""
    roles = [*(["system"] if has_system else []), "user", "assistant", "user"]
    messages: list[Message] = [{"role": role, "content": _MARK} for role in roles]
    whole = rendered(messages)
    texts = whole.split(_MARK)
    if len(texts) != len(roles) + 1:
        return None
    *head, after_first, after_assistant, after_user = texts
    if not after_first.startswith(after_user):
        return None
    return TemplatePieces(
        start=head[0],
        after_system=head[1] if has_system else None,
        after_user=after_user,
        before_assistant=after_first.removeprefix(after_user),
        after_assistant=after_assistant,
        reply=rendered(messages, generate=True).removeprefix(whole),
    )


def _conversations(has_system: bool) -> list[list[Message]]:
    """Conversations for which the pieces must give the template's own text."""
    first: Message = {"role": "user", "content": "My dog died."}
    reply: Message = {"role": "assistant", "content": "I am sorry."}
    second: Message = {"role": "user", "content": "Thank you."}
    head: list[Message] = [{"role": "system", "content": "Be warm."}] if has_system else []
    golden = [message for message in GOLDEN_CONVERSATION if has_system or message["role"] != "system"]
    longer = [*head, first, reply, second, reply, first]
    return [[*head, first], [*head, first, reply, second], longer, golden]
