"""The shape of a chat template: the text between any two messages, found by rendering marked conversations.

Most templates write a fixed text between what two roles say: `<|im_end|>\n<|im_start|>assistant\n` between a
user's message and the assistant's. Such a template can be written in another template language. One that
looks into the messages, or counts them, cannot: that is found here, and said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message, render, takes_system

Roles = tuple[str, ...]

START, END = "", "end"
"""What stands for a role before the first message, and after the last one."""

WHITESPACE = " \t\n\r\v\f"
"""What is taken off a message by a template that trims; Jinja's `trim` also takes rarer spaces off."""

USUAL: tuple[Roles, ...] = (
    ("user",),
    ("user", "assistant", "user"),
    ("user", "assistant", "user", "assistant", "user"),
)
"""Conversations that every template renders."""

WITH_SYSTEM: tuple[Roles, ...] = tuple(("system", *roles) for roles in USUAL)

RARE: tuple[Roles, ...] = (
    ("assistant", "user"),
    ("system", "assistant", "user"),
    ("user", "assistant", "system", "user"),
    ("user", "assistant"),
)
"""Conversations that some templates refuse; such a template has no text for them."""

_SPACES = "\n \t\n"


class NoShape(EmpathyEdgeError):
    """A template that no fixed texts between messages can stand for; says why."""


