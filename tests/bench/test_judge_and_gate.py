"""The judge learns from the run's own pairs and is tested on others; the gate never passes on its word alone."""

import random
from pathlib import Path
from typing import Any

import pytest
from empathy_edge.bench.gate import decide
from empathy_edge.bench.judge import PairwiseScorer, TrainingPair, certify, pairs_from_rows, verdict
from empathy_edge.bench.responses import respond
from empathy_edge.bench.winrate import _comparisons, _judge, _win_rate

from empathy_edge.data import sample_dialogues
from empathy_edge.dialogue import Dialogue, read_dialogues, read_jsonl
from empathy_edge.distill import stage as distill
from empathy_edge.recipe import DistillSettings, GateSettings, WinrateSettings

WARM = ["warm", "glad", "sorry", "understand", "feel", "sounds", "hard", "lovely", "proud", "with", "you"]
COLD = ["whatever", "fine", "just", "calm", "down", "nothing", "stupid", "should", "have", "your", "fault"]


def _pairs(count: int, seed: int, honest: float = 1.0) -> list[TrainingPair]:
    """Pairs whose chosen side is warm with probability `honest`."""
    generator = random.Random(seed)
    pairs = []
    for number in range(count):
        warm, cold = (" ".join(generator.choices(words, k=generator.randint(6, 20))) for words in (WARM, COLD))
        chosen, rejected = (warm, cold) if generator.random() < honest else (cold, warm)
        pairs.append(TrainingPair(f"p{seed}-{number}", "I lost my job today.", chosen, rejected))
    return pairs


def test_a_good_judge_is_certified() -> None:
    certificate = certify(_pairs(80, 1), _pairs(40, 2), 0.75, 0)
    assert certificate["certified"] and certificate["held_out"]["accuracy"] > 0.95


def test_a_judge_of_coin_flips_is_not() -> None:
    certificate = certify(_pairs(80, 1, honest=0.5), _pairs(40, 2), 0.75, 0)
    assert not certificate["certified"] and "held-out accuracy" in certificate["doubts"][0]
    assert 0.3 < certificate["held_out"]["accuracy"] < 0.7


def test_a_judge_that_only_knows_the_style_is_not() -> None:
    """Nearly perfect on held-out pairs, wrong where the usual loser is better."""
    certificate = certify(_pairs(80, 1), _pairs(40, 2, honest=0.0), 0.75, 0)
    assert certificate["held_out"]["accuracy"] > 0.95 and not certificate["certified"]
    assert "whose style it is" in certificate["doubts"][0]
    assert not certify(_pairs(80, 1), [], 0.75, 0)["certified"]


def test_the_papers_pairs_do_not_certify_the_judge(paper_csv: Path, tmp_path: Path) -> None:
    """What we found: 99 % on held-out pairs, 1 % on control pairs."""
    distill.run(data=paper_csv, out=tmp_path / "rows", settings=DistillSettings(max_pairs=150))
    pairs, control = (
        pairs_from_rows(read_jsonl(tmp_path / "rows" / f"{n}.jsonl")) for n in ("preference", "control")
    )
    certificate = certify(pairs, control, 0.75, 0)
    assert certificate["held_out"]["accuracy"] > 0.95
    assert certificate["control"]["accuracy"] < 0.1 and not certificate["certified"]


def test_order_does_not_matter_and_sameness_is_a_tie() -> None:
    judge = PairwiseScorer(_pairs(60, 1))
    first, second = "I understand, that sounds hard", "whatever, just calm down"
    forth, back = judge.prefer("I failed.", first, second), judge.prefer("I failed.", second, first)
    assert forth + back == pytest.approx(1) and verdict(forth) == "first"
    assert verdict(judge.prefer("I failed.", first, first)) == "tie"


def _dialogues(count: int) -> list[Dialogue]:
    return [Dialogue(f"t{number}", "sad", "s", "I lost my job.", (), "test") for number in range(count)]


