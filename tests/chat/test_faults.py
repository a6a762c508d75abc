"""What goes wrong in a chat: Ctrl-C, text that is not UTF-8, a small context window, an unknown locale."""

from __future__ import annotations

import io
import json
import locale
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from empathy_edge.chat import screen
from empathy_edge.chat import session as session_module
from empathy_edge.chat.chat_settings import ChatSettings
from empathy_edge.chat.conversation import Conversation, open_conversation
from empathy_edge.chat.crisis import country_of, crisis_reply
from empathy_edge.chat.message_input import MessageInput
from empathy_edge.chat.session import Chat
from empathy_edge.formats.chat_format import Message
from empathy_edge.runtimes import open_runtime
from tests.conftest import assert_one_clear_error, run_command

SHORT = ("--max-new-tokens", "4", "--context", "256")


@pytest.fixture
def session(exported: Path) -> Iterator[Chat]:
    """A chat as on a terminal, where Ctrl-C ends no program."""
    settings = ChatSettings(context=512, max_new_tokens=6, threads=1, markdown=True)
    opened = Chat(str(exported / "gguf-f16"), settings)
    opened.interactive = True
    yield opened
    opened.close()


def talk(session: Chat, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """What a person types, until the end of the input."""
    given = iter(lines)
    monkeypatch.setattr(MessageInput, "read", lambda self: next(given, None))
    session.loop()


def test_ctrl_c_before_a_reply_and_in_a_command_keeps_the_conversation(
    session: Chat, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ended the program; and the figures of the reply before were shown again."""
    encode = session.conversation.runtime.encode

    def interrupted(messages: list[Message]) -> list[int]:
        if messages[-1]["content"] == "Stop me":
            raise KeyboardInterrupt
        return encode(messages)

    def interrupted_too(*_: object) -> Conversation:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.conversation.runtime, "encode", interrupted)
    monkeypatch.setattr(session_module, "open_conversation", interrupted_too)
    talk(session, monkeypatch, "Hello", "Stop me", "/compare gguf-q8_0", "And you?")
    roles = [turn["role"] for turn in session.conversation.turns]
    assert roles == ["user", "assistant"] * 2
    assert [turn["content"] for turn in session.conversation.turns[::2]] == ["Hello", "And you?"]
    said = capsys.readouterr().err
    assert said.count("Stopped.") == 2 and said.count("first token") == 2


def test_two_answers_as_markdown_leave_no_live_display(
    session: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the two was begun, though nothing of it is shown, and never ended."""
    running: list[object] = []
    begun: list[object] = []
    monkeypatch.setattr(screen, "out", Console(file=io.StringIO(), force_terminal=True, width=100))
    monkeypatch.setattr("rich.live.Live.start", lambda live, refresh=False: running.append(live))
    monkeypatch.setattr("rich.live.Live.stop", lambda live: begun.append(running.pop()))
    talk(session, monkeypatch, "Hello", "/compare gguf-q8_0", "And you?")
    assert running == [] and len(begun) == 1


def test_a_standard_input_that_is_not_utf_8(exported: Path, tmp_path: Path) -> None:
    """It was "something went wrong inside", or ended the chat when the conversation was saved."""
    file = tmp_path / "talk.json"
    lines = {"input": f"Caf\xe9\n/save {file}\n", "encoding": "latin-1"}
    chat = ("chat", exported / "gguf-f16", *SHORT)
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    for once in ((), ("--once",)):
        refused = run_command(*chat, *once, env=strict, **lines)
        assert_one_clear_error(refused, 2, "The standard input is not UTF-8")
    lax = {**os.environ, "PYTHONIOENCODING": "utf-8:surrogateescape"}
    taken = run_command(*chat, env=lax, **lines)
    assert taken.returncode == 0, taken.stderr
    saved = json.loads(file.read_text(encoding="utf-8"))
    assert saved["turns"][0]["content"] == "Caf\ufffd"
    assert run_command(*chat, "--once", env=lax, **lines).returncode == 0


def test_an_output_that_cannot_show_a_character_ends_nothing(exported: Path) -> None:
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    arguments = ("--once", "--country", "BE", *SHORT)
    said = "I want to kill myself\n"
    result = run_command("chat", exported / "gguf-f16", *arguments, env=ascii_only, input=said)
    assert result.returncode == 0, result.stderr
    assert "T?l?-Accueil" in result.stdout


def test_half_a_character_in_a_saved_conversation_is_replaced(exported: Path, tmp_path: Path) -> None:
    runtime = open_runtime(exported / "gguf-f16", context=256)
    turns = [{"role": "user", "content": "sad \ud83d"}, {"role": "assistant", "content": "Oh."}]
    file = tmp_path / "talk.json"
    file.write_text(json.dumps({"system": "Be kind.", "turns": turns}))
    conversation = Conversation(runtime, reply_tokens=16)
    conversation.load(file)
    assert conversation.turns[0]["content"] == "sad \ufffd" and conversation.tokens() > 0
    runtime.close()


def test_a_model_with_a_smaller_window_than_asked_for_keeps_its_history(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reply was given more room than the window has, so every earlier turn was left out."""
    conversation = open_conversation(
        str(exported / "gguf-f16"), ChatSettings(context=2048, max_new_tokens=500)
    )
    assert (conversation.runtime.context, conversation.reply_tokens) == (512, 256)
    assert "at most 256 of them" in capsys.readouterr().err
    drops = 0
    for number in range(16):
        messages, dropped = conversation.prompt(f"This is what I say in turn number {number}.")
        drops += bool(dropped)
        assert len(conversation.runtime.encode(messages)) <= 256
        assert number == 0 or len(conversation.turns) >= 3
        conversation.answer("I hear you, and that sounds hard.")
    assert drops
    conversation.runtime.close()


def test_help_is_named_before_the_message_is_tokenized(tiny_model: Path, tmp_path: Path) -> None:
    """This tokenizer has a token that the model has no row for: a message with it is an error."""
    pytest.importorskip("torch")
    from transformers import AutoTokenizer

    from empathy_edge.api import chat

    shutil.copytree(tiny_model, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["<|mood|>"])
    tokenizer.save_pretrained(tmp_path / "model")
    said = "I want to kill myself <|mood|>"
    result = run_command("chat", tmp_path / "model", "--country", "GB", *SHORT, input=f"{said}\n")
    assert result.returncode == 0 and "Samaritans, call 116 123" in result.stdout, result.stderr
    with chat(tmp_path / "model", settings=ChatSettings(country="GB", max_new_tokens=16)) as talking:
        assert "Samaritans" in talking.say(said).text


@pytest.mark.parametrize(
    ("name", "country"),
    [
        ("de_AT.UTF-8", "AT"),
        ("de_DE@euro", "DE"),
        ("de_DE", "DE"),
        ("ast_ES", "ES"),
        ("German_Austria", ""),
        ("German_Austria.1252", ""),
        ("English_United States", ""),
        ("de_de", ""),
        ("C.UTF-8", ""),
        ("UTF-8", ""),
        ("", ""),
    ],
)
def test_the_country_of_a_locale(name: str, country: str) -> None:
    """`German_Austria`, as Windows says, was read as AU, Australia."""
    assert country_of(name) == country


def test_a_locale_without_a_country_gets_the_general_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> tuple[str | None, str | None]:
        raise ValueError("unknown locale: UTF-8")

    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(locale, "getlocale", lambda: ("German_Austria", "1252"))
    assert "findahelpline.com" in crisis_reply()
    monkeypatch.setattr(locale, "getlocale", unknown)
    assert "findahelpline.com" in crisis_reply()
