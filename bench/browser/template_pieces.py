"""A chat template as the text around each turn, so that the page needs no Jinja and works offline."""

from __future__ import annotations

from collections.abc import Sequence

from empathy_edge.bench.result_file import Record
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION, Message, render, takes_system
from empathy_edge.runtimes import Runtime

_MARK = "\u241fsaid\u241f"
"""Stands for what someone says."""

Around = tuple[str, str]
"""The text before and after a turn's content."""


class TemplatePieces(Record):
    """What a template writes around each turn.

    Attributes:
        start: before everything (the beginning-of-sequence token, or nothing).
        system: around the system turn; None where the template takes none.
        user: around what the person says.
        assistant: around an earlier reply.
        reply: what opens the reply to be made.
    """

    start: str
    system: Around | None
    user: Around
    assistant: Around
    reply: str

    def render(self, messages: Sequence[Message]) -> str:
        """The text that the model reads; the page does the same."""
        pieces = {"system": self.system, "user": self.user, "assistant": self.assistant}
        text = self.start
        for message in messages:
            around = pieces[message["role"]]
            if around is not None:
                text += around[0] + message["content"] + around[1]
        return text + self.reply


def template_pieces(runtime: Runtime) -> TemplatePieces | None:
    """The model's template in pieces; None where they give another text than the template itself."""
    has_system = takes_system(runtime.template)
    try:
        found = _take_apart(runtime, has_system)
        if found is None:
            return None
        for messages in _conversations(has_system):
            if found.render(messages) != _rendered(runtime, messages, generate=True):
                return None
    except EmpathyEdgeError:  # the template refuses some conversation
        return None
    return found


def _rendered(runtime: Runtime, messages: list[Message], *, generate: bool = False) -> str:
    return render(runtime.template, messages, generate=generate, bos=runtime.bos, eos=runtime.eos)


def _take_apart(runtime: Runtime, has_system: bool) -> TemplatePieces | None:
    """The pieces, from a conversation of one turn and one of two; None where they do not show them."""
    roles = ["system", "user", "assistant"] if has_system else ["user", "assistant"]
    turns: list[Message] = [{"role": role, "content": _MARK} for role in roles]
    one, two = _rendered(runtime, turns[:-1]), _rendered(runtime, turns)
    reply = _rendered(runtime, turns[:-1], generate=True).removeprefix(one)
    start = runtime.bos if runtime.bos and one.startswith(runtime.bos) else ""
    between = one.removeprefix(start).split(_MARK)
    answer = two.removeprefix(one).split(_MARK)
    if not two.startswith(one) or len(between) != len(roles) or len(answer) != 2:
        return None
    assistant = (answer[0], answer[1])
    if not has_system:
        user = (between[0], between[1])
        return TemplatePieces(start=start, system=None, user=user, assistant=assistant, reply=reply)
    before_user = _before_user(between[1], [between[2], answer[1]])
    return TemplatePieces(
        start=start,
        system=(between[0], between[1].removesuffix(before_user)),
        user=(before_user, between[2]),
        assistant=assistant,
        reply=reply,
    )


def _before_user(text: str, ends: Sequence[str]) -> str:
    """Of the text between system and user turn, what belongs to the user's: turns end in one of `ends`."""
    for end in ends:
        if end and text.startswith(end):
            return text.removeprefix(end)
    return text


def _conversations(has_system: bool) -> list[list[Message]]:
    """Conversations for which the pieces must give the template's own text."""
    first: Message = {"role": "user", "content": "My dog died."}
    reply: Message = {"role": "assistant", "content": "I am sorry."}
    second: Message = {"role": "user", "content": "Thank you."}
    head: list[Message] = [{"role": "system", "content": "Be warm."}] if has_system else []
    golden = [message for message in GOLDEN_CONVERSATION if has_system or message["role"] != "system"]
    return [[*head, first], [*head, first, reply, second], golden]
