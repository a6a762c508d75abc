"""A chat template as the text between what is said, so that the page needs no Jinja and works offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from empathy_edge.bench.result_file import Record
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message, render
from empathy_edge.formats.prompt_shape import END, START, NoShape, shape_of

END_OF_THOUGHTS = "</think>"

WITH_THOUGHTS = (
    "<think>\nShe is sad.\n</think>\n\nI'm so sorry.",
    "She is sad.</think>I'm so sorry.",
    "<think>\nShe is sad, and",
)
"""Replies of models that think first: whole, without the mark that a prompt ends with, and cut off."""


class TemplatePieces(Record):
    """What a template writes before, between and after what is said.

    Attributes:
        start: before everything.
        after_system: between the system prompt and the first message; None where the template takes none.
        before_assistant: between what the person says and an earlier reply.
        after_assistant: between an earlier reply and the person's next message.
        reply: after the last message: it opens the reply to be made.
        thoughts: whether earlier replies keep what stands before `</think>`, or lose it, perhaps with the
            spaces around the reply.
    """

    start: str
    after_system: str | None
    before_assistant: str
    after_assistant: str
    reply: str
    thoughts: Literal["kept", "dropped", "dropped with spaces"] = "kept"

    def render(self, messages: Sequence[Message]) -> str:
        """The text that the model reads; the page does the same."""
        text = self.start
        for message in messages:
            if message["role"] == "system":
                text += "" if self.after_system is None else message["content"] + self.after_system
            elif message["role"] == "user":
                text += message["content"]
            else:
                text += self.before_assistant + self._earlier(message["content"]) + self.after_assistant
        return text + self.reply

    def _earlier(self, reply: str) -> str:
        if self.thoughts == "kept" or END_OF_THOUGHTS not in reply:
            return reply
        said = reply.rpartition(END_OF_THOUGHTS)[2]
        return said.strip() if self.thoughts == "dropped with spaces" else said


def template_pieces(template: str, *, bos: str = "", eos: str = "") -> TemplatePieces | None:
    """A template in pieces; None where they give another text than the template itself.

    Messages are taken to have no spaces around them, as the page sends them.

    Args:
        template: Jinja source.
        bos: the beginning-of-sequence token's text.
        eos: the end-of-sequence token's text.
    """
    try:
        shape = shape_of(template, bos=bos, eos=eos, any_spaces=False)
    except NoShape:
        return None
    if shape.system_is_late:
        return None
    gaps = shape.gaps
    pieces = TemplatePieces(
        start=gaps[START, "system" if shape.takes_system else "user"],
        after_system=gaps["system", "user"] if shape.takes_system else None,
        before_assistant=gaps["user", "assistant"],
        after_assistant=gaps["assistant", "user"],
        reply=gaps["user", END],
    )
    for thoughts in ("kept", "dropped", "dropped with spaces"):
        found = pieces.model_copy(update={"thoughts": thoughts})
        if all(_renders(found, template, reply, bos=bos, eos=eos) for reply in WITH_THOUGHTS):
            return found
    return pieces  # it does something else with thoughts; replies without them are right


def _renders(pieces: TemplatePieces, template: str, reply: str, *, bos: str, eos: str) -> bool:
    """Whether the pieces give the template's own text for a conversation with this reply."""
    messages = [
        *([] if pieces.after_system is None else [{"role": "system", "content": "You listen."}]),
        {"role": "user", "content": "My dog died."},
        {"role": "assistant", "content": reply},
        {"role": "user", "content": "Thank you."},
    ]
    try:
        return pieces.render(messages) == render(template, messages, bos=bos, eos=eos)
    except EmpathyEdgeError:
        return False
