"""Where a loss comes from: each step's share of it, the merge's proof, and the dialogues that got worse, with their texts."""

import json
from pathlib import Path

import pytest

from empathy_edge.bench.gate.attribution import diagnose, lost_by_step, worse_dialogues
from empathy_edge.formats.dialogue import write_jsonl
from empathy_edge.runs.recipe import GateSettings
from tests.conftest import run_command

FULL, BASE = "fine-tuned", "base"
HOSTILE = "<script>alert(1)</script> | **no**"


def _responses(folder: Path, arm: str, texts: dict[str, str], finish: str = "stop") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"id": name, "text": text, "finish_reason": finish, "tokens": 3} for name, text in texts.items()]
    write_jsonl(folder / f"{arm}.jsonl", rows)


def test_each_step_has_its_share_of_the_loss() -> None:
    names = [str(number) for number in range(100)]
    half = dict.fromkeys(names, 0.5)
    points = {("gguf-f16", FULL): half | {"0": 0.0, "1": 0.0}, ("gguf-q4_0", FULL): dict.fromkeys(names, 0.3)}
    lost = lost_by_step("gguf-q4_0", points)
    assert lost["conversion"]["mean"] == pytest.approx(0.01) and lost["quantization"][
        "mean"
    ] == pytest.approx(0.19)
    assert lost["conversion"]["low"] <= 0 < lost["conversion"]["high"] < lost["quantization"]["low"]
    assert lost_by_step("gguf-f16", points) == lost_by_step("onnx-int4", points) == {}


def test_a_diagnosis_names_the_step() -> None:
    good = {"golden_ids_equal": True, "stop_ids_equal": True, "mean_kl": 0.001, "top1_agreement": 0.99}
    rows = {"gguf-f16": good, "gguf-q4_0": good | {"mean_kl": 0.2, "top1_agreement": 0.75}}
    (quantized,) = diagnose("gguf-q4_0", rows, GateSettings())
    assert (
        quantized.startswith("quantization: mean KL 0.200")
        and "25%" in quantized
        and "conversion 0.0010" in quantized
    )
    assert diagnose("gguf-f16", rows, GateSettings()) == [] == diagnose("unknown", rows, GateSettings())
    rows["gguf-f16"] = good | {"mean_kl": 0.3, "stop_ids_equal": False}
    assert [text.split(":")[0] for text in diagnose("gguf-f16", rows, GateSettings())] == [
        "tokenizer or template",
        "conversion",
        "quantization",
    ]


def test_the_dialogues_that_got_worse_are_listed_with_their_texts(tmp_path: Path) -> None:
    compared, verified = tmp_path / "compared", tmp_path / "verified"
    texts = {name: f"I hear you, {name}." for name in "abcd"}
    _responses(compared / "responses", FULL, texts)
    _responses(compared / "responses", "gguf-q4_0", texts | {"b": HOSTILE, "c": "word " * 120})
    against_full = {"a": 0.5, "b": 0.0, "c": 0.0, "d": 1.0}
    rows = [
        {"id": name, "first": first, "second": second, "points": points.get(name, 0.5)}
        for first, second, points in (
            ("gguf-q4_0", FULL, against_full), ("gguf-q4_0", BASE, {}), (FULL, BASE, {}), (FULL, FULL, {}),
        )
        for name in "abcd"
    ]  # fmt: skip
    rate = {"mean": 0.375, "low": 0.0, "high": 0.75, "lower_bound_one_sided": 0.1, "n": 4}
    discordant = {"only_first_well_formed": 0, "only_second_well_formed": 1}
    result = {
        "prompts": 4,
        "said": {name: f"Said by {name}" for name in "abcd"},
        "format": {FULL: {"ok": 1.0}, "gguf-q4_0": {"ok": 0.75}},
        "judge": {"certified": True, "doubts": []},
        "severe_flips": {
            "certified": True,
            "arms": {"gguf-q4_0": {"fell": ["c", "d"], "rose": 0, "prompts": 4, "low": 0.0, "high": 0.9}},
        },
        "win_rates": [{"first": "gguf-q4_0", "second": FULL, "win_rate": rate, **discordant}],
    }
    (compared / "winrate.json").write_text(json.dumps(result))
    write_jsonl(compared / "verdicts.jsonl", rows)
    verified.mkdir()
    merge = {"merge_max_abs_logit_difference": 0.00014, "merge_positions": 120}
    (verified / "verify.json").write_text("[]")
    (verified / "manifest.json").write_text(json.dumps({"outputs": {}, "results": {"merge": merge}}))
    done = run_command("gate", compared, "--verify", verified, "--out", tmp_path / "gate")
    assert done.returncode == 4, done.stderr
    worse = json.loads((tmp_path / "gate" / "gate.json").read_text())["gguf-q4_0"]["worse"]
    assert [(row["id"], row["why"]) for row in worse] == [
        ("c", ["not well-formed (length, no_loop)", "rated 1 instead of 3", "loses in both orders"]),
        ("b", ["loses in both orders"]),
        ("d", ["rated 1 instead of 3"]),
    ]
    assert worse[1]["said"] == "Said by b" and worse[1]["artifact"] == HOSTILE
    page = (tmp_path / "gate" / "gate.md").read_text()
    assert (
        "3 of 4 dialogues got worse" in page and "Merge: logits differ" in page and "at 120 positions" in page
    )
    assert "c (not well-formed (length, no_loop), rated 1 instead of 3, loses in both orders)" in page
    texts = (tmp_path / "gate" / "worse.md").read_text()
    assert "script" not in page and "Said by" not in page, "what people said is not for a pull request"
    assert "<script>" not in texts and "&lt;script&gt;" in texts and "Said by b" in texts
    assert "gguf-q4_0 3" in " ".join(done.stdout.split())
    assert worse_dialogues("gguf-q8_0", compared, result, {}) == [], "no responses of it are there"
