"""The terminal chat: in a pipe, in a real terminal, with a full context, and with a person in danger."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from empathy_edge.chat.conversation import Conversation
from empathy_edge.chat.crisis import crisis_reply, shows_signs
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.prompts import load_prompts
from empathy_edge.runtimes import open_runtime
from tests.conftest import assert_one_clear_error, run_command


def test_chat_in_a_pipe(exported: Path) -> None:
    lines = "Hello\n\n/stats\n/reset\n/dance\nHello\n/quit\nnever reached\n"
    result = run_command(
        "chat", exported / "gguf-f16", "--max-new-tokens", "8", "--context", "256", input=lines
    )
    assert result.returncode == 0, result.stderr
    first, second = [line for line in result.stdout.splitlines() if line]
    assert first == second  # /reset forgot everything, and greedy answers repeat
    for words in ("tokens/s", "MB anonymous", "Started over", "/dance: no such command", "of 256 tokens"):
        assert words in result.stderr


def test_once_answers_one_message(exported: Path) -> None:
    arguments = [exported / "gguf-f16", "--once", "--max-new-tokens", "6", "--context", "256"]
    result = run_command("chat", *arguments, input="Hello\nthere\n")
    assert result.returncode == 0 and result.stderr == "" and result.stdout.strip()
    assert_one_clear_error(run_command("chat", *arguments, input="\n"), 2, "--once")


def test_save_load_system_and_compare(exported: Path, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    lines = [
        "Hello", f"/save {file}", f"/save {file}", "/system You are a pirate.", "/system",
        f"/compare {exported / 'gguf-q8_0'}", "And you?", "/compare off", f"/load {file}",
        f"/load {tmp_path / 'none'}", "/help", "two \\", "lines", "/compare /nowhere", "/stats",
    ]  # fmt: skip
    result = run_command(
        "chat",
        exported / "gguf-f16",
        "--max-new-tokens",
        "6",
        "--context",
        "512",
        input="\n".join(lines) + "\n",
    )
    assert result.returncode == 0, result.stderr
    saved = json.loads(file.read_text())
    assert [turn["role"] for turn in saved["turns"]] == ["user", "assistant"]
    for words in (
        "exists already", "You are a pirate.", "gguf-q8_0 answers as well", "the conversation goes on there",
        "is no conversation that /save wrote", "/compare MODEL", "/nowhere",
    ):  # fmt: skip
        assert words in result.stderr, words
    assert "gguf-f16" in result.stdout and "gguf-q8_0" in result.stdout


def test_a_mistake_does_not_end_the_conversation(exported: Path, tmp_path: Path) -> None:
    """A message above the context, and a file that cannot be written, ended the program."""
    (tmp_path / "file").write_text("")
    file = tmp_path / "talk.json"
    lines = ["Hello", "word " * 400, f"/save {tmp_path / 'file' / 'x.json'}", f"/save {file}"]
    result = run_command(
        "chat", exported / "gguf-f16", "--max-new-tokens", "6", "--context", "256", input="\n".join(lines)
    )
    assert result.returncode == 0, result.stderr
    assert [turn["role"] for turn in json.loads(file.read_text())["turns"]] == ["user", "assistant"]
    assert str(tmp_path / "file") in result.stderr and "256" in result.stderr


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"system": 1, "turns": []}',
        '{"system": "x", "turns": [{"role": "assistant", "content": "x"}]}',
        "{",
    ],
)
def test_a_file_that_is_no_conversation_changes_nothing(exported: Path, tmp_path: Path, content: str) -> None:
    runtime = open_runtime(exported / "gguf-f16", context=256)
    conversation = Conversation(runtime, reply_tokens=16)
    conversation.prompt("Hello")
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(EmpathyEdgeError, match="no conversation"):
        conversation.load(tmp_path / "x.json")
    assert len(conversation.turns) == 1
    runtime.close()


def test_chat_on_gguf_needs_no_torch(exported: Path) -> None:
    arguments = ["chat", str(exported / "gguf-f16"), "--max-new-tokens", "4", "--context", "256"]
    script = (
        "import sys\nfrom empathy_edge.cli import run_cli\n"
        f"code = run_cli({arguments!r})\n"
        "assert code == 0\nassert not {'torch', 'transformers'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], input="Hi\n", capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_overflow_drops_the_oldest_turns_and_keeps_the_newest(exported: Path) -> None:
    runtime = open_runtime(exported / "gguf-f16", context=256)
    conversation = Conversation(runtime, reply_tokens=32)
    drops = 0
    for turn in range(16):
        messages, dropped = conversation.prompt(f"This is what I say in turn number {turn}.")
        drops += bool(dropped)
        assert len(runtime.encode(messages)) + 32 <= 256
        assert messages[0]["role"] == "system" and messages[1]["role"] == "user"
        assert messages[-1]["content"].endswith(f"turn number {turn}.")
        conversation.answer("I hear you, and that sounds hard.")
    assert len(conversation.turns) < 32
    assert 1 <= drops <= 5  # several turns go at once, so that the prompt cache is not lost at every turn
    runtime.close()


def test_overflow_is_said_once(exported: Path) -> None:
    lines = "\n".join(f"This is what I say in turn number {turn}, and it is long." for turn in range(14))
    result = run_command(
        "chat", exported / "gguf-f16", "--max-new-tokens", "8", "--context", "256", input=lines + "\n"
    )
    assert result.returncode == 0 and result.stderr.count("The context is full") == 1


def test_the_prompt_cache_is_kept_between_turns(
    exported: Path, exported_onnx: Path, tiny_model: Path
) -> None:
    """Only what is new is read: the tokens of turn 10 as few as those of turn 2."""
    for artifact in (exported / "gguf-f16", exported_onnx / "onnx-int4", tiny_model):
        runtime = open_runtime(artifact, context=1024)
        conversation = Conversation(runtime, reply_tokens=8)
        read = []
        for turn in range(10):
            messages, _ = conversation.prompt(f"Turn {turn} is here.")
            reply = runtime.reply(messages, max_new_tokens=4)
            read.append(reply.prompt_tokens - reply.cached_tokens)
            conversation.answer(reply.text)
        assert max(read[1:]) < read[0] and max(read[1:]) < 40, (artifact, read)
        runtime.close()


def test_the_cache_changes_nothing(exported: Path, exported_onnx: Path, tiny_model: Path) -> None:
    """In full precision, what is said with the cache is what is said without it."""
    for artifact in (exported / "gguf-f16", exported_onnx / "onnx-portable-fp32", tiny_model):
        runtime = open_runtime(artifact, context=512)
        ids = runtime.tokenize("I came home late and the house was quiet. " * 4)
        runtime.reply(ids, max_new_tokens=6, ignore_stop=True)
        longer = [*ids, *runtime.tokenize("My sister had left a note.")]
        with_cache = runtime.reply(longer, max_new_tokens=8, ignore_stop=True)
        runtime.forget()
        without = runtime.reply(longer, max_new_tokens=8, ignore_stop=True)
        assert with_cache.cached_tokens >= len(ids) - 1 and without.cached_tokens == 0
        assert with_cache.token_ids == without.token_ids
        runtime.close()


NO_SIGNS = [
    "I almost died of embarrassment",
    "My dog died this morning.",
    "My battery is dead",
    "My grandmother passed away",
    "I failed my exam and I feel awful",
]


@pytest.mark.parametrize("said", NO_SIGNS)
def test_other_sorrows_are_no_signs(said: str) -> None:
    assert not shows_signs(said)


def test_help_is_named_for_the_country(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    assert "0800 111 0 111" in crisis_reply() and "988" in crisis_reply("us")
    for country in ("zz", "reply", "other"):
        assert "findahelpline.com" in crisis_reply(country)
    for text in load_prompts("crisis").texts.values():
        assert text.strip()
    assert "small program" in crisis_reply() and "emergency number" in crisis_reply()


def test_the_program_speaks_instead_of_the_model(exported: Path) -> None:
    arguments = [
        exported / "gguf-f16",
        "--once",
        "--max-new-tokens",
        "6",
        "--context",
        "256",
        "--country",
        "GB",
    ]
    result = run_command("chat", *arguments, input="I want to kill myself\n")
    assert result.returncode == 0 and "Samaritans, call 116 123" in result.stdout
    off = run_command("chat", *arguments, "--no-crisis-help", input="I want to kill myself\n")
    assert off.returncode == 0 and "Samaritans" not in off.stdout


@pytest.mark.skipif(not shutil.which("tmux"), reason="no tmux")
def test_in_a_narrow_terminal_without_colour(exported: Path, tmp_path: Path) -> None:
    """A real terminal of 40 columns: words are not cut, Ctrl-C stops the answer and not the program."""
    model = exported / "gguf-f16"
    command = (
        f"{sys.executable} -m empathy_edge chat {model} --max-new-tokens 500 --context 1024; echo LEFT $?"
    )

    def tmux(*arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", tmp_path.name, *arguments], capture_output=True, text=True, timeout=30
        )
        return done.stdout

    def wait(words: str, seconds: float = 60) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            shown = tmux("capture-pane", "-p", "-S", "-200")
            if words in shown:
                return shown
            time.sleep(0.2)
        raise AssertionError(f"{words!r} did not come up in:\n{tmux('capture-pane', '-p', '-S', '-200')}")

    try:
        tmux("new-session", "-d", "-x", "40", "-y", "30", "-e", "NO_COLOR=1", "sh")
        tmux("send-keys", command, "Enter")
        wait("/help lists")
        tmux("send-keys", "Hello there", "Enter")
        time.sleep(0.4)
        tmux("send-keys", "C-c")
        shown = (
            wait("first token")
            if "first token" in tmux("capture-pane", "-p", "-S", "-200")
            else wait("topped")
        )
        assert max(map(len, shown.splitlines())) <= 40
        tmux("send-keys", "/stats", "Enter")
        wait("anonymous")
        tmux("send-keys", "C-c")
        wait("/quit leaves.")
        tmux("send-keys", "/quit", "Enter")
        wait("LEFT 0")
    finally:
        tmux("kill-server")


@pytest.mark.slow
def test_shipped_model_says_what_llama_cpp_itself_says() -> None:
    """Our template, tokenization and loop against llama-cpp-python's own chat, on the shipped model."""
    import llama_cpp

    from empathy_edge.formats.chat_format import messages_for
    from empathy_edge.models.find import find_model
    from empathy_edge.system.quiet import quiet_stderr

    said = "My dog died this morning and I can't stop crying."
    result = run_command("chat", "smollm2-135m", "--max-new-tokens", "40", input=f"{said}\n")
    assert result.returncode == 0, result.stderr
    with quiet_stderr():
        llama = llama_cpp.Llama(
            str(find_model("smollm2-135m").path), n_ctx=2048, flash_attn=True, verbose=False
        )
    completion = llama.create_chat_completion(
        messages_for(said), temperature=0.0, max_tokens=40, repeat_penalty=1.0
    )
    llama.close()
    wanted = completion["choices"][0]["message"]["content"].strip()
    assert len(wanted.split()) > 10 and result.stdout.strip() == wanted
