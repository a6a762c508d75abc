"""What a person types in the chat: several lines, history, completion."""

import json
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from empathy_edge.chat.message_input import _private, is_unfinished, message_of
from empathy_edge.errors import EmpathyEdgeError
from tests.conftest import run_command


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Hello", "Hello"),
        ("one\\\ntwo", "one\ntwo"),
        ('"""one\ntwo"""', "one\ntwo"),
        ('  """one"""', "one"),
        ('"""\none\n\ntwo\n"""', "one\n\ntwo"),
        ('He said """no""".', 'He said """no""".'),
    ],
)
def test_a_finished_message(text: str, message: str) -> None:
    assert not is_unfinished(text)
    assert message_of(text) == message


@pytest.mark.parametrize("text", ["one\\", '"""', '"""one', '  """one\ntwo'])
def test_a_message_that_goes_on(text: str) -> None:
    assert is_unfinished(text)


def test_several_lines_from_a_pipe(exported: Path, tmp_path: Path) -> None:
    lines = ['"""My dog died.', "", 'I miss him."""', "/clear", '"""one', 'two"""', "three \\", "four"]
    file = tmp_path / "talk.json"
    arguments = ("--max-new-tokens", "4", "--context", "512")
    result = run_command(
        "chat", exported / "gguf-f16", *arguments, input="\n".join([*lines, f"/save {file}", "/bye", "x"])
    )
    assert result.returncode == 0, result.stderr
    turns = json.loads(file.read_text())["turns"]
    assert [turn["content"] for turn in turns if turn["role"] == "user"] == ["one\ntwo", "three \nfour"]


def test_a_history_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(EmpathyEdgeError, match=f"--history {tmp_path}: cannot be written"):
        _private(tmp_path)  # a folder


@pytest.mark.skipif(not shutil.which("tmux"), reason="no tmux")
def test_pasted_lines_history_and_completion_in_a_terminal(exported: Path, tmp_path: Path) -> None:
    file, history = tmp_path / "talk.json", tmp_path / "kept" / "history"

    def tmux(*arguments: str, stdin: str | None = None) -> str:
        command = ["tmux", "-L", tmp_path.name, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, input=stdin).stdout

    def wait(words: str, times: int = 1) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if tmux("capture-pane", "-p", "-S", "-200").count(words) >= times:
                return
            time.sleep(0.2)
        raise AssertionError(f"{words!r} did not come up in:\n{tmux('capture-pane', '-p', '-S', '-200')}")

    chat = (
        f"{sys.executable} -m empathy_edge chat {exported / 'gguf-f16'} --max-new-tokens 4 --context 512 "
        f"--history {history}; echo LEFT $?"
    )
    try:
        tmux("new-session", "-d", "-x", "100", "-y", "40", "sh")
        tmux("send-keys", chat, "Enter")
        wait("›")
        tmux("load-buffer", "-", stdin="My dog died.\nI miss him.")
        tmux("paste-buffer", "-p")
        tmux("send-keys", "Enter")
        wait("first token")
        tmux("send-keys", "Up", "Enter")  # the same again
        wait("first token", 2)
        tmux("send-keys", "/sa", "Tab", f" {file}", "Enter")
        wait("turns written")
        tmux("send-keys", "/bye", "Enter")
        wait("LEFT 0")
    finally:
        tmux("kill-server")
    turns = json.loads(file.read_text())["turns"]
    assert [turns[0]["content"], turns[2]["content"]] == ["My dog died.\nI miss him."] * 2
    assert "+I miss him." in history.read_text()
    if sys.platform != "win32":
        assert stat.S_IMODE(history.stat().st_mode) == 0o600
