"""What commands say to a newcomer: short lists, no Python in messages, nothing left out, no glued lines."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.artifact_names import GGUF_TYPES, NEEDS_IMATRIX
from empathy_edge.runs.recipe import load_recipe
from tests.conftest import ROOT, assert_one_clear_error, run_command


def test_a_wrong_artifact_names_the_nearest_and_where_all_are(tmp_path: Path) -> None:
    result = run_command("export", "smollm2-135m", "--to", "gguf-q5", "--out", tmp_path / "x")
    assert_one_clear_error(
        result, 2, "--to: no such artifact: gguf-q5. Did you mean gguf-q5_", "docs/export.md"
    )
    assert "found" not in result.stderr and "('" not in result.stderr and len(result.stderr) < 400
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    types = page.partition("- TYPE of a GGUF:")[2].partition("\n- ")[0]
    listed, _, needs = types.partition("`-imatrix`")
    assert re.findall(r"`(\w+)`", listed) == list(GGUF_TYPES)
    assert set(re.findall(r"`(\w+)`", needs)) == set(NEEDS_IMATRIX)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sft: {epochs: -1}", "sft.epochs: input should be greater than 0 (found -1)"),
        ("steps: [sft, rlhf]", "steps.1: input should be 'sft' or 'dpo' (found rlhf)"),
        ("steps: {a: 1}", "steps: input should be a valid tuple"),
        ("sft: {batch_size: [1, 2]}", "(found 1, 2)"),
        ("sft: {batch_size: }", "(found nothing)"),
        ("export: {artifacts: [gguf-q5]}", "no such artifact: gguf-q5. Did you mean"),
    ],
)
def test_what_was_found_is_not_written_as_python_does(line: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"name: mine\nbase: smollm2-135m\n{line}\n")
    with pytest.raises(EmpathyEdgeError) as found:
        load_recipe(str(file))
    message = str(found.value)
    assert words in message and not re.search(r"found [\[({']|None", message), message


def test_an_empty_cache_is_one_line(tmp_path: Path) -> None:
    result = run_command("cache", env={**os.environ, "EMPATHY_EDGE_CACHE": str(tmp_path / "none")})
    assert result.stdout == f"No models are kept in {tmp_path / 'none'}.\n"


def test_entries_without_a_name_are_summed_up(tmp_path: Path) -> None:
    for number in range(3):
        file = tmp_path / "verify" / f"{number}ff609d247f43f1510de404.npz"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(2_000_000))
    result = run_command("cache", env={**os.environ, "EMPATHY_EDGE_CACHE": str(tmp_path)})
    assert result.returncode == 0 and ".npz" not in result.stdout
    (row,) = [line for line in result.stdout.splitlines() if "torch's answers" in line]
    assert "3 models" in row and " 6 " in row
    assert "Kept: 3 models, 6 MB." in result.stdout


@pytest.mark.skipif(find_spec("litert_lm") is None, reason="the extra 'litert' is not installed")
def test_doctor_says_what_is_left_out(tmp_path: Path) -> None:
    result = run_command("doctor", env={**os.environ, "EMPATHY_EDGE_LITERT": str(tmp_path / "none")})
    assert "Everything is here, but litert-torch is not installed" in result.stdout
    assert "Everything is here." not in result.stdout


SHOWS_A_BAR = """
from empathy_edge import cli, console
bar = console.progress()
bar.start()
bar.add_task("training", total=10)
raise SystemExit(cli.run_cli(["chat", {model!r}, "--once"]))
"""
"""A bar that nothing stops, as that of a training that is interrupted; the command waits for its input."""


@pytest.mark.skipif(not shutil.which("tmux"), reason="no tmux")
def test_an_interrupt_begins_a_line_of_its_own(exported: Path, tmp_path: Path) -> None:
    script = tmp_path / "bar.py"
    script.write_text(SHOWS_A_BAR.format(model=str(exported / "gguf-f16")))

    def tmux(*arguments: str) -> str:
        command = ["tmux", "-L", tmp_path.name, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout

    def wait(words: str) -> list[str]:
        end = time.monotonic() + 60
        while words not in (shown := tmux("capture-pane", "-p")):
            assert time.monotonic() < end, shown
            time.sleep(0.2)
        return shown.splitlines()

    try:
        tmux("new-session", "-d", "-x", "100", "-y", "20", "sh")
        tmux("send-keys", f"clear; {sys.executable} {script}; echo LEFT=$?", "Enter")
        wait("0/10")
        time.sleep(3)  # the command reads its input by now; earlier the test would prove the same
        tmux("send-keys", "C-c")
        lines = wait("LEFT=130")
    finally:
        tmux("kill-server")
    (error,) = [line for line in lines if "Interrupted." in line]
    assert error.startswith("Error: Interrupted.") and not any("0/10" in line for line in lines), lines
