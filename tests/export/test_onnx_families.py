"""Families that ONNX Runtime GenAI's builder makes, and those that it refuses, as `export` meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export import artifacts, verify
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import ExportSettings
from tests.export.test_converter import ONLY_BY_SCRIPT
from tests.export.test_families import CASES, make

pytestmark = pytest.mark.slow

BY_BUILDER = ("granite", "qwen3", "LFM2")
REFUSED = {
    "smollm 3": "SmolLM3ForCausalLM",
    "OLMo 2": "Olmo2ForCausalLM",
    "Qwen 3.5": "Qwen3_5ForCausalLM",
}
"""Our name of a family → its class, which the message names."""


@pytest.fixture
def all_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make` knows the families of llama.cpp's script, too."""
    for name, case in ONLY_BY_SCRIPT.items():
        monkeypatch.setitem(CASES, name, case)


def _export(family: str, like: Path, folder: Path) -> None:
    make(family, like, folder / "model")
    settings = ExportSettings(artifacts=("onnx-int4",))
    base = find_model(str(folder / "model"))
    artifacts.make_artifacts(folder / "model", folder / "out", settings, base=base, adapters=[])


@pytest.mark.usefixtures("all_families")
@pytest.mark.parametrize("family", BY_BUILDER)
def test_the_builder_makes_it_right(family: str, tiny_model: Path, tmp_path: Path) -> None:
    """The verification raises where it is not."""
    _export(family, tiny_model, tmp_path)
    made = tmp_path / "out" / "onnx-int4"
    results = verify.run(checkpoint=tmp_path / "model", artifacts=[made], out=tmp_path / "verify")
    assert results.artifacts[0].golden_ids_equal


@pytest.mark.usefixtures("all_families")
@pytest.mark.parametrize("family", REFUSED)
def test_the_builder_refuses_it_in_clear_words(family: str, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(EmpathyEdgeError, match=f"builder cannot make {REFUSED[family]}") as refused:
        _export(family, tiny_model, tmp_path)
    assert "--to onnx-portable-int8" in str(refused.value) and "Traceback" not in str(refused.value)
