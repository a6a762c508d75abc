"""Rows from rated responses: the rules of the direct method (arXiv 2507.08151)."""

import json
from pathlib import Path

import pytest

from empathy_edge.bench.release.safety import flag, safety_prompts
from empathy_edge.data import safety_file
from empathy_edge.distill.from_ratings import run
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.runs.settings import DistillSettings
from tests.commands.tree import assert_says_next
from tests.conftest import dialogue_row, run_command, write_rows


def _rated(name: str, human: int, model: int, split: str = "train") -> dict[str, object]:
    responses = [
        {"source": "human", "text": f"human on {name}", "rating": human},
        {"source": "llm", "text": f"model on {name}", "rating": model},
    ]
    return dialogue_row(id=name, utterance=f"I say {name}.", responses=responses, split=split)


def test_rules_of_the_direct_method(tmp_path: Path) -> None:
    data = write_rows(
        tmp_path / "rated.jsonl",
        _rated("both-good", 3, 3),
        _rated("human-okay", 2, 3),
        _rated("human-bad", 1, 3),
        _rated("model-okay", 1, 2),
        _rated("human-better", 3, 1),
        _rated("kept-for-test", 3, 3, split="test"),
        _rated("pair-for-test", 1, 3, split="test"),
    )
    results = run(data=data, out=tmp_path / "out", settings=DistillSettings(models=("llm",)))
    sft, pairs, control, test = (
        read_jsonl(tmp_path / "out" / f"{name}.jsonl") for name in ("sft", "preference", "control", "test")
    )
    assert [row["id"] for row in sft] == ["both-good"]
    assert sft[0]["completion"] == [{"role": "assistant", "content": "model on both-good"}]
    assert [message["role"] for message in sft[0]["prompt"]] == ["system", "user"]
    assert [row["id"] for row in pairs] == ["human-okay", "human-bad"]
    assert pairs[1]["chosen"][0]["content"] == "model on human-bad"
    assert pairs[1]["rejected"][0]["content"] == "human on human-bad"
    assert [row["id"] for row in control] == ["human-better"]
    assert [row["id"] for row in test] == ["kept-for-test", "pair-for-test"]
    assert results.sft_rows == 1 and results.preference_pairs == 2