def _rows(dialogues: list[Dialogue], text: str, finish: str = "stop") -> list[dict[str, Any]]:
    return [{"id": item.id, "text": text, "finish_reason": finish, "tokens": 5} for item in dialogues]


def test_win_rate_counts_ties_half_and_looks_at_format() -> None:
    dialogues, judge = _dialogues(6), PairwiseScorer(_pairs(60, 1))
    warm, cold = "I understand, that sounds hard", "whatever, just calm down"
    ours = _rows(dialogues[:4], warm) + _rows(dialogues[4:], cold)
    theirs = _rows(dialogues, cold)
    theirs[0]["finish_reason"] = "length"
    verdicts = _judge(judge, dialogues, "x", "y", ours, theirs)
    rate = _win_rate("x", "y", verdicts, {"x": ours, "y": theirs}, WinrateSettings())
    assert rate["win_rate"]["mean"] == pytest.approx(5 / 6, abs=1e-3) and rate["ties"] == pytest.approx(
        1 / 3, abs=1e-3
    )
    assert rate["win_rate_well_formed"]["n"] == 5 and rate["order_flips"] == 0


def test_comparisons_cover_every_artifact() -> None:
    assert _comparisons(["base", "fine-tuned", "q4"]) == [
        ("fine-tuned", "base"),
        ("q4", "fine-tuned"),
        ("q4", "base"),
    ]


def _result(
    mean: float, half: float, *, certified: bool = True, ok: float = 1.0, full_ok: float = 1.0
) -> dict[str, Any]:
    rate = {
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "lower_bound_one_sided": mean - 0.84 * half,
        "n": 99,
    }
    worse, better = (20, 0) if ok < full_ok else (1, 1)
    return {
        "format": {"base": {"ok": 0.5}, "fine-tuned": {"ok": full_ok}, "q4": {"ok": ok}},
        "judge": {"certified": certified, "doubts": [] if certified else ["it knows only style"]},
        "win_rates": [
            {
                "first": "q4",
                "second": "fine-tuned",
                "win_rate": rate,
                "only_first_well_formed": better,
                "only_second_well_formed": worse,
            }
        ],
    }


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (_result(0.52, 0.05), "PASS"),
        (_result(0.52, 0.05, certified=False), "INCONCLUSIVE"),
        (_result(0.50, 0.15), "INCONCLUSIVE"),
        (_result(0.30, 0.05), "FAIL"),
        (_result(0.30, 0.05, certified=False), "INCONCLUSIVE"),
        (_result(0.52, 0.05, ok=0.8), "FAIL"),
        (_result(0.52, 0.05, ok=0.8, certified=False), "FAIL"),
        (_result(0.52, 0.05, ok=0.8, full_ok=0.8), "INCONCLUSIVE"),
    ],
)
def test_gate(result: dict[str, Any], expected: str) -> None:
    decision = decide("q4", result, GateSettings())
    assert decision["verdict"] == expected and decision["reasons"]


def test_responses_resume_after_a_cut_off_line(exported: Path, tmp_path: Path) -> None:
    dialogues = [item for item in read_dialogues(sample_dialogues()) if item.split == "test"][:4]
    model, file = exported / "gguf-f16", tmp_path / "arm.jsonl"
    whole = respond(model, dialogues, file, max_new_tokens=6, arm="arm")
    lines = file.read_text().splitlines()
    file.write_text(lines[0].replace('"text": "', '"text": "KEPT ') + "\n" + lines[1][:20])
    again = respond(model, dialogues, file, max_new_tokens=6, arm="arm")
    assert sum(row["text"].startswith("KEPT") for row in again) == 1
    assert [row["id"] for row in again] == [row["id"] for row in whole]
    assert {row["text"] for row in again} - {row["text"] for row in whole} == {
        row["text"] for row in again if row["text"].startswith("KEPT")
    }
    assert len(read_jsonl(file)) == 4
