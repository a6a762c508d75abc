"""Every stage, killed with SIGKILL at random moments: the next run completes, and its files are the same.

`make test` kills each stage once, `make test-kill` twenty times. The seeds are in the tests' output.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from empathy_edge.runs.pipeline import STAGES
from empathy_edge.runs.run_folder import RunFolder
from empathy_edge.runs.stage import LOCK
from empathy_edge.system.files import MANIFEST, MARKER
from tests.conftest import made_once, run_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

KILLS = int(os.environ.get("EMPATHY_EDGE_KILLS", "1"))
SEED = int(os.environ.get("EMPATHY_EDGE_KILL_SEED", "0"))

PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from empathy_edge.cli import main; main()"
)
"""As in a terminal: what a shell starts in the background ignores Ctrl-C."""

MEASURED = ("bench", "check", "report")
"""Stages whose files hold times of this machine; that they are whole is all that can be compared."""

TIMES = ("created", "seconds", "machine", "versions", "train_seconds", "outputs", "num_tokens")
"""Fields that differ between two runs: times, and TRL's count of tokens, which begins anew with each process.
The outputs are compared themselves."""


@pytest.fixture(scope="module")
def finished(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A run that nothing interrupted, and how long a process took for each stage of it."""
    with made_once(tmp_path_factory, "finished-in-parts") as (out, is_made):
        times = out.with_name("finished-in-parts.json")
        if not is_made:
            seconds = {}
            for name in STAGES:
                start = time.monotonic()
                result = run_command("run", tiny_recipe, "--out", out, "--until", name)
                assert result.returncode in (0, 1), result.stderr
                seconds[name] = time.monotonic() - start
            times.write_text(json.dumps(seconds))
    return out, json.loads(times.read_text())


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_that_was_killed_goes_on_and_gives_the_same(
    name: str, finished: tuple[Path, dict[str, float]], tiny_recipe: Path, tmp_path: Path
) -> None:
    whole, seconds = finished
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for later in STAGES[STAGES.index(name) :]:
        shutil.rmtree(RunFolder(out).stage(later), ignore_errors=True)
    if name in ("distill", "sft", "dpo", "export"):
        shutil.rmtree(RunFolder(out).export, ignore_errors=True)
    command = [sys.executable, "-c", PROGRAM, "run", str(tiny_recipe), "--out", str(out), "--until", name]
    generator = random.Random(f"{SEED} {name}")
    for number in range(KILLS):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        pause = generator.uniform(0.3, 1.0) * seconds[name]
        time.sleep(pause)
        is_last_and_by_hand = number == KILLS - 1 and name in ("dpo", "release")
        process.send_signal(signal.SIGINT if is_last_and_by_hand else signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
        print(f"{name}: stopped after {pause:.2f} s, exit code {process.returncode}")
        if process.returncode == 130:
            assert "Traceback" not in errors and "run the same command again" in errors
    result = run_command("run", tiny_recipe, "--out", out, "--until", name)
    assert result.returncode in (0, 1), result.stderr
    assert not list(out.rglob("*.tmp")) and not list(out.rglob(MARKER))
    assert _files(out, name) == _files(whole, name)


def _files(run: Path, name: str) -> dict[str, object]:
    """The files of a stage, in a form in which two runs can be compared."""
    folder = RunFolder(run).export if name == "export" else RunFolder(run).stage(name)
    found: dict[str, object] = {}
    for file in sorted(folder.rglob("*")):
        key = file.relative_to(folder).as_posix()
        if not file.is_file() or file.name == LOCK:
            continue
        if file.name == MANIFEST:
            found[key] = _without_times(json.loads(file.read_text()))
        elif file.name == "adapter_config.json":
            config = json.loads(file.read_text())
            found[key] = config | {"target_modules": sorted(config["target_modules"])}
        elif name in MEASURED:
            found[key] = "there"
        elif file.name == "curves.jsonl":
            found[key] = [_without_times(json.loads(line)) for line in file.read_text().splitlines()]
        else:
            found[key] = file.read_bytes()
    return found


def _without_times(content: object) -> object:
    if isinstance(content, list):
        return [_without_times(item) for item in content]
    if not isinstance(content, dict):
        return content
    kept = {}
    for key, value in content.items():
        if key not in TIMES and not (key == "results" and "artifacts" in value and "merge" not in value):
            kept[key] = _without_times(value)
    return kept


def test_responses_of_an_arm_that_was_killed(tiny_model: Path, tmp_path: Path) -> None:
    """`respond` has no folder of its own: its file is continued."""
    from tests.conftest import dialogue_row, write_rows

    rows = [dialogue_row(id=f"d{n}", utterance=f"Day {n}, my cat died.", split="test") for n in range(40)]
    data = write_rows(tmp_path / "d.jsonl", *rows)
    arguments = ["respond", str(tiny_model), "--dialogues", str(data), "--max-new-tokens", "40", "--out"]
    start = time.monotonic()
    assert run_command(*arguments, tmp_path / "whole.jsonl").returncode == 0
    seconds = time.monotonic() - start
    generator = random.Random(f"{SEED} respond")
    for _ in range(KILLS):
        command = [sys.executable, "-c", PROGRAM, *arguments, str(tmp_path / "cut.jsonl")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(generator.uniform(0.3, 1.0) * seconds)
        process.kill()
        process.wait()
    assert run_command(*arguments, tmp_path / "cut.jsonl").returncode == 0
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
