"""What a person types, one message at a time: on a terminal with history, completion and pasted lines."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import whole_characters

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completion
    from prompt_toolkit.document import Document

QUOTES = '"""'
"""Stands before and after a message of several lines, as in Ollama's chat."""

TAKES_FILE = ("/save", "/load", "/compare")
"""Commands whose argument is completed as a path."""


def is_unfinished(text: str) -> bool:
    """Whether the message goes on in the next line: it ends with a backslash, or its quotes are open."""
    begun = text.lstrip()
    if begun.startswith(QUOTES):
        return QUOTES not in begun[len(QUOTES) :]
    return text.endswith("\\")


def message_of(text: str) -> str:
    """The message without quotes around it and without the backslashes at the ends of its lines."""
    begun = text.strip()
    if begun.startswith(QUOTES):
        inside, _, after = begun[len(QUOTES) :].partition(QUOTES)
        return (inside + after).strip()
    lines = [line.removesuffix("\\") for line in text.split("\n")]
    return "\n".join(lines).strip()


class MessageInput:
    """Reads messages from a terminal, or line by line from a pipe.

    Args:
        commands: what begins with a slash; the Tab key completes it.
        history: a file that keeps what was typed for the arrow keys of the next chat. By default nothing is
            kept beyond this chat.
        models: names that the Tab key completes after /compare, beside paths.

    Raises:
        EmpathyEdgeError: the file cannot be written.
    """

    def __init__(
        self, commands: Sequence[str], history: Path | None = None, models: Sequence[str] = ()
    ) -> None:
        self._read: Callable[[], str] = self._lines
        if sys.stdin.isatty():
            session = _terminal(commands, history, models)
            self._read = lambda: str(session.prompt())

    def read(self) -> str | None:
        """The next message, maybe an empty one; None at the end of the input.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
            EmpathyEdgeError: the input has another encoding than it should have.
        """
        try:
            with _clear_about_encoding():
                return whole_characters(message_of(self._read()))
        except EOFError:
            return None

    @staticmethod
    def _lines() -> str:
        """The lines of one message from a pipe; what the end of the input cuts off is a message, too."""
        text = input()
        while is_unfinished(text):
            try:
                text += "\n" + input()
            except EOFError:
                break
        return text


def read_all() -> str:
    """All of the standard input, as one text.

    Raises:
        EmpathyEdgeError: it has another encoding than it should have.
    """
    with _clear_about_encoding():
        return whole_characters(sys.stdin.read())


@contextlib.contextmanager
def _clear_about_encoding() -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise EmpathyEdgeError(
            f"The standard input is not {(sys.stdin.encoding or error.encoding).upper()} ({error.reason}).\n"
            "  Save the text in that encoding, or name the one it has, as in PYTHONIOENCODING=latin-1."
        ) from None


def _terminal(commands: Sequence[str], history: Path | None, models: Sequence[str]) -> PromptSession[str]:
    """A line editor on the terminal. The Enter key ends a finished message, Alt-Enter begins a new line."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.application import get_app
    from prompt_toolkit.completion import Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document
    from prompt_toolkit.filters import Condition
    from prompt_toolkit.history import FileHistory, InMemoryHistory
    from prompt_toolkit.output import create_output
    from prompt_toolkit.shortcuts import CompleteStyle

    paths = PathCompleter(expanduser=True)

    class Kept(FileHistory):
        def store_string(self, string: str) -> None:
            super().store_string(whole_characters(string))

    class Commands(Completer):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            typed = document.text_before_cursor
            name, space, argument = typed.partition(" ")
            if space and name in TAKES_FILE:
                if name == "/compare":
                    begun = (model for model in models if model.startswith(argument))
                    yield from (Completion(model, -len(argument)) for model in begun)
                yield from paths.get_completions(Document(argument), complete_event)
            elif not space and typed.startswith("/"):
                for command in commands:
                    if command.startswith(typed):
                        yield Completion(command, -len(typed))

    return PromptSession(
        "› ",
        prompt_continuation="… ",
        multiline=Condition(lambda: is_unfinished(get_app().current_buffer.text)),
        history=Kept(_private(history)) if history else InMemoryHistory(),
        completer=Commands(),
        complete_style=CompleteStyle.READLINE_LIKE,
        complete_while_typing=False,
        output=create_output(stdout=sys.stderr),  # replies alone go to stdout
    )


def _private(path: Path) -> str:
    """The file, made if it is new, which only its user can read."""
    path = path.expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError as error:
        raise EmpathyEdgeError(f"--history {path}: cannot be written ({error.strerror}).") from None
    return str(path)
