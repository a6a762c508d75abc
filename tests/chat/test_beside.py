"""The chat finds the models beside its own, says which there are, and saves conversations for people."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from empathy_edge.chat.conversation import Conversation
from empathy_edge.runtimes import open_runtime
from tests.conftest import assert_one_clear_error, run_command

SHORT = ("--max-new-tokens", "6", "--context", "512")


def test_a_model_beside_the_first_is_found_by_its_name(exported: Path) -> None:
    """As `/compare gguf-q4_0` in the README's picture."""
    lines = "/compare gguf-q8\n/compare gguf-q8_0\nHello\n"
    result = run_command("chat", exported / "gguf-f16", *SHORT, input=lines)
    assert result.returncode == 0, result.stderr
    assert "gguf-q8: no such model. Did you mean gguf-q8_0?" in result.stderr
    assert "Beside gguf-f16 there are: " in result.stderr and "gguf-q8_0 answers as well" in result.stderr
    assert "gguf-f16" in result.stdout and "gguf-q8_0" in result.stdout


def test_a_model_beside_a_file_is_found(exported: Path) -> None:
    (file,) = (exported / "gguf-f16").glob("*.gguf")
    result = run_command("chat", file, *SHORT, input="/compare gguf-q8_0\n")
    assert "gguf-q8_0 answers as well" in result.stderr, result.stderr


def test_a_path_that_is_not_there_names_what_is_in_its_folder(exported: Path) -> None:
    result = run_command("chat", exported / "gguf-q4_0", input="Hello\n")
    assert_one_clear_error(result, 2, "no such model", f"In {exported} there are: gguf-f16, gguf-q8_0.")


@pytest.mark.parametrize("folder_is_made", [False, True])
def test_a_path_in_a_run_that_is_not_done_says_how_to_go_on(tmp_path: Path, folder_is_made: bool) -> None:
    run = tmp_path / "runs" / "quickstart"
    missing = run / "export" / "gguf-q8_0"
    assert_one_clear_error(run_command("chat", missing), 2, "not made yet", "make demo")
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"recipe": {"name": "quickstart"}, "stages": {}}))
    if folder_is_made:
        missing.mkdir(parents=True)
    go_on = f"empathy-edge run quickstart --out {run}"
    assert_one_clear_error(run_command("chat", missing), 2, "not made yet", "make demo, or ", go_on)
    other = run.rename(tmp_path / "mine")
    result = run_command("chat", other / "export" / "gguf-q8_0")
    assert_one_clear_error(result, 2, f"empathy-edge run quickstart --out {other}")
    assert "make demo" not in result.stderr


def test_a_conversation_is_saved_for_people_by_the_name_of_the_file(exported: Path, tmp_path: Path) -> None:
    markdown, text = tmp_path / "talk.md", tmp_path / "talk.txt"
    lines = f"/help\nHello you\n/save {markdown}\n/save {text}\n/load {markdown}\n/stats\n"
    result = run_command("chat", exported / "gguf-f16", *SHORT, "--system", "Be kind.", input=lines)
    assert result.returncode == 0, result.stderr
    assert markdown.read_text().startswith(
        "**System**\n\nBe kind.\n\n**You**\n\nHello you\n\n**gguf-f16**\n\n"
    )
    assert text.read_text().startswith("System:\n\nBe kind.\n\nYou:\n\nHello you\n\ngguf-f16:\n\n")
    assert ".md Markdown, .txt text, others JSON" in result.stderr
    assert "is no conversation that /save wrote" in result.stderr and "save it as .json" in result.stderr
    assert "Expecting value" not in result.stderr


def test_the_answers_of_both_models_are_saved(exported: Path, tmp_path: Path) -> None:
    markdown, file = tmp_path / "talk.md", tmp_path / "talk.json"
    lines = f"Hello\n/compare gguf-q8_0\nAnd you?\n/save {markdown}\n/save {file}\n/load {file}\n"
    result = run_command("chat", exported / "gguf-f16", *SHORT, input=lines)
    assert result.returncode == 0, result.stderr
    assert "4 turns written, of both models" in result.stderr and "goes on there" in result.stderr
    saved = json.loads(file.read_text())
    second = saved["compared"]
    assert second["model"] == "gguf-q8_0" and second["turns"][:3] == saved["turns"][:3]
    names = [line.strip("*") for line in markdown.read_text().splitlines() if line.startswith("**")]
    answered = ["gguf-f16"] if second["turns"][3] == saved["turns"][3] else ["gguf-f16", "gguf-q8_0"]
    assert names == ["System", "You", "gguf-f16", "You", *answered]


def test_only_what_was_read_before_is_read_anew(exported: Path) -> None:
    result = run_command("chat", exported / "gguf-f16", *SHORT, input="Hello\n/stats\nAnd you?\n/stats\n")
    first, second = [line for line in result.stderr.splitlines() if "first token" in line]
    assert "all of it read;" in first and "of them read again;" in second


@pytest.mark.skipif(not shutil.which("tmux"), reason="no tmux")
def test_the_models_beside_are_completed_in_a_terminal(exported: Path, tmp_path: Path) -> None:
    def tmux(*arguments: str) -> str:
        command = ["tmux", "-L", tmp_path.name, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout

    def wait(words: str) -> None:
        end = time.monotonic() + 60
        while words not in (shown := tmux("capture-pane", "-p", "-S", "-200")):
            assert time.monotonic() < end, shown
            time.sleep(0.2)

    try:
        tmux("new-session", "-d", "-x", "100", "-y", "40", "-c", str(tmp_path), "sh")
        tmux("send-keys", f"{sys.executable} -m empathy_edge chat {exported / 'gguf-f16'}", "Enter")
        wait("›")
        tmux("send-keys", "/compare gguf-q", "Tab", "Enter")
        wait("gguf-q8_0 answers as well")
    finally:
        tmux("kill-server")


def test_answers_stand_beside_each_other_after_old_turns_were_dropped(exported: Path, tmp_path: Path) -> None:
    """Each model drops its oldest turns by itself; /save paired them from the beginning."""
    first, second = [
        Conversation(open_runtime(exported / name, context=256), reply_tokens=16)
        for name in ("gguf-f16", "gguf-q8_0")
    ]
    for number in range(3):
        for name, conversation in (("a", first), ("b", second)):
            conversation.turns += [
                {"role": "user", "content": f"said {number}"},
                {"role": "assistant", "content": f"{name}{number}"},
            ]
    for dropped, (shorter, longer) in enumerate(((first, second), (second, first))):
        del shorter.turns[:2]
        file = tmp_path / f"{dropped}.txt"
        first.save(file, second)
        blocks = file.read_text().strip().split("\n\n")[2:]
        said = dict(zip(blocks[1::2], blocks[::2], strict=True))
        assert said["a2"] == "gguf-f16:" and said["b2"] == "gguf-q8_0:" and said["said 2"] == "You:"
        assert blocks.index("a2") + 2 == blocks.index("b2")
        assert len(longer.turns) >= len(shorter.turns)
    for conversation in (first, second):
        conversation.runtime.close()
