"""`chat`: a conversation with a model, as an object instead of the loop on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Self

from empathy_edge.api.calls import AnyPath, called, model_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from empathy_edge.chat.chat_settings import ChatSettings
    from empathy_edge.chat.conversation import Conversation
    from empathy_edge.formats.chat_format import Message
    from empathy_edge.runtimes import Reply


@dataclass(frozen=True)
class ChatReply:
    """A reply; `str` gives its text.

    Attributes:
        text: what is said.
        ttft_s: seconds to the first token; None where the model was not asked.
        decode_tps: tokens per second after the first one; None for fewer than two tokens.
        tokens: how many tokens the reply has, the stop token left out.
        cut_off: whether it ended at `max_new_tokens`, and not by itself.
        from_model: False where the program named human help instead, on open signs of self-harm.
        dropped_turns: how many of the oldest turns were left out, since the context window was full.
    """

    text: str
    ttft_s: float | None
    decode_tps: float | None
    tokens: int
    cut_off: bool
    from_model: bool
    dropped_turns: int

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        figures = "not of the model" if self.ttft_s is None else f"first token {1000 * self.ttft_s:.0f} ms"
        if self.decode_tps is not None:
            figures += f", {self.decode_tps:.0f} tokens/s"
        cut_off = ", cut off" if self.cut_off else ""
        text = escape(self.text).replace("\n", "<br>")
        return f"<div>{text}</div><div><small>{figures}, {self.tokens} tokens{cut_off}</small></div>"


class Chat:
    """A conversation with one model, which keeps its turns. Close it, or use it in a `with` block.

    Attributes:
        settings: how replies are made.
        last_reply: the last whole reply; None before it, and where a reply was left unfinished.
    """

    def __init__(self, conversation: Conversation, settings: ChatSettings) -> None:
        self.settings = settings
        self.last_reply: ChatReply | None = None
        self._conversation = conversation
        self._stream: Generator[str, None, None] | None = None
        self._is_open = True

    @property
    def model(self) -> str:
        """The model's or artifact's name."""
        return self._conversation.runtime.name

    @property
    def system(self) -> str:
        """What the model is told before the conversation."""
        return self._conversation.system

    @property
    def turns(self) -> tuple[Message, ...]:
        """The turns so far, each with a role (user or assistant) and a content."""
        return tuple(self._conversation.turns)

    def say(self, said: str) -> ChatReply:
        """Say something, and get the whole reply.

        Raises:
            EmpathyEdgeError: the message is empty or too long for the context window, or the chat is closed.
        """
        for _ in self.stream(said):
            pass
        assert self.last_reply is not None
        return self.last_reply

    def stream(self, said: str) -> Iterator[str]:
        """Say something, and get the reply in pieces as they are made; `last_reply` has the whole one then.

        A reply that is left unfinished stays in the conversation as far as it came; before its first piece,
        and after an error, the conversation is as it was before.

        Raises:
            EmpathyEdgeError: as `say`.
        """
        from empathy_edge.errors import EmpathyEdgeError
        from empathy_edge.formats.json_lines import whole_characters

        self._require_open()
        if not said.strip():
            raise EmpathyEdgeError("Nothing to answer: the message is empty.")
        self._end_stream()
        self._stream = self._pieces(whole_characters(said.strip()))
        return self._stream

    def reset(self) -> None:
        """Forget every turn."""
        self._require_open()
        self._end_stream()
        self._conversation.reset()
        self.last_reply = None

    def close(self) -> None:
        """Free the model's memory; the turns stay readable."""
        if self._is_open:
            self._end_stream()
            self._is_open = False
            self._conversation.runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"{len(self.turns)} turns" if self._is_open else "closed"
        return f"<Chat with {self.model}, {state}>"

    def _pieces(self, said: str) -> Generator[str, None, None]:
        from empathy_edge.chat.crisis import crisis_reply, shows_signs

        self.last_reply = None
        if self.settings.crisis_help and shows_signs(said):
            text = crisis_reply(self.settings.country)
            self._conversation.add(said, text)
            self.last_reply = ChatReply(text, None, None, 0, False, False, 0)
            yield text
            return
        before = list(self._conversation.turns)
        text = ""
        try:
            messages, dropped = self._conversation.prompt(said)
            for piece in self._replies(messages):
                if isinstance(piece, str):
                    text += piece
                    yield piece
                else:
                    text = piece.text
                    self.last_reply = _reply_of(piece, dropped)
        except BaseException as error:
            if text and isinstance(error, (GeneratorExit, KeyboardInterrupt)):
                self._conversation.answer(text.strip())
            else:
                self._conversation.turns = before
            raise
        self._conversation.answer(text)

    def _replies(self, messages: list[Message]) -> Iterator[str | Reply]:
        settings = self.settings
        return self._conversation.runtime.stream(
            messages,
            max_new_tokens=self._conversation.reply_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
        )

    def _end_stream(self) -> None:
        """Take up what came of an unfinished reply."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _require_open(self) -> None:
        from empathy_edge.errors import EmpathyEdgeError

        if not self._is_open:
            raise EmpathyEdgeError("This chat is closed; open another one.")


def _reply_of(reply: Reply, dropped: int) -> ChatReply:
    return ChatReply(
        text=reply.text,
        ttft_s=reply.ttft_s,
        decode_tps=reply.decode_tps,
        tokens=len(reply.token_ids),
        cut_off=reply.finish_reason == "length",
        from_model=True,
        dropped_turns=dropped,
    )


def chat(
    model: AnyPath = "smollm2-135m",
    *,
    system: str | None = None,
    template: str | None = None,
    settings: ChatSettings | None = None,
) -> Chat:
    """Open a model for a conversation.

    On open signs of self-harm the model is not asked: the reply names human help, as in the terminal's chat
    (`crisis_help` of the settings, on by default).

    Args:
        model: an artifact of `export`, an artifact folder, a .gguf or .litertlm file, a checkpoint's folder,
            a hub id or a shipped name.
        system: what the model is told before the conversation; by default the text in prompts/chat.yaml.
        template: another chat template than the model's: a name or a Jinja file.
        settings: threads, context window, length and sampling of replies; by default the defaults.

    Raises:
        EmpathyEdgeError: there is no such model, or it cannot be opened.
        PrerequisiteError: its runtime is not installed.
    """
    from empathy_edge.chat.chat_settings import ChatSettings
    from empathy_edge.chat.conversation import open_conversation
    from empathy_edge.formats.json_lines import whole_characters
    from empathy_edge.models.templates import name_with_template

    chosen = settings or ChatSettings()
    with called():
        conversation = open_conversation(name_with_template(model_of(model), template), chosen)
    if system:
        conversation.system = whole_characters(system)
    return Chat(conversation, chosen)