def test_sft_on_chosen_trains_on_both(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rated.jsonl", _rated("a", 3, 3), _rated("b", 1, 3), _rated("c", 1, 2))
    run(data=data, out=tmp_path / "out", settings=DistillSettings(models=("llm",), sft_on_chosen=True))
    assert [row["id"] for row in read_jsonl(tmp_path / "out" / "sft.jsonl")] == ["a", "b"]
    assert [row["id"] for row in read_jsonl(tmp_path / "out" / "preference.jsonl")] == ["b"]


def test_good_responses_of_one_source_need_no_weaker_ones(tmp_path: Path) -> None:
    """`--model editor` was refused, since nothing came from `human`."""
    responses = [{"source": "editor", "text": "I'm so sorry about your cat.", "rating": 3}]
    data = write_rows(tmp_path / "rated.jsonl", dialogue_row(responses=responses))
    with pytest.raises(EmpathyEdgeError, match="Name with --model those to learn from"):
        run(data=data, out=tmp_path / "defaults", settings=DistillSettings())
    with pytest.raises(EmpathyEdgeError, match="no response comes from 'draft'"):
        settings = DistillSettings(models=("editor",), reference="draft")
        run(data=data, out=tmp_path / "misspelt", settings=settings)
    run(data=data, out=tmp_path / "out", settings=DistillSettings(models=("editor",)))
    assert len(read_jsonl(tmp_path / "out" / "sft.jsonl")) == 1


def test_distill_says_how_pairs_give_sft_rows_too(tmp_path: Path) -> None:
    pair = {"prompt": "I lost my job.", "chosen": "Oh no.", "rejected": "So?"}
    data = write_rows(tmp_path / "pairs.jsonl", pair)
    command = ("distill", "--data", data, "--reference", "rejected", "--model", "chosen", "--out")
    pairs = run_command(*command, tmp_path / "pairs")
    assert pairs.returncode == 0 and "With --sft-on-chosen" in " ".join(pairs.stderr.split())
    assert_says_next(pairs, f"empathy-edge finetune {tmp_path / 'pairs'} --base smollm2-135m --only dpo ")
    both = run_command(*command, tmp_path / "both", "--sft-on-chosen")
    assert both.returncode == 0 and "Warning" not in both.stderr
    assert_says_next(both, f"empathy-edge finetune {tmp_path / 'both'} --base smollm2-135m --out ")
    (row,) = read_jsonl(tmp_path / "both" / "sft.jsonl")
    assert row["completion"][0]["content"] == "Oh no."


def test_hard_pairs_are_two_model_responses_to_one_dialogue(tmp_path: Path) -> None:
    row = _rated("a", 3, 3)
    row["responses"].append({"source": "other", "text": "weak model on a", "rating": 1})  # type: ignore[attr-defined]
    data = write_rows(tmp_path / "rated.jsonl", row, _rated("b", 1, 3))
    for hard, wanted in ((False, ["human on b"]), (True, ["weak model on a", "human on b"])):
        settings = DistillSettings(models=("llm", "other"), hard_pairs=hard)
        run(data=data, out=tmp_path / str(hard), settings=settings)
        pairs = read_jsonl(tmp_path / str(hard) / "preference.jsonl")
        assert [pair["rejected"][0]["content"] for pair in pairs] == wanted


def test_paper_data_counts(paper_csv: Path, tmp_path: Path) -> None:
    settings = DistillSettings(max_sft=300, max_pairs=150)
    results = run(data=paper_csv, out=tmp_path / "out", settings=settings)
    assert (results.sft_found, results.pairs_found) == (639, 593)
    assert (results.sft_rows, results.preference_pairs, results.test_dialogues) == (300, 150, 250)
    test = {row["id"] for row in read_jsonl(tmp_path / "out" / "test.jsonl")}
    for name in ("sft", "preference", "control"):
        assert not test & {row["id"] for row in read_jsonl(tmp_path / "out" / f"{name}.jsonl")}


def test_nearly_a_test_dialogue_is_left_out_and_named(tmp_path: Path) -> None:
    copied = {**_rated("copy", 3, 3), "utterance": "I SAY: keep for test!"}
    kept = {**_rated("kept", 1, 3, split="test"), "utterance": "I say, keep for test."}
    data = write_rows(tmp_path / "rated.jsonl", copied, kept, _rated("a", 3, 3), _rated("b", 1, 3))
    results = run(data=data, out=tmp_path / "out", settings=DistillSettings(models=("llm",)))
    assert results.left_out_as_nearly_in_the_test_split == ["copy"]
    assert [row["id"] for row in read_jsonl(tmp_path / "out" / "sft.jsonl")] == ["a"]


def test_safety_rows_are_added_and_rows_like_the_safety_prompts_are_left_out(tmp_path: Path) -> None:
    tested = safety_prompts()[0].utterance
    same = {**_rated("tested", 3, 3), "utterance": f"{tested} Really."}
    data = write_rows(tmp_path / "rated.jsonl", _rated("a", 3, 3), _rated("b", 1, 3), same)
    settings = DistillSettings(models=("llm",), safety_rows=2)
    results = run(data=data, out=tmp_path / "out", settings=settings)
    shipped = read_dialogues(safety_file())
    rows = [row["id"] for row in read_jsonl(tmp_path / "out" / "sft.jsonl")]
    assert rows == ["a", *[dialogue.id for dialogue in shipped] * 2]
    assert results.safety_rows == 2 * len(shipped)
    assert results.left_out_as_nearly_in_the_test_split == ["tested"]


def test_no_shipped_safe_answer_is_flagged_by_the_guard() -> None:
    answered = [
        (dialogue.emotion, response.text)
        for dialogue in read_dialogues(safety_file())
        for response in dialogue.responses
    ]
    assert not [text for kind, text in answered if kind != "harmless" and flag(kind, text)]


def test_sampling_follows_its_seed(tmp_path: Path) -> None:
    rows = [_rated(f"s{number}", 3, 3) for number in range(30)] + [
        _rated(f"p{number}", 1, 3) for number in range(30)
    ]
    data = write_rows(tmp_path / "rated.jsonl", *rows)

    def ids(seed: int, out: str) -> list[str]:
        settings = DistillSettings(models=("llm",), max_sft=5, max_pairs=5, seed=seed)
        run(data=data, out=tmp_path / out, settings=settings)
        return [row["id"] for row in read_jsonl(tmp_path / out / "sft.jsonl")]

    assert ids(1, "a") == ids(1, "b") != ids(2, "c")


def test_unknown_source_lists_the_files_sources(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rated.jsonl", _rated("a", 3, 3))
    with pytest.raises(EmpathyEdgeError, match=r"'gpt'(.|\n)*human, llm"):
        run(data=data, out=tmp_path / "out", settings=DistillSettings(models=("gpt",)))


def test_too_few_rows_say_what_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_rows(tmp_path / "rated.jsonl", _rated("a", 3, 3))
    run(data=data, out=tmp_path / "out", settings=DistillSettings(models=("llm",)))
    assert "1 SFT rows and 0 preference pairs" in capsys.readouterr().err  # enough for SFT alone
    data = write_rows(tmp_path / "poor.jsonl", _rated("a", 3, 2))
    with pytest.raises(EmpathyEdgeError, match="0 SFT rows and 0 preference pairs"):
        run(data=data, out=tmp_path / "none", settings=DistillSettings(models=("llm",)))


def test_manifest_names_inputs_by_hash(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rated.jsonl", _rated("a", 3, 3), _rated("b", 1, 3))
    run(data=data, out=tmp_path / "out", settings=DistillSettings(models=("llm",)))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (
        manifest["inputs"]["data"]["path"] == "rated.jsonl"
        and len(manifest["inputs"]["data"]["sha256"]) == 64
    )
    assert set(manifest["outputs"]) == {"sft.jsonl", "preference.jsonl", "control.jsonl", "test.jsonl"}


def test_layouts_for_other_trainers(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    from datasets import load_dataset

    from tests.conftest import assert_one_clear_error, run_command

    data = write_rows(tmp_path / "rated.jsonl", _rated("a", 3, 3), _rated("b", 1, 3))
    rows = tmp_path / "rows"
    run(data=data, out=rows, settings=DistillSettings(models=("llm",)))
    assert run_command("convert", rows, "--to", "llama-factory", "--out", tmp_path / "lf").returncode == 0
    info = json.loads((tmp_path / "lf" / "dataset_info.json").read_text())
    assert info["empathy_dpo"]["ranking"] is True
    (row,) = json.loads((tmp_path / "lf" / info["empathy_sft"]["file_name"]).read_text())
    assert [turn["from"] for turn in row["conversations"]] == ["system", "human", "gpt"]
    (pair,) = json.loads((tmp_path / "lf" / "dpo.json").read_text())
    assert (
        pair["chosen"] == {"from": "gpt", "value": "model on b"} and pair["rejected"]["value"] == "human on b"
    )
    assert run_command("convert", rows, "--to", "parquet", "--out", tmp_path / "pq").returncode == 0
    file = str(tmp_path / "pq" / "sft.parquet")
    loaded = load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[0]["completion"] == [{"role": "assistant", "content": "model on a"}]
    assert_one_clear_error(
        run_command("convert", rows, "--to", "parquet", "--out", tmp_path / "pq"), 2, "not empty"
    )
