"""A word that nothing is called by is answered with the nearest command, option, file or name."""

from __future__ import annotations

from pathlib import Path

import pytest

from empathy_edge.cli import _complain
from empathy_edge.errors import did_you_mean, did_you_mean_path
from empathy_edge.judging.raters.sheet_rater import RatingsMissing
from tests.conftest import assert_one_clear_error, run_command


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("chekc a --reference b", "No such command 'chekc'. Did you mean check?"),
        ("benhc a", "Did you mean bench"),
        ("bench predcit --device pixel-8", "Did you mean predict?"),
        ("bench comapre a b", "Did you mean compare?"),
        ("export bundel a --out b", "Did you mean bundle?"),
        ("judge sheet raed a --sheet b --out c", "Did you mean read?"),
        ("winrate a", "`empathy-edge release` took its place"),
        ("gate a", "`empathy-edge check` took its place"),
        ("verify a", "`empathy-edge export` took its place"),
        ("power", "`empathy-edge check` took its place"),
        ("certify a", "`empathy-edge judge certify` took its place"),
        ("check a --refrence b", "Did you mean '--reference'?"),
        ("chat smollm2-135", "Did you mean smollm2-135m?"),
        ("run quikstart", "Did you mean quickstart?"),
        ("devices pixel8", "Did you mean pixel-8?"),
        ("choose smollm2-135m --device galaxy-s32 --out o", "Did you mean galaxy-s23"),
        ("export smollm2-135m --to gguf-q4km --out o", "Did you mean gguf-q4_k_m"),
        ("chat --template mstral", "Did you mean mistral-v3?"),
        ("data inspect sample --map utterence=text", "Did you mean utterance?"),
    ],
)
def test_the_nearest_name(line: str, answer: str, tmp_path: Path) -> None:
    assert_one_clear_error(run_command(*line.split(), cwd=tmp_path, input=""), 2, answer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        "data inspect dialogs.jsonl",
        "judge compare dialogs.jsonl b.jsonl --dialogues d --judge local:x --out o",
        "bench compare dialogs.jsonl old.json",
        "check dialogs.jsonl --baseline b.json.gz",
        "chat dialogs.jsonl",
        "score tag --data dialogs.jsonl",
        "export check dialogs.jsonl",
        "select dialogs.jsonl --base smollm2-135m --out o",
    ],
)
def test_the_nearest_file(line: str, tmp_path: Path) -> None:
    if line.startswith(("score", "select")):
        pytest.importorskip("torch")
    (tmp_path / "dialogues.jsonl").touch()
    result = run_command(*line.split(), cwd=tmp_path, input="")
    assert_one_clear_error(result, 2, "Did you mean dialogues.jsonl?")


def test_names_and_paths_that_are_near(tmp_path: Path) -> None:
    made = tmp_path / "exported" / "gguf-q8_0"
    made.mkdir(parents=True)
    assert did_you_mean_path(tmp_path / "exprted" / "gguf-q8_0") == f" Did you mean {made}?"
    assert did_you_mean_path(tmp_path / "exported" / "gguf-q80") == f" Did you mean {made}?"
    assert did_you_mean_path(tmp_path / "exprted" / "nothing-like-it") == ""
    assert did_you_mean_path(tmp_path / "exported" / "gguf-q8_0" / "model.gguf") == ""
    assert did_you_mean("GGUF-Q8", ["gguf-q8_0", "onnx-int4"]) == " Did you mean gguf-q8_0?"
    assert did_you_mean("x", ["gguf-q8_0"]) == ""


def test_a_folder_of_models_names_them(tmp_path: Path) -> None:
    """It said that exported is no checkpoint folder."""
    exported, rows = tmp_path / "exported", tmp_path / "rows"
    (exported / "merged").mkdir(parents=True)
    (exported / "merged" / "config.json").write_text("{}")
    (exported / "b.gguf").touch()
    found = run_command("chat", "exported", cwd=tmp_path)
    assert_one_clear_error(found, 2, "exported: is no model itself. In it there are: b.gguf, merged.")
    assert "empathy-edge chat exported/b.gguf" in found.stderr
    run = run_command("chat", exported.rename(tmp_path / "export").parent)
    assert_one_clear_error(run, 2, f"In {tmp_path / 'export'} there are: b.gguf, merged")
    rows.mkdir()
    (rows / "sft.jsonl").touch()
    found = run_command("chat", "rows", cwd=tmp_path)
    assert_one_clear_error(found, 2, "rows: is a folder of training rows", "no model")
    assert "empathy-edge finetune rows --out tuned" in found.stderr
    (tmp_path / "nothing").mkdir()
    assert_one_clear_error(run_command("chat", tmp_path / "nothing"), 2, "it is no checkpoint folder")


def test_a_check_names_the_reference_beside_the_artifact(tmp_path: Path) -> None:
    for name, file in (("merged", "config.json"), ("gguf-q8_0", "manifest.json")):
        (tmp_path / "exported" / name).mkdir(parents=True)
        (tmp_path / "exported" / name / file).write_text('{"artifact": {}}')
    result = run_command("check", "exported/gguf-q8_0", cwd=tmp_path)
    assert_one_clear_error(result, 2, "either --reference MODEL", "--reference exported/merged")
    (tmp_path / "exported" / "gguf-q8_0" / "model.gguf").touch()
    result = run_command("check", "exported/gguf-q8_0/model.gguf", cwd=tmp_path)
    assert_one_clear_error(result, 2, "--reference exported/merged")
    result = run_command("check", "exported/merged", cwd=tmp_path)
    assert_one_clear_error(result, 2, "either --reference MODEL")
    assert "exported/merged" not in result.stderr


def test_a_column_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("txt,number\nI lost my dog.,1\n")
    result = run_command("data", "inspect", "data.csv", "--map", "utterance=txtt", cwd=tmp_path)
    assert_one_clear_error(result, 2, "no column 'txtt' (--map); found: txt, number. Did you mean txt?")


def test_a_sheet_that_waits_for_ratings_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    _complain("ratings.csv: the sheet is written", is_error=RatingsMissing.is_error)
    _complain("ratings.csv: is no sheet")
    assert capfd.readouterr().err == "ratings.csv: the sheet is written\nError: ratings.csv: is no sheet\n"
