"""Families that litert-torch converts, and those that it refuses, as `export` meets them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.export import artifacts, verify
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import ExportSettings
from tests.conftest import ROOT
from tests.export.test_converter import ONLY_BY_SCRIPT
from tests.export.test_families import CASES, make

pytestmark = pytest.mark.slow

CONVERTED = ("qwen3", "gemma 3")
"""Each takes a minute; `BY_HAND` was converted and verified in the same way once, on 2026-11-29."""

BY_HAND = (
    "llama", "llama, biases", "llama 3", "llama, linear rope", "mistral", "qwen2", "smollm 3", "OLMo 2",
)  # fmt: skip

REFUSED = {"LFM2": "Lfm2ForCausalLM", "phi 3": "Phi3ForCausalLM"}
"""Our name of a family → its class, which the message names."""

REFUSED_BY_HAND = ("EXAONE 4",)
"""Seen on the same day, as those above."""

WRONG = ("Qwen 3.5",)
"""Converted to another model, which the verification finds; seen on the same day."""

FP32_ONLY = ("granite",)
"""ai-edge-quantizer cannot rotate its weights: `litertlm-fp32` alone can be made."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """litert-torch's, and `make` knows the families of llama.cpp's script, too."""
    pytest.importorskip("litert_lm")
    from empathy_edge.runtimes.litert_lm_runtime import require_vulkan

    try:
        require_vulkan()
    except PrerequisiteError as error:
        pytest.skip(str(error))
    folder = Path(os.environ.get("EMPATHY_EDGE_LITERT_FOR_TESTS", ROOT / ".venv-litert"))
    if not folder.is_dir():
        pytest.skip("make setup-litert was not run")
    monkeypatch.setenv("EMPATHY_EDGE_LITERT", str(folder))
    for name, case in ONLY_BY_SCRIPT.items():
        monkeypatch.setitem(CASES, name, case)


def _export(family: str, like: Path, folder: Path) -> None:
    make(family, like, folder / "model")
    settings = ExportSettings(artifacts=("litertlm-fp32", "litertlm-int8"))
    base = find_model(str(folder / "model"))
    artifacts.make_artifacts(folder / "model", folder / "out", settings, base=base, adapters=[])


@pytest.mark.parametrize("family", CONVERTED)
def test_it_is_converted_right(family: str, tiny_model: Path, tmp_path: Path) -> None:
    """The verification raises where it is not. Gemma 3 attends in a sliding window."""
    _export(family, tiny_model, tmp_path)
    made = [tmp_path / "out" / name for name in ("litertlm-fp32", "litertlm-int8")]
    results = verify.run(checkpoint=tmp_path / "model", artifacts=made, out=tmp_path / "verify")
    assert [row.golden_ids_equal for row in results.artifacts] == [True, True]
    assert results.artifacts[0].mean_kl < 1e-4


@pytest.mark.parametrize("family", REFUSED)
def test_it_is_refused_in_clear_words(family: str, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(EmpathyEdgeError, match=f"litert-torch cannot convert {REFUSED[family]}") as refused:
        _export(family, tiny_model, tmp_path)
    assert "--to gguf-q8_0" in str(refused.value) and "Traceback" not in str(refused.value)
