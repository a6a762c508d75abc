"""Where a loss comes from: each step's share, the merge's check, and the dialogues that got worse."""

import json
from pathlib import Path

import pytest

from empathy_edge.bench.gate.attribution import diagnose, lost_by_step, worse_dialogues
from empathy_edge.bench.gate.severe import count_flips
from empathy_edge.bench.gate.verified import VerifiedArtifact
from empathy_edge.bench.gate.winrate_results import SevereFlips, WinrateResults
from empathy_edge.formats.json_lines import write_jsonl
from empathy_edge.runs.settings import GateSettings
from tests.bench.gate.made_results import made_results
from tests.conftest import run_command

FULL, BASE = "fine-tuned", "base"
HOSTILE = "<script>alert(1)</script> | **no**"


def test_each_step_has_its_share_of_the_loss() -> None:
    names = [str(number) for number in range(100)]
    half = dict.fromkeys(names, 0.5)
    points = {
        ("gguf-f16", FULL): half | {"0": 0.0, "1": 0.0},
        ("gguf-q4_0", FULL): dict.fromkeys(names, 0.3),
    }
    lost = lost_by_step("gguf-q4_0", points)
    conversion, quantization = lost["conversion"], lost["quantization"]
    assert conversion.mean == pytest.approx(0.01) and quantization.mean == pytest.approx(0.19)
    assert conversion.low <= 0 < conversion.high < quantization.low
    assert lost_by_step("gguf-f16", points) == lost_by_step("onnx-int4", points) == {}


def test_a_diagnosis_names_the_step() -> None:
    good = VerifiedArtifact(
        artifact="gguf-f16",
        golden_ids_equal=True,
        stop_ids_equal=True,
        mean_kl=0.001,
        p99_kl=0.01,
        top1_agreement=0.99,
        positions=100,
    )
    rows = {"gguf-f16": good, "gguf-q4_0": good.model_copy(update={"mean_kl": 0.2, "top1_agreement": 0.75})}
    (quantized,) = diagnose("gguf-q4_0", rows, GateSettings())
    assert quantized.startswith("quantization: mean KL 0.200")
    assert "25%" in quantized and "conversion 0.0010" in quantized
    assert diagnose("gguf-f16", rows, GateSettings()) == [] == diagnose("unknown", rows, GateSettings())
    rows["gguf-f16"] = good.model_copy(update={"mean_kl": 0.3, "stop_ids_equal": False})
    assert [text.split(":")[0] for text in diagnose("gguf-f16", rows, GateSettings())] == [
        "tokenizer or template",
        "conversion",
        "quantization",
    ]


def _results() -> WinrateResults:
    flips = count_flips(["c", "d"], 4)
    severe = SevereFlips(
        scorer="made", figures="", seen=0, doubts=(), certified=True, arms={"gguf-q4_0": flips}
    )
    utterances = {name: f"Said by {name}" for name in "abcd"}
    return made_results(artifact="gguf-q4_0").model_copy(update={"said": utterances, "severe_flips": severe})


def _write_compared(folder: Path) -> None:
    """A folder as `winrate` leaves it: the artifact answers b with a hostile text and c with a long one."""
    texts = {name: f"I hear you, {name}." for name in "abcd"}
    for arm, changes in ((FULL, {}), ("gguf-q4_0", {"b": HOSTILE, "c": "word " * 120})):
        rows = [
            {"id": name, "text": text, "finish_reason": "stop", "tokens": 3}
            for name, text in (texts | changes).items()
        ]
        (folder / "responses").mkdir(parents=True, exist_ok=True)
        write_jsonl(folder / "responses" / f"{arm}.jsonl", rows)
    verdicts = []
    for first, second in (("gguf-q4_0", FULL), ("gguf-q4_0", BASE), (FULL, BASE), (FULL, FULL)):
        points = dict.fromkeys("abcd", 0.5)
        if (first, second) == ("gguf-q4_0", FULL):
            points = {"a": 0.5, "b": 0.0, "c": 0.0, "d": 1.0}
        for name in "abcd":
            verdicts.append({"id": name, "first": first, "second": second, "points": points[name]})
    write_jsonl(folder / "verdicts.jsonl", verdicts)
    (folder / "winrate.json").write_text(json.dumps(_results().as_json()))


def test_the_dialogues_that_got_worse_are_listed_with_their_texts(tmp_path: Path) -> None:
    compared, verified = tmp_path / "compared", tmp_path / "verified"
    _write_compared(compared)
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
    assert "3 of 4 dialogues got worse" in page
    assert "Merge: logits differ" in page and "at 120 positions" in page
    assert "c (not well-formed (length, no_loop), rated 1 instead of 3, loses in both orders)" in page
    texts = (tmp_path / "gate" / "worse.md").read_text()
    assert "script" not in page and "Said by" not in page, "what people said is not for a pull request"
    assert "<script>" not in texts and "&lt;script&gt;" in texts and "Said by b" in texts
    assert "gguf-q4_0 3" in " ".join(done.stdout.split())
    assert worse_dialogues("gguf-q8_0", compared, _results(), {}) == [], "no responses of it are there"
