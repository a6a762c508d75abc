"""Preference pairs of a student's own samples, ordered by a judge: people with a sheet, or a large model."""

import csv
import json
import re
from pathlib import Path

import pytest

from empathy_edge.data import sample_dialogues
from empathy_edge.distill import from_ratings
from empathy_edge.distill.filters import RejectedResponses
from empathy_edge.distill.judged_samples import (
    NOT_RATED,
    judge_inputs,
    judge_record,
    open_judge_of_samples,
    rate_samples,
)
from empathy_edge.distill.own_pairs import _unused
from empathy_edge.distill.own_samples import Prompt, Sample
from empathy_edge.distill.sample_pairs import pair_samples
from empathy_edge.distill.sample_scores import ScoredSample
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.runs.settings import DistillSettings, OwnPairSettings
from tests.commands.tree import assert_says_next
from tests.conftest import run_command
from tests.llm.fault_server import FaultServer


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("judged") / "rows"
    settings = DistillSettings(reference="first-draft", models=("editor",), max_sft=8, max_pairs=6)
    from_ratings.run(data=sample_dialogues(), out=out, settings=settings)
    return out


def fill_in(sheet: Path) -> None:
    """Replies with more different letters are better: nothing that nearness would find."""
    with sheet.open(encoding="utf-8-sig", newline="") as handle:
        lines = list(csv.DictReader(handle))
    for line in lines:
        line["rating"] = str(3 * len(set(line["reply"])))
    with sheet.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


@pytest.mark.slow
def test_people_rate_the_samples_once(rows: Path, tmp_path: Path) -> None:
    sheet, out = tmp_path / "ratings.csv", tmp_path / "own"
    arguments = (
        "own-pairs", rows, "--base", "smollm2-135m", "--prompts", "10", "--samples", "3",
        "--length-ratio", "4", "--max-new-tokens", "60", "--judge", f"sheet:{sheet}", "--out", out,
    )  # fmt: skip
    first = run_command(*arguments, "--margin", "1")
    assert first.returncode == 4 and "replies have no rating yet" in first.stderr, first.stderr
    drawn = read_jsonl(out / "samples" / "samples.jsonl")
    with sheet.open(encoding="utf-8-sig", newline="") as handle:
        to_read = {line["reply"] for line in csv.DictReader(handle)}
    assert to_read <= {row["text"] for row in drawn if row["stopped"]}
    fill_in(sheet)
    none = run_command(*arguments, "--margin", "1")
    assert none.returncode == 2 and "lower margin" in none.stderr, none.stderr
    second = run_command(*arguments, "--margin", "0.01")
    assert second.returncode == 0, second.stderr
    assert_says_next(second, f"empathy-edge finetune {rows} --base smollm2-135m --pairs ")
    assert read_jsonl(out / "samples" / "samples.jsonl") == drawn, "not sampled again"
    pairs = read_jsonl(out / "preference.jsonl")
    assert pairs
    for pair in pairs:
        chosen, rejected = (len(set(pair[side][0]["content"])) for side in ("chosen", "rejected"))
        assert chosen > rejected
        assert pair["scores"]["chosen"] == pytest.approx(0.03 * chosen)
    sheet = sheet.rename(tmp_path / "moved.csv")
    moved = (*arguments, "--margin", "0.01", "--judge", f"sheet:{sheet}")
    assert run_command(*moved).returncode == 0, "where the sheet lies does not matter"
    text = sheet.read_text(encoding="utf-8")
    sheet.write_text(text.replace(",48,", ",49,", 1) if ",48," in text else text.replace(",51,", ",52,", 1))
    assert "Use --update" in run_command(*moved).stderr, "the ratings do"
    assert run_command(*moved, "--update").returncode == 0
    assert read_jsonl(out / "samples" / "samples.jsonl") == drawn, "not sampled again"


def shown_replies(question: str) -> list[str]:
    return [json.loads(reply) for reply in re.findall(r'^\d+\. (".*")$', question, re.MULTILINE)]


