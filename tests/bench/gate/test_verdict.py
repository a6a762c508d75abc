"""FAIL needs evidence, PASS needs more of it, and the gate never passes on a judge's word alone."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from empathy_edge.bench.gate.severe import count_flips, doubts_of
from empathy_edge.bench.gate.verdict import check_controls, decide
from empathy_edge.bench.gate.verdict_results import GateResults, Points
from empathy_edge.bench.gate.winrate_results import Adjusted, SevereFlips, WinrateResults
from empathy_edge.formats.json_lines import write_jsonl
from empathy_edge.runs.settings import GateSettings, thresholds
from empathy_edge.runs.stage import results_of
from tests.bench.gate.made_results import made_format, made_results, made_safety, made_win_rate
from tests.conftest import assert_one_clear_error, run_command


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (made_results(0.52, 0.05), "PASS"),
        (made_results(0.52, 0.05, certified=False), "INCONCLUSIVE"),
        (made_results(0.50, 0.15), "INCONCLUSIVE"),
        (made_results(0.30, 0.05), "FAIL"),
        (made_results(0.30, 0.05, certified=False), "INCONCLUSIVE"),
        (made_results(0.52, 0.05, ok=0.8), "FAIL"),
        (made_results(0.52, 0.05, ok=0.8, certified=False), "FAIL"),
        (made_results(0.52, 0.05, ok=0.8, full_ok=0.8), "INCONCLUSIVE"),
    ],
)
def test_gate(results: WinrateResults, expected: str) -> None:
    decision = decide("q4", results, GateSettings())
    assert decision.verdict == expected and decision.reasons


@pytest.mark.parametrize(
    ("differ", "low", "expected"),
    [(False, 0.3, "PASS"), (True, 0.3, "INCONCLUSIVE"), (True, 0.47, "PASS"), (True, None, "INCONCLUSIVE")],
)
def test_an_artifact_that_is_longer_must_hold_at_equal_length(
    differ: bool, low: float | None, expected: str
) -> None:
    adjusted = None
    if low is not None:
        adjusted = Adjusted(mean=low + 0.05, low=low, high=low + 0.1, lower_bound_one_sided=low)
    changes = {
        "lengths_differ": differ,
        "mean_words_ahead": 6.2,
        "length_adjusted": adjusted,
        "length_adjusted_why_not": "always longer",
    }
    rate = made_win_rate("q4", 0.52, 0.05).model_copy(update=changes)
    decision = decide("q4", made_results().model_copy(update={"win_rates": (rate,)}), GateSettings())
    assert decision.verdict == expected, decision.reasons
    assert expected == "PASS" or "6.2 words longer" in decision.reasons[0]


@pytest.mark.parametrize(
    ("fell", "rose", "doubts", "expected"),
    [
        (0, 0, (), "PASS"),
        (2, 0, (), "INCONCLUSIVE"),
        (14, 0, (), "FAIL"),
        (14, 3, (), "FAIL"),
        (14, 11, (), "INCONCLUSIVE"),  # a scorer's noise moves as many up as down
        (14, 0, ("it has seen them",), "INCONCLUSIVE"),
    ],
)
def test_severe_flips_decide_where_a_scorer_may(
    fell: int, rose: int, doubts: tuple[str, ...], expected: str
) -> None:
    flips = count_flips([f"d{number}" for number in range(fell)], 400, rose)
    severe = SevereFlips(
        scorer="made", figures="", seen=0, doubts=doubts, certified=not doubts, arms={"q4": flips}
    )
    decision = decide("q4", made_results().model_copy(update={"severe_flips": severe}), GateSettings())
    assert decision.verdict == expected, decision.reasons
    assert expected == "PASS" or "from a rating of 3 to 1" in decision.reasons[0]
    assert not doubts or doubts[0] in decision.reasons[0]


def test_a_scorer_may_decide_only_where_its_own_figures_carry_it() -> None:
    assert doubts_of(order_low=58.0, order_pairs=121, seen=0) == []
    assert "17 pairs" in doubts_of(order_low=58.0, order_pairs=17, seen=0)[0]
    assert "54 %" in doubts_of(order_low=54.0, order_pairs=121, seen=0)[0]
    assert "trained on responses to 3" in doubts_of(order_low=58.0, order_pairs=121, seen=3)[0]


def _gained(kept: float, prompts: int = 400) -> Points:
    """The fine-tuned model wins 90 % against the base; the artifact keeps a share of that lead."""
    full = {str(n): float(n % 10 != 0) for n in range(prompts)}
    wins = round(prompts * (0.5 + 0.4 * kept))
    return {("fine-tuned", "base"): full, ("q4", "base"): {str(n): float(n < wins) for n in range(prompts)}}


@pytest.mark.parametrize(
    ("kept", "expected", "reason"),
    [
        (1.0, "PASS", ""),
        (0.5, "FAIL", "of the gain over the base is kept"),
        (0.8, "INCONCLUSIVE", "lower bound"),
    ],
)
def test_what_fine_tuning_gave_must_be_kept(kept: float, expected: str, reason: str) -> None:
    decision = decide("q4", made_results(), GateSettings(), _gained(kept))
    assert decision.verdict == expected and reason in decision.reasons[0]
    assert decision.gain_retained is not None
    assert decision.gain_retained.mean == pytest.approx(kept, abs=0.01)
    unsure = decide("q4", made_results(certified=False), GateSettings(), _gained(kept))
    assert unsure.verdict == "INCONCLUSIVE"


def test_without_a_gain_there_is_nothing_to_keep() -> None:
    points: Points = {
        ("fine-tuned", "base"): {str(n): float(n % 2) for n in range(200)},
        ("q4", "base"): {str(n): 1.0 for n in range(200)},
    }
    decision = decide("q4", made_results(), GateSettings(), points)
    assert decision.verdict == "INCONCLUSIVE" and "no sure gain" in decision.reasons[0]


@pytest.mark.parametrize(
    ("ours", "base", "expected"), [(0, 3, "PASS"), (4, 3, "INCONCLUSIVE"), (9, 1, "FAIL")]
)
def test_an_artifact_must_not_be_less_safe_than_the_base(ours: int, base: int, expected: str) -> None:
    safety = {"q4": made_safety(ours), "base": made_safety(base)}
    results = made_results(0.5, 0.02).model_copy(update={"safety": safety})
    assert decide("q4", results, GateSettings()).verdict == expected


def test_nothing_passes_when_a_control_was_not_compared() -> None:
    results, points = made_results(), {("fine-tuned", "fine-tuned"): {"a": 0.5, "b": 0.5}}
    controls = check_controls(results, points, GateSettings())
    assert controls.doubts == ("no known-bad model was compared",)
    decision = decide("q4", results, GateSettings(), control_doubts=controls.doubts)
    assert decision.verdict == "INCONCLUSIVE"
    losing = points | {("fine-tuned", "fine-tuned"): {"a": 0.0, "b": 0.5}}
    assert "loses against itself" in check_controls(results, losing, GateSettings()).doubts[0]


@pytest.mark.parametrize(("rate", "against_base", "doubts"), [(0.1, 0.0, 0), (0.5, 1.0, 1)])
def test_a_known_bad_model_must_fail(rate: float, against_base: float, doubts: int) -> None:
    results = made_results()
    bad = made_win_rate("known-bad", rate, 0.05, worse=1, better=1)
    results = results.model_copy(
        update={
            "format": {**results.format, "known-bad": made_format(1.0)},
            "win_rates": (*results.win_rates, bad),
        }
    )
    points = {
        ("fine-tuned", "fine-tuned"): {"a": 0.5, "b": 0.5},
        ("fine-tuned", "base"): {"a": 1.0, "b": 1.0},
        ("known-bad", "base"): {"a": against_base, "b": against_base},
    }
    assert len(check_controls(results, points, GateSettings()).doubts) == doubts


def _write_compared(folder: Path, results: WinrateResults) -> None:
    """A folder as `winrate` leaves it, every comparison a tie."""
    folder.mkdir(exist_ok=True)
    rows = []
    for first, second in (("fine-tuned", "fine-tuned"), ("fine-tuned", "base"), ("q4", "base")):
        rows += [{"id": str(n), "first": first, "second": second, "points": 0.5} for n in range(4)]
    (folder / "winrate.json").write_text(json.dumps(results.as_json()))
    write_jsonl(folder / "verdicts.jsonl", rows)


def test_the_gate_writes_for_people_and_for_ci(tmp_path: Path) -> None:
    compared, verified = tmp_path / "compared", tmp_path / "verified"
    _write_compared(compared, made_results(0.30, 0.05))
    verified.mkdir()
    row = {
        "artifact": "q4",
        "golden_ids_equal": False,
        "stop_ids_equal": True,
        "mean_kl": 0.4,
        "p99_kl": 2.0,
        "top1_agreement": 0.6,
        "positions": 100,
    }
    (verified / "verify.json").write_text(json.dumps([row, {"artifact": "broken", "verdict": "FAIL"}]))
    done = run_command("gate", compared, "--verify", verified, "--out", tmp_path / "gate")
    assert done.returncode == 1 and "The gate says FAIL" in done.stderr
    assert "known-bad not compared" in done.stdout
    suite = ElementTree.parse(tmp_path / "gate/junit.xml").getroot()
    assert suite.attrib["failures"] == "1" and "below 45%" in suite[0][0].attrib["message"]
    page = (tmp_path / "gate/gate.md").read_text()
    assert "| q4 | **FAIL** |" in page and "tokenizer or template" in page and "mean KL 0.400" in page
    results = results_of(tmp_path / "gate", GateResults)
    assert results.worst() == "FAIL" and results.verdicts["q4"].worse == 0
    assert results.controls.known_bad is None and results.controls.against_itself == 0.5
    controls = json.loads((tmp_path / "gate/manifest.json").read_text())["results"]["controls"]
    assert list(controls) == ["fine-tuned against itself", "known-bad", "doubts", "merge"]

    _write_compared(compared, made_results(0.5, 0.15))
    done = run_command("gate", compared, "--out", tmp_path / "again")
    assert done.returncode == 4 and "INCONCLUSIVE" in done.stdout, done.stderr


def test_win_rates_of_another_version_are_refused(tmp_path: Path) -> None:
    _write_compared(tmp_path / "compared", made_results())
    file = tmp_path / "compared" / "winrate.json"
    file.write_text(file.read_text().replace('"order_flips"', '"flips"'))
    done = run_command("gate", tmp_path / "compared", "--out", tmp_path / "gate")
    assert_one_clear_error(done, 2, "winrate.json", "another version", "--update")


def test_every_threshold_has_its_reason() -> None:
    assert set(thresholds()) == set(GateSettings.model_fields)
    assert all(len(item["why"]) > 60 for item in thresholds().values())
    assert GateSettings().min_win_rate == 0.45 and GateSettings(min_win_rate=0.4).min_win_rate == 0.4
