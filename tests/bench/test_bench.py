"""Latency and memory: measured in processes of their own, labelled, with spread."""

import json
from pathlib import Path

import numpy as np
import pytest
from empathy_edge.bench.format_checks import check_format, summarize
from empathy_edge.bench.overhead import compare
from empathy_edge.bench.stats import bootstrap_mean, sign_test, wilson

from empathy_edge.memory import memory_mb
from tests.conftest import assert_one_clear_error, run_command


def test_bench_command(exported: Path, tmp_path: Path) -> None:
    arguments = ["--prompt-tokens", "16", "--decode-tokens", "8", "--threads", "1", "--json", tmp_path / "out.json"]
    result = run_command("bench", exported / "gguf-f16", exported / "onnx-int4", *arguments)
    assert result.returncode == 0, result.stderr
    assert "measured-host" in result.stdout and "gguf-f16" in result.stdout
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["label"] == "measured-host" and figures["machine"]["cpu"]
    for row in figures["artifacts"]:
        assert len(row["samples"]) == 5 and row["threads"] == 1
        assert all(len(sample["token_times_s"]) == 8 for sample in row["samples"])
        assert set(row["memory_mb"]) == {"baseline", "loaded", "after_prefill", "after_decode"}
        assert row["memory_mb"]["after_decode"]["peak_rss"] >= row["memory_mb"]["baseline"]["peak_rss"]
    again = run_command("bench", exported / "gguf-f16", *arguments)
    assert_one_clear_error(again, 2, "out.json", "exists already")


def test_bench_finds_every_artifact_before_it_runs_one(exported: Path, tmp_path: Path) -> None:
    assert_one_clear_error(run_command("bench", exported / "gguf-f16", tmp_path / "nothing"), 2, "nothing")


def test_memory_tells_anonymous_from_file_backed(tmp_path: Path) -> None:
    before = memory_mb()
    block = np.ones(50_000_000, np.uint8)
    with_anonymous = memory_mb()
    assert 45 < with_anonymous["anonymous"] - before["anonymous"] < 60
    (tmp_path / "weights").write_bytes(b"\1" * 50_000_000)
    mapped = np.memmap(tmp_path / "weights", np.uint8, "r")
    assert int(mapped[::4096].sum()) and int(block[0])
    with_file = memory_mb()
    assert 45 < with_file["file_backed"] - with_anonymous["file_backed"] < 60
    assert abs(with_file["anonymous"] - with_anonymous["anonymous"]) < 10


def test_our_loop_makes_the_raw_loops_tokens(exported: Path) -> None:
    assert compare(str(exported / "gguf-f16"))["same_tokens"]


@pytest.mark.parametrize(
    ("text", "finish", "expected"),
    [
        ("I'm so sorry to hear that.", "stop", {"stopped": True, "length": True, "no_loop": True}),
        ("", "stop", {"stopped": True, "length": False, "no_loop": True}),
        ("word " * 98, "stop", {"stopped": True, "length": False, "no_loop": False}),
        ("I am here for you. " * 4, "length", {"stopped": False, "length": True, "no_loop": False}),
        ("I hear you, and I am here. I hear you, and I am glad.", "stop", {"stopped": True, "length": True, "no_loop": True}),
    ],
)  # fmt: skip
def test_format_checks(text: str, finish: str, expected: dict[str, bool]) -> None:
    assert check_format(text, finish) == expected


def test_format_summary_is_shares() -> None:
    rows = [{"text": "Oh no.", "finish_reason": "stop"}, {"text": "Oh no.", "finish_reason": "length"}]
    assert summarize(rows) == {"responses": 2, "ok": 0.5, "stopped": 0.5, "length": 1.0, "no_loop": 1.0,
                               "median_words": 2.0}  # fmt: skip


def test_wilson_against_the_papers_figure() -> None:
    """90 % of 250 has a Wilson interval of 85.7–93.1 %."""
    low, high = wilson(225, 250)
    assert (round(100 * low, 1), round(100 * high, 1)) == (85.7, 93.1)


def test_sign_test_is_exact() -> None:
    assert sign_test(0, 0) == 1 and sign_test(5, 0) == 1 / 32
    assert sign_test(6, 2) == pytest.approx(37 / 256)


def test_bootstrap_covers() -> None:
    """95 % intervals of a known share hold it in about 95 % of 400 samples."""
    generator = np.random.default_rng(1)
    hits = 0
    for sample in range(400):
        result = bootstrap_mean(generator.binomial(1, 0.6, 100).astype(float).tolist(), 400, sample)
        hits += result["low"] <= 0.6 <= result["high"]
    assert 0.91 <= hits / 400 <= 0.98
