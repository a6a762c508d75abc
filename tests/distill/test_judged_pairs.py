"""Preference pairs of a student's own samples, ordered by a judge: people with a sheet, or a large model."""

import csv
import json
import re
from pathlib import Path

import pytest

from empathy_edge.data import sample_dialogues
from empathy_edge.distill import from_ratings
from empathy_edge.distill.own_samples import Prompt, Sample
from empathy_edge.distill.sample_scores import rate_samples
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.judging.raters.open_rater import open_rater
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
        "own-pairs", rows, "--base", "smollm2-135m", "--prompts", "10", "--samples", "3", "--margin", "0.01",
        "--length-ratio", "4", "--max-new-tokens", "60", "--judge", f"sheet:{sheet}", "--out", out,
    )  # fmt: skip
    first = run_command(*arguments)
    assert first.returncode == 4 and "replies have no rating yet" in first.stderr, first.stderr
    drawn = read_jsonl(out / "samples.jsonl")
    with sheet.open(encoding="utf-8-sig", newline="") as handle:
        assert {line["reply"] for line in csv.DictReader(handle)} >= {row["text"] for row in drawn[:3]}
    fill_in(sheet)
    second = run_command(*arguments)
    assert second.returncode == 0, second.stderr
    assert_says_next(second, f"empathy-edge finetune {rows} --base smollm2-135m --pairs ")
    scored = read_jsonl(out / "samples.jsonl")
    assert [row["text"] for row in scored] == [row["text"] for row in drawn], "not sampled again"
    pairs = read_jsonl(out / "preference.jsonl")
    assert pairs
    for pair in pairs:
        chosen, rejected = (len(set(pair[side][0]["content"])) for side in ("chosen", "rejected"))
        assert chosen > rejected
        assert pair["scores"]["chosen"] == pytest.approx(0.03 * chosen)


def shown_replies(question: str) -> list[str]:
    return [json.loads(reply) for reply in re.findall(r'^\d+\. (".*")$', question, re.MULTILINE)]


def by_words(question: str) -> str:
    return json.dumps([10 * len(reply.split()) for reply in shown_replies(question)])


def test_a_model_behind_an_api_rates_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    prompts = [
        Prompt(name, [{"role": "user", "content": said}], [])
        for name, said in (("a", "My cat died."), ("b", "I won!"))
    ]
    samples = {
        "a": [Sample("I am so sorry.", True), Sample("", True)],
        "b": [Sample("Oh.", True), Sample("How wonderful, you won!", True)],
    }
    with FaultServer(fault_rate=0, answer=by_words) as server:
        judge = open_rater("openai:judge", ApiSettings(base_url=server.url), "own-pairs")
        scored = rate_samples(prompts, samples, judge)
        judge.close()
    assert [[sample.score for sample in of_prompt] for of_prompt in scored] == [[0.4, 0.1], [0.1, 0.4]]


def test_a_judge_and_a_ranker_are_refused_together() -> None:
    with pytest.raises(ValueError, match="cannot both say which sample is better"):
        OwnPairSettings(judge="openai:judge", ranker="larger.gguf")


def test_no_such_judge_is_said_before_the_sampling(rows: Path, tmp_path: Path) -> None:
    found = run_command(
        "own-pairs", rows, "--base", "smollm2-135m", "--judge", "oracle", "--out", tmp_path / "own"
    )
    assert found.returncode == 2 and "oracle: no such judge" in found.stderr
    assert not (tmp_path / "own" / "samples.jsonl").exists()