@dataclass(frozen=True)
class PromptShape:
    """The fixed texts of a chat template.

    Attributes:
        gaps: (role before, role after) → the text between what they say; START and END stand for the ends.
        trimmed: the roles whose messages lose the spaces around them.
        system_is_late: the system turn stands before the last user's message and not at the beginning.
        after_system: the text after a late system turn.
    """

    gaps: Mapping[tuple[str, str], str]
    trimmed: frozenset[str] = field(default_factory=frozenset)
    system_is_late: bool = False
    after_system: str = ""

    @property
    def takes_system(self) -> bool:
        """Whether a system turn is shown at all."""
        return self.system_is_late or (START, "system") in self.gaps

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt of a conversation; messages that the template has no place for are left out."""
        before, text = START, ""
        said = [item["content"] for item in messages if item["role"] == "system"]
        system = self._shown("system", "\n\n".join(said))
        users = [place for place, item in enumerate(messages) if item["role"] == "user"]
        for place, message in enumerate(messages):
            gap = self.gaps.get((before, message["role"]))
            if gap is None:
                continue
            text += gap
            if self.system_is_late and system and users[-1:] == [place]:
                text += system + self.after_system
            text += self._shown(message["role"], message["content"])
            before = message["role"]
        return text + self.gaps.get((before, END), "")

    def _shown(self, role: str, content: str) -> str:
        return content.strip(WHITESPACE) if role in self.trimmed else content


def shape_of(template: str, *, bos: str, eos: str, any_spaces: bool = True) -> PromptShape:
    """The shape of a chat template, proven on conversations of one to five turns.

    Args:
        template: Jinja source.
        bos: the beginning-of-sequence token's text.
        eos: the end-of-sequence token's text.
        any_spaces: whether messages may have spaces around them; then it is found which of them are kept.

    Raises:
        NoShape: no fixed texts can stand for it.
    """
    probe = _Probe(template, bos, eos)
    gaps = probe.gaps(USUAL)
    late = takes_system(template) and probe.system_is_late()
    if late:
        after_system = probe.after_late_system()
    elif takes_system(template):
        gaps |= probe.gaps(WITH_SYSTEM, known=gaps)
    for roles in RARE:
        gaps = probe.with_rare(roles, gaps)
    said_by = ("system", "user", "assistant") if any_spaces else ()
    trimmed = frozenset(role for role in said_by if probe.trims(role))
    shape = PromptShape(gaps, trimmed, late, after_system if late else "")
    proved = (*USUAL, *WITH_SYSTEM) if shape.takes_system else USUAL
    for roles in proved:
        texts = _TEXTS if any_spaces else tuple(text.strip() for text in _TEXTS)
        said = zip(roles, texts, strict=False)
        probe.prove(shape, [{"role": role, "content": text} for role, text in said])
    return shape


_TEXTS = (
    "You listen.  Be brief.",
    " It's <b>13½</b> km, \"far\" & 'cold'…\n\n\tWhat now? 😢 ",
    "I'm sorry {{ name }}.\n",
    "\nMerci — 谢谢 {% if %}",
    "Of course. [1] <|x|>",
    "No",
)
"""What is said in the conversations of the proof; odd spaces, quotes and braces among it."""


@dataclass(frozen=True)
class _Probe:
    """A template, and the tokens that it writes."""

    template: str
    bos: str
    eos: str

    def rendered(self, messages: list[Message]) -> str | None:
        """The prompt; None where the template refuses the conversation."""
        try:
            return render(self.template, messages, bos=self.bos, eos=self.eos)
        except EmpathyEdgeError:
            return None

    def gaps(
        self, conversations: Iterable[Roles], known: Mapping[tuple[str, str], str] | None = None
    ) -> dict[tuple[str, str], str]:
        """The texts between messages of these conversations.

        Raises:
            NoShape: a conversation is refused, or one gap has two texts.
        """
        found = dict(known or {})
        for roles in conversations:
            texts = self._texts_between(roles)
            if texts is None:
                raise NoShape(f"it does not write the messages {', '.join(roles)} one after the other")
            for pair, text in zip(_pairs(roles), texts, strict=True):
                if found.setdefault(pair, text) != text:
                    raise NoShape(f"what it writes {_between(pair)} depends on more than the message before")
        return found

    def with_rare(self, roles: Roles, gaps: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
        """The gaps, and those of a rare conversation where it fits to them."""
        try:
            return self.gaps((roles,), known=gaps)
        except NoShape:
            return gaps

    def _texts_between(self, roles: Roles) -> list[str] | None:
        """The text before each marked message and after the last; None where one is not in its place."""
        rest = self.rendered(_marked(roles)) or ""
        texts = []
        for place in range(len(roles)):
            before, found, rest = rest.partition(_mark(place))
            if not found:
                return None
            texts.append(before)
        return [*texts, rest]

    def system_is_late(self) -> bool:
        """Whether a system turn at the beginning is written after the first user's message."""
        marked = self.rendered(_marked(("system", "user", "assistant", "user")))
        return marked is not None and marked.find(_mark(0)) > marked.find(_mark(1))

    def after_late_system(self) -> str:
        """The text between a late system turn and what the user says."""
        marked = self.rendered(_marked(("system", "user"))) or ""
        return marked.partition(_mark(0))[2].partition(_mark(1))[0]

    def trims(self, role: str) -> bool:
        """Whether the template takes the spaces off around a role's messages.

        Raises:
            NoShape: it takes some of them off.
        """
        roles: Roles = ("user", "assistant", "user") if role != "system" else ("system", "user")
        messages = _marked(roles)
        place = roles.index(role)
        plain = self.rendered(messages)
        mark = _mark(place)
        messages[place] = {"role": role, "content": f"{_SPACES}{mark}{_SPACES}"}
        spaced = self.rendered(messages)
        if plain is None or spaced is None or mark not in plain:
            return False  # it shows no such turn
        if spaced == plain:
            return True
        if spaced != plain.replace(mark, f"{_SPACES}{mark}{_SPACES}"):
            raise NoShape(f"it takes some of the spaces off around what the {role} says")
        return False

    def prove(self, shape: PromptShape, messages: list[Message]) -> None:
        """Compare the template with its shape on one conversation.

        Raises:
            NoShape: they differ.
        """
        if self.rendered(messages) != shape.render(messages):
            roles = ", ".join(message["role"] for message in messages)
            raise NoShape(f"it writes the messages {roles} otherwise than piece by piece")


def _mark(place: int) -> str:
    return f"\u241fmessage-{place}\u241f"


def _marked(roles: Roles) -> list[Message]:
    return [{"role": role, "content": _mark(place)} for place, role in enumerate(roles)]


def _pairs(roles: Roles) -> Iterable[tuple[str, str]]:
    """The roles on both sides of each gap of a conversation."""
    return zip((START, *roles), (*roles, END), strict=True)


def _between(pair: tuple[str, str]) -> str:
    before, after = pair
    if before == START:
        return f"before the first message, the {after}'s,"
    return f"after the last message, the {before}'s," if after == END else f"between {before} and {after}"
