"""Responses of one arm: a checkpoint with its adapters answers the test split."""

import json
import shutil
from pathlib import Path

import pytest

from empathy_edge.bench.release.arm import Beginning, most_common_beginning
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import read_jsonl, write_jsonl
from empathy_edge.judging.response_pairs import read_responses
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
def test_responses_of_another_model_are_never_mixed_in(
    tiny_model: Path, dialogues: Path, tmp_path: Path
) -> None:
    """The review's B6: model A's responses were printed under model B's name."""
    file = tmp_path / "arm.jsonl"
    arguments = ["--dialogues", dialogues, "--max-new-tokens", "8", "--out", file]
    assert run_command("respond", tiny_model, *arguments).returncode == 0
    before = file.read_text()
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    template = other / "chat_template.jinja"
    template.write_text(template.read_text() + " ")  # the same weights, another template
    for model, more in ((other, ()), (tiny_model, ("--max-new-tokens", "9"))):
        result = run_command("respond", model, *arguments, *more)
        assert_one_clear_error(result, 2, "arm.jsonl", "not a response of this model", "not changed")
    assert file.read_text() == before
    result = run_command("respond", tmp_path / "nothing", *arguments)
    assert_one_clear_error(result, 2, "nothing: no such model")


@pytest.mark.slow
def test_files_of_two_models_are_refused_by_whoever_reads_them(tmp_path: Path, dialogues: Path) -> None:
    rows = [{"id": f"d{number}", "text": "I see.", "model": f"m{number // 2}"} for number in range(3)]
    file = tmp_path / "mixed.jsonl"
    write_jsonl(file, rows)
    write_jsonl(tmp_path / "twice.jsonl", [rows[0], rows[0]])
    for words, name in (("row 3 is of another model", file), ("second response", tmp_path / "twice.jsonl")):
        commands = (
            ("judge", "compare", name, name, "--judge", f"file:{name}"),
            ("judge", "sheet", "make", name, name),
        )
        for command in commands:
            result = run_command(*command, "--dialogues", dialogues, "--out", tmp_path / "out")
            assert_one_clear_error(result, 2, words)
        with pytest.raises(EmpathyEdgeError, match=words):
            read_responses(name)


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


@pytest.mark.slow
def test_prompts_alone_are_answered_after_what_was_said_before(tiny_model: Path, tmp_path: Path) -> None:
    """Without a test split all are answered; the same words after another beginning are another prompt."""
    last = {"role": "user", "content": "Yes, that is how it was."}
    before = [{"role": "user", "content": "My cat died."}, {"role": "assistant", "content": "Today?"}]
    data = write_rows(tmp_path / "talks.jsonl", {"messages": [last]}, {"messages": [*before, last]})
    out = tmp_path / "answers.jsonl"
    result = run_command("respond", tiny_model, "--dialogues", data, "--max-new-tokens", "8", "--out", out)
    assert result.returncode == 0, result.stderr
    assert "no test split; all 2" in result.stderr
    rows = {row["id"]: row["text"] for row in read_jsonl(out)}
    assert rows["row-1"] != rows["row-2"]
