"""The loop of the chat: what a person types, the commands that begin with a slash, and the replies."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from pathlib import Path

from rich.markup import escape

from empathy_edge.chat.chat_settings import ChatSettings
from empathy_edge.chat.conversation import Conversation, open_conversation
from empathy_edge.chat.crisis import crisis_reply, shows_signs
from empathy_edge.chat.message_input import MessageInput, read_all
from empathy_edge.chat.screen import Screen, side_by_side
from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError, did_you_mean
from empathy_edge.formats.json_lines import whole_characters
from empathy_edge.models.beside import models_beside, named
from empathy_edge.models.shipped import SHIPPED
from empathy_edge.models.templated_folder import name_of_templated
from empathy_edge.runtimes import Reply, Runtime

COMMANDS = {
    "/help": "this",
    "/stats": "time to first token, tokens/s, context used, memory",
    "/system [TEXT]": "show, or change, what the model is told before the conversation",
    "/reset": "start over",
    "/save FILE": "write the conversation to a new file: .md Markdown, .txt text, others JSON",
    "/load FILE": "go on with one that was saved as JSON",
    "/compare MODEL": "let a second one answer as well, by its path, or its name in the same folder; "
    "/compare off ends it",
    "/quit": "leave (also Ctrl-D)",
}
"""What begins with a slash, and what it does."""

OTHER_NAMES = {"/?": "/help", "/bye": "/quit", "/exit": "/quit", "/clear": "/reset"}
"""As other programs call the same."""

KEYS = '''\
A message of several lines stands between """ and """; or end each line with \\, or press Alt-Enter.
The arrow keys bring back what you said; Tab completes commands and files; Ctrl-C stops an answer.'''


class Chat:
    """A conversation with one model, or with two that reply side by side."""

    def __init__(self, model: str, settings: ChatSettings, system: str | None = None) -> None:
        self.settings = settings
        self.interactive = sys.stdin.isatty()
        self.conversation = open_conversation(model, settings)
        self.beside = models_beside(Path(name_of_templated(Path(model)) or model).expanduser())
        if system:
            self.conversation.system = system
        self.second: Conversation | None = None
        self.last_reply: Reply | None = None
        self.last_reply_of_second: Reply | None = None
        self._said_context_is_full = False

    def loop(self) -> None:
        """Read messages and answer them until /quit or the end of the input."""
        runtime = self.conversation.runtime
        if self.interactive:
            say(
                f"[bold]{escape(runtime.name)}[/] on {runtime.threads} threads. "
                "/help lists the commands, /quit leaves."
            )
        commands = [usage.split()[0] for usage in COMMANDS]
        messages = MessageInput(commands, self.settings.history, models=[*self.beside, *SHIPPED, "off"])
        while (said := self._next_message(messages)) is not None:
            if OTHER_NAMES.get(said, said) == "/quit":
                break
            if said:
                self._react(said)
        self.close()

    def once(self, said: str) -> None:
        """Answer one message and nothing else."""
        if not said.strip():
            raise EmpathyEdgeError("Nothing to answer: --once reads one message from the standard input.")
        self._answer(said.strip())
        self.close()

    def close(self) -> None:
        """Free the memory."""
        for conversation in self._conversations():
            conversation.runtime.close()

    def _conversations(self) -> Iterator[Conversation]:
        yield self.conversation
        if self.second:
            yield self.second

    def _next_message(self, messages: MessageInput) -> str | None:
        """What the person says next; None at the end of the input."""
        while True:
            try:
                return messages.read()
            except KeyboardInterrupt:
                if not self.interactive:
                    raise
                say("[dim]/quit leaves.[/]")

    def _react(self, said: str) -> None:
        """Answer, or do a command.

        After Ctrl-C on a terminal, and after an error, as of a message that is too long, the conversation is
        as it was before.
        """
        before = [(item, item.system, list(item.turns)) for item in self._conversations()]
        try:
            if said.startswith("/"):
                self._command(said)
            else:
                self._answer(said)
        except EmpathyEdgeError as error:
            why = f"[red]{escape(str(error))}[/]"
        except KeyboardInterrupt:
            if not self.interactive:
                raise
            why = "[dim]Stopped.[/]"
        else:
            return
        for conversation, system, turns in before:
            conversation.system, conversation.turns = system, turns
        say(why)

    def _answer(self, said: str) -> None:
        if self.settings.crisis_help and shows_signs(said):
            self._answer_without_model(said, crisis_reply(self.settings.country))
        elif self.second is None:
            reply = self._generate(self.conversation, said)
            self.last_reply = reply or self.last_reply
            if self.interactive and reply:
                say(f"[dim]{_figures(self.conversation.runtime, reply)}[/]")
        else:
            self._answer_side_by_side(said, self.second)

    def _answer_without_model(self, said: str, text: str) -> None:
        """Show a text of the program, as the reply to the message; before anything else that could fail."""
        screen = Screen()
        screen.write(text)
        screen.end()
        for conversation in self._conversations():
            conversation.add(said, text)

    def _answer_side_by_side(self, said: str, second: Conversation) -> None:
        self.last_reply = self._generate(self.conversation, said, quiet=True)
        self.last_reply_of_second = self._generate(second, said, quiet=True)
        both = (self.conversation, second)
        side_by_side([item.runtime.name for item in both], [item.turns[-1]["content"] for item in both])
        if self.interactive:
            for item, reply in zip(both, (self.last_reply, self.last_reply_of_second), strict=True):
                if reply:
                    say(f"[dim]{escape(item.runtime.name)}: {_figures(item.runtime, reply)}[/]")

    def _generate(self, conversation: Conversation, said: str, quiet: bool = False) -> Reply | None:
        """Generate a reply and show it, unless `quiet`; None if Ctrl-C stopped it.

        The text of a stopped reply stays in the conversation.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed before there was any text, or without a terminal.
        """
        messages, dropped = conversation.prompt(said)
        if dropped and not self._said_context_is_full:
            self._said_context_is_full = True
            say("[dim]The context is full: from now on the oldest turns are left out.[/]")
        settings = self.settings
        text = ""
        screen = None if quiet else Screen(markdown=settings.markdown)
        reply: Reply | None = None
        try:
            for piece in conversation.runtime.stream(
                messages,
                max_new_tokens=conversation.reply_tokens,
                temperature=settings.temperature,
                seed=settings.seed,
            ):
                if isinstance(piece, Reply):
                    reply = piece
                else:
                    text += piece
                    if screen:
                        screen.write(piece)
        except KeyboardInterrupt:
            if not self.interactive or not text:
                raise
        finally:
            if screen:
                screen.end()
        if reply is None:
            say("[dim]Stopped.[/]")
        conversation.answer(reply.text if reply else text.strip())
        return reply

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        name, argument = OTHER_NAMES.get(name, name), rest.strip()
        commands: dict[str, Callable[[], None]] = {
            "/help": _help,
            "/stats": self._stats,
            "/system": lambda: self._system(argument),
            "/reset": self._reset,
            "/save": lambda: self._save(argument),
            "/load": lambda: self._load(argument),
            "/compare": lambda: self._compare(argument),
        }
        if name not in commands:
            say(f"{escape(name)}: no such command; /help lists them. A message cannot begin with a slash.")
            return
        try:
            commands[name]()
        except (EmpathyEdgeError, OSError, RuntimeError) as error:
            say(f"[red]{escape(str(error))}[/]")

    def _stats(self) -> None:
        from empathy_edge.system.memory import memory_mb

        self._say_stats(self.conversation, self.last_reply)
        if self.second:
            self._say_stats(self.second, self.last_reply_of_second)
        if memory := memory_mb():
            say(
                f"memory: {memory['anonymous']:.0f} MB anonymous + "
                f"{memory['file_backed']:.0f} MB file-backed, peak {memory['peak_rss']:.0f} MB"
            )

    @staticmethod
    def _say_stats(conversation: Conversation, reply: Reply | None) -> None:
        runtime = conversation.runtime
        figures = _figures(runtime, reply) if reply else "no answer yet"
        used = conversation.tokens() if conversation.turns else 0
        say(f"{escape(runtime.name)}: {figures}; context {used} of {runtime.context} tokens")

    def _system(self, text: str) -> None:
        if not text:
            say(escape(self.conversation.system))
            return
        for conversation in self._conversations():
            conversation.system = text
        say("From now on the model is told this; the conversation goes on.")

    def _reset(self) -> None:
        for conversation in self._conversations():
            conversation.reset()
        self._said_context_is_full = False
        say("Started over.")

    def _save(self, name: str) -> None:
        if (path := _path(name)) is None:
            return
        self.conversation.save(path, self.second)
        both = ", of both models" if self.second else ""
        say(f"{escape(str(path))}: {len(self.conversation.turns)} turns written{both}.")

    def _load(self, name: str) -> None:
        if (path := _path(name)) is None:
            return
        self.conversation.load(path)
        if self.second:
            self._copy_conversation(self.second)
        say(f"{escape(str(path))}: {len(self.conversation.turns)} turns; the conversation goes on there.")

    def _compare(self, model: str) -> None:
        if self.second:
            closed, self.second = self.second, None
            closed.runtime.close()
        if model in ("", "off"):
            say("One model answers. /compare MODEL lets a second one answer as well.")
            return
        self.second = open_conversation(self._beside(model), self.settings)
        self._copy_conversation(self.second)
        say(f"From now on {escape(self.second.runtime.name)} answers as well.")

    def _beside(self, model: str) -> str:
        """What to open for a model's name: a model beside the first one may be given by its name alone.

        Raises:
            EmpathyEdgeError: the name is of no file and of no model that is known here.
        """
        if Path(model).expanduser().exists():
            return model
        if model in self.beside:
            return str(self.beside[model])
        if "/" in model or model in SHIPPED or not self.beside:
            return model
        raise EmpathyEdgeError(
            f"{model}: no such model.{did_you_mean(model, [*self.beside, *SHIPPED])}\n"
            f"  Beside {self.conversation.runtime.name} there are: {named(self.beside)}. "
            "Or give a path, or a shipped model's name."
        )

    def _copy_conversation(self, second: Conversation) -> None:
        second.system = self.conversation.system
        second.turns = [*self.conversation.turns]


def _help() -> None:
    """Say what can be typed."""
    for usage, does in COMMANDS.items():
        say(escape(f"{usage:<16} {does}"))
    say(escape(KEYS))


def _path(name: str) -> Path | None:
    """The file that /save or /load names; None, with a question, where it names none."""
    if name:
        return Path(name).expanduser()
    say("Which file? /save FILE, /load FILE")
    return None


def _figures(runtime: Runtime, reply: Reply) -> str:
    """Time to first token, speed and tokens of a reply."""
    speed = f"{reply.decode_tps:.0f} tokens/s" if reply.decode_tps else "one token"
    cut_off = ", cut off" if reply.finish_reason == "length" else ""
    new_prompt_tokens = reply.prompt_tokens - reply.cached_tokens
    read = f"{new_prompt_tokens} of them read again" if reply.cached_tokens else "all of it read"
    return (
        f"first token {1000 * reply.ttft_s:.0f} ms, {speed}, {len(reply.token_ids)} tokens{cut_off}; "
        f"prompt of {reply.prompt_tokens}, {read}"
    )


def chat(model: str, settings: ChatSettings, *, once: bool = False, system: str | None = None) -> None:
    """Talk to a model on the terminal until /quit or the end of the input.

    Args:
        model: what `open_runtime` takes.
        settings: how the model is loaded and how replies are made.
        once: answer the whole standard input as one message, and end.
        system: the system prompt, instead of the one in prompts/chat.yaml.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what a terminal or file cannot show ends no conversation
    session = Chat(model, settings, whole_characters(system))
    if once:
        session.once(read_all())
    else:
        session.loop()
