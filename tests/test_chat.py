"""The terminal chat, through a pipe and with a context that overflows."""

from pathlib import Path

import pytest

from empathy_edge.chat import Conversation
from empathy_edge.runtimes import open_runtime
from tests.conftest import run_command


def test_chat_in_a_pipe(exported: Path) -> None:
    lines = "Hello\n\n/stats\n/reset\n/dance\nHello\n/quit\nnever reached\n"
    result = run_command("chat", exported / "gguf-f16", "--max-new-tokens", "8", "--context", "256", input=lines)
    assert result.returncode == 0, result.stderr
    first, second = [line for line in result.stdout.splitlines() if line]
    assert first == second  # /reset forgot everything, and greedy answers repeat
    for words in ("tokens/s", "MB anonymous", "Started over", "/dance: no such command"):
        assert words in result.stderr


def test_chat_on_gguf_needs_no_torch(exported: Path) -> None:
    import subprocess
    import sys

    script = (
        "import sys\nfrom empathy_edge.cli import run_cli\n"
        f"code = run_cli(['chat', {str(exported / 'gguf-f16')!r}, '--max-new-tokens', '4', '--context', '256'])\n"
        "assert code == 0\nassert not {'torch', 'transformers'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], input="Hi\n", capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_overflow_drops_the_oldest_turns_and_keeps_the_newest(exported: Path) -> None:
    runtime = open_runtime(exported / "gguf-f16", context=256)
    conversation = Conversation(runtime, room=32)
    dropped = 0
    for turn in range(12):
        messages, gone = conversation.prompt(f"This is what I say in turn number {turn}.")
        dropped += gone
        assert len(runtime.encode(messages)) + 32 <= 256
        assert messages[0]["role"] == "system" and messages[1]["role"] == "user"
        assert messages[-1]["content"].endswith(f"turn number {turn}.")
        conversation.turns.append({"role": "assistant", "content": "I hear you, and that sounds hard."})
    assert dropped and len(conversation.turns) < 24
    runtime.close()


@pytest.mark.slow
def test_shipped_model_says_what_llama_cpp_itself_says() -> None:
    """Our template, tokenization and loop against llama-cpp-python's own chat, on the shipped model."""
    import llama_cpp

    from empathy_edge.chat_format import messages_for
    from empathy_edge.models import find_model
    from empathy_edge.runtimes.llama_cpp_runtime import quiet_stderr

    said = "My dog died this morning and I can't stop crying."
    result = run_command("chat", "smollm2-135m", "--max-new-tokens", "40", input=f"{said}\n")
    assert result.returncode == 0, result.stderr
    with quiet_stderr():
        llama = llama_cpp.Llama(str(find_model("smollm2-135m").path), n_ctx=2048, verbose=False)
    completion = llama.create_chat_completion(messages_for(said), temperature=0.0, max_tokens=40, repeat_penalty=1.0)
    llama.close()
    wanted = completion["choices"][0]["message"]["content"].strip()
    assert len(wanted.split()) > 10 and result.stdout.strip() == wanted
