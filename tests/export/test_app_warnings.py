"""Export says where an app would give the model another prompt than training, and how to avoid it."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from empathy_edge.export.gguf import app_warnings as warning
from empathy_edge.formats.built_in_templates import built_in_template
from empathy_edge.formats.vocabulary import Vocabulary
from tests.conftest import run_command

needs_ggufdoctor = pytest.mark.skipif(
    importlib.util.find_spec("ggufdoctor") is None, reason="ggufdoctor is not installed (the extra 'apps')"
)

VOCABULARY = Vocabulary(frozenset(), "<s>", "</s>", True, "llama")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@needs_ggufdoctor
def test_ollama_would_drop_the_default_system_turn(
    exported: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = warning.app_warnings(exported / "gguf-q8_0" / "model.gguf")
    assert "Ollama would take its own template `chatml`" in line
    assert "You are a helpful AI assistant named SmolLM" in line and "--for ollama" in line

    def no_run(*_: object) -> None:
        raise AssertionError("the same template is looked at again")

    monkeypatch.setattr(warning, "_run_ggufdoctor", no_run)
    assert warning.app_warnings(exported / "gguf-f16" / "model.gguf") == [line]


@needs_ggufdoctor
def test_a_file_that_ggufdoctor_cannot_read_is_said(
    exported: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(exported / "gguf-q8_0", tmp_path / "copy")
    monkeypatch.setattr(warning, "_RUN", "raise SystemExit('it broke')")
    (line,) = warning.app_warnings(tmp_path / "copy" / "model.gguf")
    assert line == "what apps make of the chat template is not known: ggufdoctor: it broke"
    assert not (own_cache / "app-warnings").exists()


@needs_ggufdoctor
def test_export_prints_each_warning_once(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run_command("export", tiny_model, "--to", "gguf-f16", "--to", "gguf-q8_0", "--out", out)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert said.count("Warning: ") == 1 and "Warning: gguf-f16, gguf-q8_0: Ollama would take" in said
    rows = json.loads((out / "verify" / "verify.json").read_text())
    assert [len(row["warnings"]) for row in rows] == [1, 1] and rows[0]["verdict"] == "PASS"


def test_without_ggufdoctor_it_says_so(
    exported: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warning, "has_ggufdoctor", lambda: False)
    assert warning.app_warnings(exported / "gguf-q8_0" / "model.gguf") == []


def test_a_token_that_training_did_not_see_is_said() -> None:
    template = built_in_template("chatml", begins_with_bos=False)
    (line,) = warning._bos_warnings(template, VOCABULARY)
    assert "does not write <s>" in line and "{{ bos_token }}" in line
    assert not warning._bos_warnings(built_in_template("chatml", begins_with_bos=True), VOCABULARY)


FINDINGS = {
    # what is said, or nothing: ggufdoctor's check, its grade, its evidence
    "give the app the stop text <end>": ("S005", "warn", {"eos_token": "</s>"}),
    "twice in an app": ("S006", "info", {"add_bos_token": True}),
    "`chatml` in place of the model's: other prompts (without “Be kind.”)": (
        "X003",
        "error",
        {"fixtures": ["user_only"], "ollama_template": "chatml", "diff": "---\n+++\n@@\n-<|s|>\n-Be kind.\n"},
    ),
    "llama.cpp renders the chat template to another": ("X001", "error", {"fixtures": ["multiturn"]}),
    "special tokens that the vocabulary lacks (<|x|>)": ("S004", "error", {"missing": ["<|x|>"]}),
}
NO_FINDINGS = (
    ("X002", "error", {"fixtures": ["tool_roundtrip"]}),
    ("X002", "info", {"fixtures": ["user_only"]}),
    ("O001", "info", {"ollama_template": "chatml"}),
    ("R001", "error", {"fixtures": ["user_only"]}),
    # llama.cpp adds the first token of Ollama's prompt, which then is the same.
    ("X003", "error", {"fixtures": ["user_only"], "diff": "---\n+++\n@@\n-<s><|user|>\n+<|user|>"}),
)


@pytest.mark.parametrize("words", FINDINGS)
def test_findings_are_lines_with_a_fix(words: str) -> None:
    identity, severity, evidence = FINDINGS[words]
    finding = {"id": identity, "severity": severity, "message": "", "fixture": None, "evidence": evidence}
    line = warning._line(finding, VOCABULARY, "<end>")
    assert line and words in line and "\n" not in line and "; " in line


@pytest.mark.parametrize("finding", NO_FINDINGS)
def test_what_no_prompt_of_training_meets_is_left_out(finding: tuple[str, str, dict[str, object]]) -> None:
    identity, severity, evidence = finding
    assert (
        warning._line({"id": identity, "severity": severity, "evidence": evidence}, VOCABULARY, "x") is None
    )