def by_words(question: str) -> str:
    """Rates no replies to a cry for help, as a provider that withholds such answers."""
    if "forty pills" in question:
        return "I can't help with that."
    return json.dumps([10 * len(reply.split()) for reply in shown_replies(question)])


def prompt(name: str, said: str) -> Prompt:
    return Prompt(name, [{"role": "user", "content": said}], [])


def test_a_model_behind_an_api_rates_what_can_be_paired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    prompts = [prompt("a", "My cat died."), prompt("b", "I won!"), prompt("c", "I have forty pills.")]
    prompts += [prompt(f"d{number}", "Hello.") for number in range(6)]
    samples: dict[str, list[Sample]] = {
        "a": [Sample("I am so sorry.", True), Sample("Oh no.", True), Sample("I am so sorry.", True)],
        "b": [Sample("Oh.", True), Sample("How wonderful, and then", False)],
        "c": [Sample("Great.", True), Sample("Please call somebody.", True)],
    }
    samples |= {item.id: [Sample("Hi.", True), Sample("Hi there.", True)] for item in prompts[3:]}
    rejected = RejectedResponses()
    with FaultServer(fault_rate=0, answer=by_words) as server:
        api = ApiSettings(base_url=server.url)
        judge = open_judge_of_samples("openai:judge", api, tmp_path / "own")
        scored = rate_samples(prompts, samples, judge, rejected)
        judge.close()
    scores = [[sample.score for sample in of_prompt] for of_prompt in scored[:3]]
    assert scores == [[0.4, 0.2, 0.4], [0.0, 0.0], [0.0, 0.0]]
    assert rejected.report()[NOT_RATED].count == 1


def scored_samples(*scores: tuple[str, float]) -> list[ScoredSample]:
    return [ScoredSample(text, stopped=True, score=score) for text, score in scores]


def test_ratings_that_differ_by_the_margin_are_a_pair() -> None:
    """0.5 - 0.4 is less than 0.1 in floating point."""
    good, other = (
        "I'm so sorry about your cat, you must miss her.",
        "I'm sorry about your cat, you must be sad.",
    )
    said = prompt("a", "My cat died.")
    pairs = pair_samples(
        said, scored_samples((good, 0.5), (other, 0.4)), OwnPairSettings(), RejectedResponses()
    )
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [(good, other)]


@pytest.mark.parametrize("other", ["I'm sorry about your cat, you must be sad.", None])
def test_equal_scores_are_no_pair(other: str | None) -> None:
    """Samples that nobody rated have the same score, and so have samples with the same text."""
    good = "I'm so sorry about your cat, you must miss her."
    samples = scored_samples((good, 0.0), (other or good, 0.0))
    settings = OwnPairSettings(margin=0)
    assert not pair_samples(prompt("a", "My cat died."), samples, settings, RejectedResponses())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"judge": "openai:judge", "ranker": "larger.gguf"}, "cannot both say which sample is better"),
        ({"judge": "likelihood:smollm2-135m"}, "name the model as ranker"),
    ],
)
def test_judges_that_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OwnPairSettings.model_validate(settings)


def test_what_is_wrong_with_a_judge_is_said_before_the_sampling(rows: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    out = tmp_path / "own"
    arguments = ("own-pairs", rows, "--base", "smollm2-135m", "--out", out, "--judge")
    unknown = run_command(*arguments, "oracle")
    assert unknown.returncode == 2 and "oracle: no such judge" in unknown.stderr
    inside = run_command(*arguments, f"sheet:{out / 'ratings.csv'}")
    assert inside.returncode == 2 and "put the sheet elsewhere" in inside.stderr
    assert not out.exists(), "nothing is left behind"


def test_what_a_judge_is_recorded_as(tmp_path: Path) -> None:
    """Pairs without a judge keep the fingerprint that they had before there were judges."""
    assert "judge" not in OwnPairSettings().model_dump(exclude=_unused(OwnPairSettings()))
    assert judge_record("openai:gpt-4o-mini") == {"judge": "openai:gpt-4o-mini"}
    assert judge_record(f"trained:{tmp_path}") == {"judge": "trained"}
    assert judge_inputs(f"trained:{tmp_path}") == {"judge": tmp_path}
