"""The set-up script names what is missing before it begins, and reads a build's progress from its output."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As much of a fresh clone as the script reads."""
    root = tmp_path / "clone"
    (root / "scripts").mkdir(parents=True)
    for name in ("scripts/setup_venv.py", "scripts/llama_cpp.cmake", "constraints.txt", "pyproject.toml"):
        shutil.copyfile(ROOT / name, root / name)
    return root


def set_up(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    return subprocess.run(
        [sys.executable, checkout / "scripts" / "setup_venv.py"],
        capture_output=True,
        text=True,
        env={**clean, "EMPATHY_EDGE_CACHE": str(checkout / "cache"), **environment},
    )


def test_a_missing_compiler_is_said_before_anything_is_made(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = set_up(checkout, PATH=str(tmp_path / "empty"))
    assert done.returncode == 3 and "Traceback" not in done.stderr
    for word in (
        "C++ compiler",
        "apt-get install g++ cmake",
        "dnf install",
        "xcode-select",
        "winget",
        "PIP_FIND_LINKS",
    ):
        assert word in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="without a compiler another error comes first")
def test_no_index_is_one_clear_error_and_the_next_set_up_goes_on(checkout: Path) -> None:
    done = set_up(checkout, PIP_NO_INDEX="1")
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert "could not be downloaded" in done.stderr and "PIP_INDEX_URL" in done.stderr
    assert (checkout / ".venv").is_dir() and not (checkout / ".venv" / ".ready").exists()


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_venv", ROOT / "scripts" / "setup_venv.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("line", "doing", "share"),
    [
        (
            "[12/48] /usr/bin/c++ -O3 -o ops.o -c /x/ggml/src/ggml-cpu/ops.cpp",
            "12 of 48 files, ops.cpp",
            0.25,
        ),
        (
            "[ 50%] Building CXX object src/CMakeFiles/llama.dir/llama-model.cpp.o",
            "50 %, llama-model.cpp.o",
            0.5,
        ),
        (
            "[80/83] : && /usr/bin/cmake -E rm -f a/libx.a && ar qc a/libx.a a/b.cpp.o && :",
            "80 of 83 files, b.cpp.o",
            80 / 83,
        ),
        ("[81/83] : && :", "81 of 83 files", 81 / 83),
        ("Collecting torch==2.13.0 (from empathy-edge)", "collecting torch==2.13.0", 0.0),
        ("Installing collected packages: a, b, c", "installing 3 packages (the longest part of it)", 0.0),
    ],
)
def test_progress_is_read_from_the_builds_output(
    script: ModuleType, line: str, doing: str, share: float
) -> None:
    job = script.Job.__new__(script.Job)
    job.doing, job.share = "", 0.0
    job._read_progress(line)
    assert (job.doing, job.share) == (doing, share)


def test_a_command_that_is_offered_can_be_pasted(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")  # no nvidia-smi
    monkeypatch.setattr(script, "PYTHON", Path("/none"))
    script.say_which_torch()
    said = capsys.readouterr().out
    assert not said or "  make setup PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu\n" in said


def test_the_clock_of_a_second_part_goes_on(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(script, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(script, "LOG", tmp_path / "log")
    monkeypatch.setattr(script, "SECONDS_BETWEEN_LINES", 0.5)
    script.watch([script.Job("last part", ["--version"])], script.time.monotonic() - 200)
    lines = capsys.readouterr().out.splitlines()
    assert lines and all(line.startswith("  3 min ") and "last part: " in line for line in lines), lines


def test_the_first_job_covers_every_extra_but_the_one_that_is_compiled(script: ModuleType) -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    assert set(script.REST.split(",")) == extras - {"all", "gguf", "demo", "executorch"}


def test_a_wheel_that_was_compiled_before_is_used(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path))
    assert script.cached_wheel("0.3.36") is None
    wheel = script.wheel_folder("0.3.36") / "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    assert script.find_wheel("0.3.36") == wheel
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_NATIVE=OFF")
    assert script.cached_wheel("0.3.36") is None  # built with other options
