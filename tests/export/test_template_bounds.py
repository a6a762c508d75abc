"""A chat template from elsewhere cannot keep an export busy for ever, or take all memory."""

import shutil
import sys
from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export import golden, merged
from empathy_edge.export.gguf import app_warnings
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION
from empathy_edge.models.find import find_model
from empathy_edge.system.processes import run_captured
from tests.export.test_app_warnings import needs_ggufdoctor
from tests.models.test_adapters import lora_config, write_adapter

BOMB = (
    "{% if messages | length > 2 %}"
    "{% for a in range(2000) %}{% for b in range(2000) %}{% endfor %}{% endfor %}{% endif %}"
)
"""It begins with the golden conversation: shorter ones, with which templates are tried out, end at once."""


def test_the_proof_of_a_merge_renders_with_bounds(tiny_model: Path, tmp_path: Path) -> None:
    """transformers rendered it, with as many rounds as it liked."""
    base, adapter = tmp_path / "model", tmp_path / "adapter"
    shutil.copytree(tiny_model, base)
    file = base / "chat_template.jinja"
    file.write_text(BOMB + file.read_text())
    write_adapter(base, lora_config(), adapter)
    with pytest.raises(EmpathyEdgeError, match="cannot be rendered: its loops have more than"):
        merged.make(base=find_model(str(base)), adapters=[adapter], out=tmp_path / "out", tolerance=1e-2)


def test_the_proof_has_the_ids_of_transformers(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    expected = tokenizer.apply_chat_template(
        GOLDEN_CONVERSATION, add_generation_prompt=True, return_dict=False, return_tensors="pt"
    )
    assert golden.golden_ids(tiny_model).tolist() == expected.tolist()


@needs_ggufdoctor
def test_ggufdoctor_is_ended_where_a_template_does_not_end(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(app_warnings, "SECONDS", 1)
    monkeypatch.setattr(app_warnings, "_RUN", "while True: pass")
    (line,) = app_warnings.app_warnings(exported / "gguf-q8_0" / "model.gguf")
    assert "ggufdoctor: it did not end within 1 s" in line


@needs_ggufdoctor
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's data")
def test_ggufdoctor_cannot_take_all_memory(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(app_warnings, "_RUN", f"bytearray({app_warnings.MEMORY_BYTES})")
    (line,) = app_warnings.app_warnings(exported / "gguf-q8_0" / "model.gguf")
    assert "ggufdoctor: MemoryError" in line


def test_a_program_that_takes_too_long_is_one_error() -> None:
    with pytest.raises(EmpathyEdgeError, match=r"did not end within 0\.5 s"):
        run_captured([sys.executable, "-c", "while True: pass"], timeout_s=0.5)
