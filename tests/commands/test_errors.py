"""A word that nothing is called by is answered with the nearest command, option, file or name."""

from __future__ import annotations

from pathlib import Path

import pytest

from empathy_edge.errors import did_you_mean, did_you_mean_path
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
