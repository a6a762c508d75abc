"""A shell completes commands, options, names and files, and loads nothing heavy for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import run_command
from tests.test_cli import HEAVY


def completed(*words: str, cwd: Path) -> list[str]:
    """What bash would be given for the last of the words, as `plain,check`."""
    environment = {
        **os.environ,
        "_EMPATHY_EDGE_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["empathy-edge", *words]),
        "COMP_CWORD": str(len(words)),
    }
    script = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print([n for n in {HEAVY!r} if n in sys.modules], file=sys.stderr))\n"
        "from empathy_edge.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, cwd=cwd
    )
    assert done.returncode == 0 and done.stderr == "[]\n", done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cho", ["plain,choose"]),
        ("bench pre", ["plain,predict"]),
        ("bench smo", ["plain,smollm2-135m"]),
        ("export bun", ["plain,bundle"]),
        ("export smo", ["plain,smollm2-135m"]),
        ("export m --to gguf-q4_0-", ["plain,gguf-q4_0-imatrix", "plain,gguf-q4_0-gptq"]),
        ("choose m --device pixel-", ["plain,pixel-6a", "plain,pixel-7-pro", "plain,pixel-8"]),
        ("bench predict --device pixel-8", ["plain,pixel-8"]),
        ("devices raspberry-pi-5", ["plain,raspberry-pi-5"]),
        ("run quick", ["plain,quickstart"]),
        ("chat --template chat", ["plain,chatml"]),
        ("chat smo", ["plain,smollm2-135m"]),
        ("chat my-", ["file,my-"]),
        ("judge sheet re", ["plain,read"]),
        ("judge certify --question co", ["plain,cognitive", "plain,compassionate"]),
        ("judge certify --pai", ["plain,--pairs"]),
        ("check a --refer", ["plain,--reference"]),
        ("report runs/", ["file,runs/"]),
    ],
)
def test_what_is_completed(line: str, expected: list[str], tmp_path: Path) -> None:
    assert completed(*line.split(" "), cwd=tmp_path) == expected


def test_an_empty_word_shows_names_beside_files(tmp_path: Path) -> None:
    (tmp_path / "exported").mkdir()
    (tmp_path / ".hidden").touch()
    assert completed("chat", "", cwd=tmp_path) == ["plain,smollm2-135m", "plain,exported/"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(shell: str) -> None:
    script = run_command("completion", shell)
    assert script.returncode == 0 and "_EMPATHY_EDGE_COMPLETE" in script.stdout
    if shutil.which(shell):
        read = [shell, "-n"] if shell != "fish" else ["fish", "--no-execute"]
        done = subprocess.run(read, input=script.stdout, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_bash_completes_by_the_script(tmp_path: Path) -> None:
    program = tmp_path / "empathy-edge"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m empathy_edge "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(empathy-edge completion bash)"\n'
        "COMP_WORDS=(empathy-edge choose m --device pixel-) COMP_CWORD=4\n"
        "_empathy_edge_completion empathy-edge\n"
        'echo "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["pixel-6a", "pixel-7-pro", "pixel-8"], done.stderr
