"""The judge learns from the run's own pairs, both models answer, and the verdicts are counted."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from empathy_edge.bench.release.comparisons import ChosenJudge, JudgedPrompt, comparisons_of, judge_by_learned
from empathy_edge.bench.release.responses import Answers, ResponseRow, respond
from empathy_edge.bench.release.results import OtherJudgeFigures
from empathy_edge.bench.release.stage import ReleaseInputs, tally
from empathy_edge.bench.release.stage import run as release
from empathy_edge.data import sample_dialogues
from empathy_edge.distill import from_ratings as distill
from empathy_edge.formats.dialogue import Dialogue, read_dialogues
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.judging.certificate import Certification
from empathy_edge.judging.file_judges import VerdictFileJudge
from empathy_edge.judging.learned_judge import (
    LearnedJudge,
    TrainingPair,
    cross_validate,
    pairs_from_rows,
    verdict_of_probability,
)
from empathy_edge.judging.pairwise_judges import Judge
from empathy_edge.judging.verdicts import Pair, Verdict
from empathy_edge.runs.settings import DistillSettings, ReleaseSettings
from tests.conftest import write_rows

WARM = ["warm", "glad", "sorry", "understand", "feel", "sounds", "hard", "lovely", "proud", "with", "you"]
COLD = ["whatever", "fine", "just", "calm", "down", "nothing", "stupid", "should", "have", "your", "fault"]


def _pairs(count: int, seed: int, honest: float = 1.0) -> list[TrainingPair]:
    """Pairs whose chosen side is warm with probability `honest`."""
    generator = random.Random(seed)
    pairs = []
    for number in range(count):
        warm, cold = (
            " ".join(generator.choices(words, k=generator.randint(6, 20))) for words in (WARM, COLD)
        )
        chosen, rejected = (warm, cold) if generator.random() < honest else (cold, warm)
        pairs.append(TrainingPair(f"p{seed}-{number}", "I lost my job today.", chosen, rejected))
    return pairs


def test_a_good_judge_is_certified() -> None:
    tested = cross_validate(_pairs(80, 1), _pairs(40, 2), 0.75, 0)
    assert tested["certified"] and tested["held_out"]["accuracy"] > 0.95


def test_a_judge_of_coin_flips_is_not() -> None:
    tested = cross_validate(_pairs(80, 1, honest=0.5), _pairs(40, 2), 0.75, 0)
    assert not tested["certified"] and "held-out accuracy" in tested["doubts"][0]
    assert 0.3 < tested["held_out"]["accuracy"] < 0.7


@pytest.mark.slow
def test_a_judge_that_only_knows_the_style_is_not() -> None:
    """Nearly perfect on held-out pairs, wrong where the usual loser is better."""
    tested = cross_validate(_pairs(80, 1), _pairs(40, 2, honest=0.0), 0.75, 0)
    assert tested["held_out"]["accuracy"] > 0.95 and not tested["certified"]
    assert "whose style it is" in tested["doubts"][0]
    assert not cross_validate(_pairs(80, 1), [], 0.75, 0)["certified"]


@pytest.mark.slow
def test_the_papers_pairs_do_not_certify_the_judge(paper_csv: Path, tmp_path: Path) -> None:
    """What we found: 99 % on held-out pairs, 1 % on control pairs."""
    distill.run(data=paper_csv, out=tmp_path / "rows", settings=DistillSettings(max_pairs=150))
    pairs, control = (
        pairs_from_rows(read_jsonl(tmp_path / "rows" / f"{n}.jsonl")) for n in ("preference", "control")
    )
    tested = cross_validate(pairs, control, 0.75, 0)
    assert tested["held_out"]["accuracy"] > 0.95
    assert tested["control"]["accuracy"] < 0.1 and not tested["certified"]


def test_order_does_not_matter_and_sameness_is_a_tie() -> None:
    judge = LearnedJudge(_pairs(60, 1))
    first, second = "I understand, that sounds hard", "whatever, just calm down"
    forth, back = judge.prefer("I failed.", first, second), judge.prefer("I failed.", second, first)
    assert forth + back == pytest.approx(1) and verdict_of_probability(forth) == "first"
    assert verdict_of_probability(judge.prefer("I failed.", first, first)) == "tie"


def _rows(dialogues: list[Dialogue], text: str) -> list[ResponseRow]:
    return [{"id": item.id, "text": text, "finish_reason": "stop", "tokens": 5} for item in dialogues]


def test_win_rate_counts_ties_half_and_looks_at_format() -> None:
    dialogues = [Dialogue(f"t{number}", "sad", "s", "I lost my job.", (), "test") for number in range(6)]
    warm, cold = "I understand, that sounds hard", "whatever, just calm down"
    ours = _rows(dialogues[:4], warm) + _rows(dialogues[4:], cold)
    theirs = _rows(dialogues, cold)
    theirs[0]["finish_reason"] = "length"
    answers = Answers(dialogues, {"x": ours, "y": theirs})
    judged = judge_by_learned(LearnedJudge(_pairs(60, 1)), answers, [("x", "y")])
    rate = tally("x", "y", judged, answers)
    assert rate.win_rate.mean == pytest.approx(5 / 6, abs=1e-3)
    assert rate.ties == pytest.approx(1 / 3, abs=1e-3)
    assert rate.win_rate_well_formed is not None and rate.win_rate_well_formed.n == 5
    assert rate.order_flips == 0 and (rate.only_first_well_formed, rate.only_second_well_formed) == (1, 0)


@pytest.mark.parametrize(
    ("verdicts", "points", "flips", "written"),
    [
        (("first", "first"), 1.0, False, ["first", "second"]),
        (("first", "second"), 0.5, True, ["first", "first"]),
        (("second", "tie"), 0.25, False, ["second", "tie"]),
        (("unparsed", "second"), 0.25, False, ["unparsed", "first"]),
    ],
)
def test_verdicts_say_which_arm_wins_and_are_written_as_they_were_given(
    verdicts: tuple[str, str], points: float, flips: bool, written: list[str]
) -> None:
    judged = JudgedPrompt("d1", "sad", "q4", "base", verdicts)
    assert judged.points == points and judged.flips == flips
    row = {"id": "d1", "emotion": "sad", "first": "q4", "second": "base"}
    assert judged.as_row() == row | {"verdicts": written, "points": points}


def test_the_fine_tuned_model_is_compared_with_each_other_arm() -> None:
    assert comparisons_of(["base", "fine-tuned", "known"]) == [
        ("fine-tuned", "base"),
        ("fine-tuned", "known"),
    ]


@pytest.mark.slow
def test_responses_resume_after_a_cut_off_line(exported: Path, tmp_path: Path) -> None:
    dialogues = [item for item in read_dialogues(sample_dialogues()) if item.split == "test"][:4]
    model, file = exported / "gguf-f16", tmp_path / "arm.jsonl"
    whole = respond(model, dialogues, file, max_new_tokens=6, arm="arm")
    lines = file.read_text().splitlines()
    file.write_text(lines[0].replace('"text": "', '"text": "KEPT ') + "\n" + lines[1][:20])
    again = respond(model, dialogues, file, max_new_tokens=6, arm="arm")
    kept = [row["text"] for row in again if row["text"].startswith("KEPT")]
    assert len(kept) == 1
    assert [row["id"] for row in again] == [row["id"] for row in whole]
    assert {row["text"] for row in again} - {row["text"] for row in whole} == set(kept)
    assert len(read_jsonl(file)) == 4


class Longer(Judge):
    """An artificial judge whose verdicts are known: the longer text is better.

    With `unparsed`, every so many answers one cannot be read.
    """

    name = "artificial:longer"

    def __init__(self, unparsed: int = 0) -> None:
        self.asked, self._unparsed = 0, unparsed

    def compare(self, pairs: Sequence[Pair], question: str) -> Iterator[Verdict]:
        for pair in pairs:
            self.asked += 1
            yield Verdict(self._verdict(len(pair.first) - len(pair.second)))

    def _verdict(self, ahead: int) -> str:
        if self._unparsed and self.asked % self._unparsed == 0:
            return "unparsed"
        if ahead == 0:
            return "tie"
        return "first" if ahead > 0 else "second"


CERTIFICATION: Certification = {
    "certified": True,
    "doubts": [],
    "win_rate": {"mean": 0.7, "low": 0.65, "high": 0.75, "lower_bound_one_sided": 0.66, "n": 200},
}


@pytest.mark.slow
@pytest.mark.parametrize("unparsed", [0, 10])
def test_release_by_another_judge(
    tiny_model: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unparsed: int
) -> None:
    pairs, out = tmp_path / "pairs.jsonl", tmp_path / "released"
    pairs.write_text("")
    inputs = ReleaseInputs(
        base=tiny_model,
        tuned=exported / "gguf-q8_0",
        test=sample_dialogues(),
        pairs=pairs,
        control=pairs,
        known="editor",
    )
    settings = ReleaseSettings(max_prompts=4, max_new_tokens=12)
    judge = Longer(unparsed)
    results = release(inputs=inputs, out=out, settings=settings, chosen=ChosenJudge(judge, CERTIFICATION))
    assert isinstance(results.judge, OtherJudgeFigures) and results.judge.judge == "artificial:longer"
    assert results.judge.certified == (not unparsed) and bool(results.judge.unparsed) == bool(unparsed)
    assert json.loads((out / "release.json").read_text())["verdict"] == results.verdict
    kept = (out / "judged" / "verdicts.jsonl").read_text().splitlines()
    assert len(kept) == judge.asked
    assert set(results.format) == {"base", "fine-tuned", "known"}
    before = {}
    for part in ("responses", "safety"):
        before |= {file: file.stat().st_mtime_ns for file in (out / part).iterdir()}
    assert len(before) == 2 + 2 + 2, "two models' responses and safety replies, two manifests"
    if unparsed:
        return
    with monkeypatch.context() as patched:
        patched.setattr("empathy_edge.bench.release.responses.respond", None)  # no model is asked again
        again = release(
            inputs=inputs, out=out, settings=settings, chosen=ChosenJudge(Longer(5), None), update=True
        )
    assert not again.judge.certified and again.format == results.format and again.verdict != "PASS"
    assert {file: file.stat().st_mtime_ns for file in before} == before

    shown = read_jsonl(out / "judged" / "verdicts.jsonl")[: 2 * settings.max_prompts]  # against the base
    file = write_rows(tmp_path / "by-people.jsonl", *shown)
    people = ChosenJudge(VerdictFileJudge(file), None)
    by_people = release(inputs=inputs, out=tmp_path / "people", settings=settings, chosen=people)
    assert set(by_people.format) == {"base", "fine-tuned"}, "the sheet showed nobody else"
    assert by_people.comparison("fine-tuned", "base").win_rate == results.win_rates[0].win_rate
