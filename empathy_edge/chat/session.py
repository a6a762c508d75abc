"""The loop of the chat: what a person types, the commands that begin with a slash, and the answers."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from empathy_edge.chat.conversation import Conversation
from empathy_edge.chat.crisis import crisis_reply, shows_signs
from empathy_edge.chat.screen import Screen, side_by_side
from empathy_edge.console import console, say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.runtimes import Reply, Runtime, open_runtime

HELP = """\
/help            this
/stats           time to first token, tokens/s, context used, memory
/system [TEXT]   show, or change, what the model is told before the conversation
/reset           start over
/save FILE       write the conversation to a new file
/load FILE       go on with a saved one
/compare MODEL   let a second artifact answer as well; /compare off ends it
/quit            leave (also Ctrl-D)
A line that ends with \\ goes on in the next; Ctrl-C stops an answer."""


@dataclass(frozen=True)
class Settings:
    """How answers are made."""

    threads: int | None
    context: int
    max_new_tokens: int
    temperature: float
    seed: int
    markdown: bool = False
    crisis_help: bool = True
    country: str | None = None


class Chat:
    """A conversation with one artifact, or with two that answer side by side."""

    def __init__(self, model: str, settings: Settings, system: str | None = None) -> None:
        self.settings = settings
        self.interactive = sys.stdin.isatty()
        self.conversation = self._open(model)
        if system:
            self.conversation.system = system
        self.other: Conversation | None = None
        self.last: Reply | None = None
        self.other_last: Reply | None = None
        self._told_of_dropping = False

    def loop(self) -> None:
        """Ask and answer until /quit or the end of the input."""
        runtime = self.conversation.runtime
        if self.interactive:
            say(
                f"[bold]{escape(runtime.name)}[/] on {runtime.threads} threads. /help lists the commands, /quit leaves."
            )
        while (said := self._ask()) is not None:
            if said == "/quit":
                break
            if said.startswith("/"):
                self._command(said)
            elif said:
                self._answer(said)
        self.close()

    def once(self, said: str) -> None:
        """Answer one message and nothing else."""
        if not said.strip():
            raise EmpathyEdgeError("Nothing to answer: --once reads one message from the standard input.")
        self._answer(said.strip())
        self.close()

    def close(self) -> None:
        """Give the memory back."""
        self.conversation.runtime.close()
        if self.other:
            self.other.runtime.close()

    def _open(self, model: str) -> Conversation:
        settings = self.settings
        runtime = open_runtime(model, threads=settings.threads, context=settings.context)
        return Conversation(runtime, room=min(settings.max_new_tokens, settings.context // 2))

    def _ask(self) -> str | None:
        """One message; None at the end of the input."""
        lines: list[str] = []
        while True:
            try:
                line = (
                    console.input("[bold]› [/]" if not lines else "[dim]… [/]")
                    if self.interactive
                    else input()
                )
            except EOFError:
                return "\n".join(lines).strip() if lines else None
            except KeyboardInterrupt:
                if not self.interactive:
                    raise
                say("\n[dim]/quit leaves.[/]")
                lines = []
                continue
            if not line.endswith("\\"):
                return "\n".join([*lines, line]).strip()
            lines.append(line[:-1])

    def _answer(self, said: str) -> None:
        if self.settings.crisis_help and shows_signs(said):
            self._instead(said, crisis_reply(self.settings.country))
            return
        if self.other is None:
            self.last = self._speak(self.conversation, said) or self.last
            if self.interactive and self.last:
                say(f"[dim]{self._figures(self.conversation.runtime, self.last)}[/]")
            return
        self._answer_both(said)

    def _instead(self, said: str, text: str) -> None:
        """The program itself speaks, and not the model."""
        for conversation in filter(None, (self.conversation, self.other)):
            conversation.prompt(said)
            conversation.answer(text)
        screen = Screen()
        screen.write(text)
        screen.end()

    def _speak(self, conversation: Conversation, said: str, quiet: bool = False) -> Reply | None:
        """Stream one answer; None if it was stopped. What was said until then stays in the conversation."""
        messages, dropped = conversation.prompt(said)
        if dropped and not self._told_of_dropping:
            self._told_of_dropping = True
            say("[dim]The context is full: from now on the oldest turns are left out.[/]")
        settings, text = self.settings, ""
        screen = Screen(markdown=settings.markdown)
        reply: Reply | None = None
        try:
            for piece in conversation.runtime.stream(
                messages,
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                seed=settings.seed,
            ):
                if isinstance(piece, Reply):
                    reply = piece
                else:
                    text += piece
                    if not quiet:
                        screen.write(piece)
        except KeyboardInterrupt:
            if not self.interactive:
                raise
        except BaseException:
            conversation.turns.pop()
            raise
        finally:
            if not quiet:
                screen.end()
        if reply is None:
            say("[dim]Stopped.[/]")
        conversation.answer(reply.text if reply else text.strip())
        return reply

    def _answer_both(self, said: str) -> None:
        assert self.other
        self.last = self._speak(self.conversation, said, quiet=True)
        self.other_last = self._speak(self.other, said, quiet=True)
        pair = (self.conversation, self.other)
        side_by_side([item.runtime.name for item in pair], [item.turns[-1]["content"] for item in pair])
        if self.interactive:
            for item, reply in zip(pair, (self.last, self.other_last), strict=True):
                if reply:
                    say(f"[dim]{escape(item.runtime.name)}: {self._figures(item.runtime, reply)}[/]")

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        commands = {
            "/help": lambda: say(escape(HELP)),
            "/stats": self._stats,
            "/system": lambda: self._system(rest.strip()),
            "/reset": self._reset,
            "/save": lambda: self._file(rest.strip(), save=True),
            "/load": lambda: self._file(rest.strip(), save=False),
            "/compare": lambda: self._compare(rest.strip()),
        }
        if name not in commands:
            say(f"{escape(name)}: no such command; /help lists them. A message cannot begin with a slash.")
            return
        try:
            commands[name]()
        except EmpathyEdgeError as error:
            say(f"[red]{escape(str(error))}[/]")

    def _reset(self) -> None:
        self.conversation.reset()
        if self.other:
            self.other.reset()
        self._told_of_dropping = False
        say("Started over.")

    def _system(self, text: str) -> None:
        if not text:
            say(escape(self.conversation.system))
            return
        for conversation in filter(None, (self.conversation, self.other)):
            conversation.system = text
        say("From now on the model is told this; the conversation goes on.")

    def _file(self, name: str, *, save: bool) -> None:
        if not name:
            say("Which file? /save FILE, /load FILE")
            return
        path = Path(name).expanduser()
        if save:
            self.conversation.save(path)
            say(f"{escape(str(path))}: {len(self.conversation.turns)} turns written.")
            return
        self.conversation.load(path)
        if self.other:
            self.other.system, self.other.turns = self.conversation.system, [*self.conversation.turns]
        say(f"{escape(str(path))}: {len(self.conversation.turns)} turns; the conversation goes on there.")

    def _compare(self, model: str) -> None:
        if self.other:
            self.other.runtime.close()
            self.other = None
        if model in ("", "off"):
            say("One model answers. /compare MODEL lets a second one answer as well.")
            return
        self.other = self._open(model)
        self.other.system, self.other.turns = self.conversation.system, [*self.conversation.turns]
        say(f"From now on {escape(self.other.runtime.name)} answers as well.")

    def _stats(self) -> None:
        from empathy_edge.system.memory import memory_mb

        for conversation, reply in ((self.conversation, self.last), (self.other, self.other_last)):
            if conversation is None:
                continue
            runtime = conversation.runtime
            figures = self._figures(runtime, reply) if reply else "no answer yet"
            used = conversation.tokens() if conversation.turns else 0
            say(f"{escape(runtime.name)}: {figures}; context {used} of {runtime.context} tokens")
        if memory := memory_mb():
            say(
                f"memory: {memory['anonymous']:.0f} MB anonymous + {memory['file_backed']:.0f} MB file-backed, "
                f"peak {memory['peak_rss']:.0f} MB"
            )

    @staticmethod
    def _figures(runtime: Runtime, reply: Reply) -> str:
        speed = f"{reply.decode_tps:.0f} tokens/s" if reply.decode_tps else "one token"
        cut = ", cut off" if reply.finish_reason == "length" else ""
        read = reply.prompt_tokens - reply.cached_tokens
        return (
            f"first token {1000 * reply.ttft_s:.0f} ms, {speed}, {len(reply.token_ids)} tokens{cut}; prompt of "
            f"{reply.prompt_tokens}, {read} of them read anew"
        )


def chat(model: str, settings: Settings, *, once: bool = False, system: str | None = None) -> None:
    """Talk to a model on the terminal until /quit or the end of the input.

    Args:
        model: what `open_runtime` takes.
        settings: how answers are made.
        once: answer the whole standard input as one message, and end.
        system: what the model is told, instead of prompts/chat.yaml.
    """
    if sys.stdin.isatty() and not once:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - arrow keys and history in the prompt
    session = Chat(model, settings, system)
    if once:
        session.once(sys.stdin.read())
    else:
        session.loop()
