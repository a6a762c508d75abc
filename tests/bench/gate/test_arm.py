"""Responses of one arm: a checkpoint with its adapters answers the test split."""

import json
from pathlib import Path

import pytest

from empathy_edge.bench.gate.arm import Beginning, most_common_beginning
from empathy_edge.formats.dialogue import read_jsonl
from tests.conftest import assert_one_clear_error, dialogue_row, run_command, write_rows


@pytest.fixture
def dialogues(tmp_path: Path) -> Path:
    rows = [dialogue_row(id=f"d{n}", utterance=f"My cat died {n} days ago.", split="test") for n in range(3)]
    return write_rows(tmp_path / "dialogues.jsonl", *rows, dialogue_row(id="learned", utterance="I won."))


@pytest.mark.slow
def test_an_arm_answers_the_test_split_and_goes_on_where_it_was(
    tiny_model: Path, dialogues: Path, tmp_path: Path
) -> None:
    file = tmp_path / "arm.jsonl"
    arguments = ["respond", tiny_model, "--dialogues", dialogues, "--max-new-tokens", "8", "--out", file]
    result = run_command(*arguments)
    assert result.returncode == 0, result.stderr
    rows = read_jsonl(file)
    assert sorted(row["id"] for row in rows) == ["d0", "d1", "d2"] and "same beginning" in result.stdout
    file.write_text(json.dumps({**rows[0], "text": "kept"}) + "\n" + json.dumps(rows[1])[:20])
    assert run_command(*arguments).returncode == 0
    again = {row["id"]: row["text"] for row in read_jsonl(file)}
    assert len(again) == 3 and again[rows[0]["id"]] == "kept"


@pytest.mark.slow
def test_an_adapter_changes_what_is_said(tiny_model: Path, dialogues: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    lora = LoraConfig(r=8, lora_alpha=64, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), lora)
    model.save_pretrained(tmp_path / "adapter")
    texts = []
    for options in ([], ["--adapter", tmp_path / "adapter"]):
        out = tmp_path / f"arm{len(options)}.jsonl"
        arguments = [*options, "--dialogues", dialogues, "--max-new-tokens", "8", "--out", out]
        result = run_command("respond", tiny_model, *arguments)
        assert result.returncode == 0, result.stderr
        texts.append([row["text"] for row in read_jsonl(out)])
    assert texts[0] != texts[1]


@pytest.mark.slow
def test_a_missing_adapter_is_named(tiny_model: Path, dialogues: Path, tmp_path: Path) -> None:
    options = ["--adapter", tmp_path / "none", "--dialogues", dialogues, "--out", tmp_path / "x.jsonl"]
    assert_one_clear_error(run_command("respond", tiny_model, *options), 2, "none")


def test_the_most_common_beginning_is_a_share() -> None:
    texts = ["I am so sorry.", "I am so glad.", "No.", ""]
    rows = [
        {"id": str(n), "text": text, "finish_reason": "stop", "tokens": 4} for n, text in enumerate(texts)
    ]
    assert most_common_beginning(rows) == Beginning("I am so", 0.5)
