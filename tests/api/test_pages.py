"""The page of the API is fresh, and its example runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import empathy_edge
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "api.md"


def test_the_page_is_fresh_and_complete() -> None:
    from scripts.api_page import api_markdown, names_on_the_page

    text = PAGE.read_text(encoding="utf-8")
    assert text == api_markdown(), "run `make docs`"
    assert max(map(len, text.splitlines())) <= 100
    errors = {name for name in empathy_edge.__all__ if name.endswith(("Error", "Failed"))}
    assert names_on_the_page() | errors == set(empathy_edge.__all__)
    assert all(name in text for name in errors)


def python_of(page: Path) -> str:
    """The page's first block of Python, of at most eight lines."""
    code = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 8
    return code


def write_adapter(model: Path, folder: Path) -> None:
    """A LoRA adapter as `finetune` writes one, before its first step."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
    get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "model", "out"),
    [(PAGE, '"smollm2-135m"', "exported"), (ROOT / "README.md", '"my-org/my-model"', "made")],
    ids=["api", "README"],
)
def test_the_example_runs(
    page: Path,
    model: str,
    out: str,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As it stands on the page, with the tiny model and a fifth of the prompts."""
    replaced = python_of(page).replace(model, repr(str(tiny_model)))
    replaced = replaced.replace(", replies=ReplySettings(max_prompts=96)", "")
    replaced = replaced.replace(
        "reference=made.checkpoint",
        "reference=made.checkpoint, replies=ReplySettings(max_prompts=128, samples=2, max_new_tokens=8)",
    )
    assert replaced.count(str(tiny_model)) == 1 and "ReplySettings" in replaced
    monkeypatch.chdir(tmp_path)
    write_adapter(tiny_model, tmp_path / "tuned")
    exec(f"from empathy_edge import ReplySettings\n{replaced}", {})
    printed = capsys.readouterr().out
    assert "gguf-q8_0" in printed and "PASS" in printed
    assert (tmp_path / out / "gguf-q8_0" / "model.gguf").exists()
