"""Certificates: a judge's agreement with people, and how it errs."""

import json
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.judging.certificate import QuestionCertificate, certifications
from empathy_edge.judging.certify import certify, certify_beside_experts
from empathy_edge.judging.experts import read_experts
from empathy_edge.judging.judge_settings import CertifySettings
from empathy_edge.judging.pairwise_judges import Judge
from empathy_edge.judging.self_preference import family_of
from empathy_edge.judging.verdicts import Pair, Verdict
from tests.artificial import Artificial
from tests.commands.tree import assert_reported, assert_says_next
from tests.conftest import dialogue_row, run_command, write_rows
from tests.llm.fault_server import FaultServer

PROMPTS = 120
OVERALL = CertifySettings(max_pairs=100)


@pytest.fixture(scope="session")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dialogues whose response rated 3 has 'good' in it, of lengths that tell nothing."""
    chance = random.Random(2)
    rows = []
    for number in range(PROMPTS):
        texts = {rating: f"reply {number} " + "word " * chance.randint(1, 30) for rating in (3, 1)}
        responses = [
            {"source": f"s{rating}", "text": text + ("good" if rating == 3 else ""), "rating": rating}
            for rating, text in texts.items()
        ]
        rows.append(dialogue_row(id=f"d{number}", utterance=f"Thing {number}.", responses=responses))
    return write_rows(tmp_path_factory.mktemp("rated") / "rated.jsonl", *rows)


@pytest.mark.parametrize(
    ("rule", "doubt"),
    [
        ("fair", None),
        ("place", "its verdict turns with the order in 100% of pairs; what it is shown first wins in 100%"),
        ("length", "the longer response wins in 100% (by people: "),
        ("mute", "of its answers cannot be read"),
    ],
)
def test_a_certificate_says_how_a_judge_errs(
    rule: str, doubt: str | None, rated: Path, tmp_path: Path
) -> None:
    judge = Artificial(rule)
    item = certify(judge, rated, OVERALL, tmp_path)["questions"]["overall"]
    assert item["certified"] == (doubt is None), item["doubts"]
    assert doubt is None or doubt in "; ".join(item["doubts"])
    file = tmp_path / "certificate.json"
    known = certifications(file, judge, ["overall", "affective"])
    assert known["overall"]["certified"] == (doubt is None) and not known["affective"]["certified"]
    with pytest.raises(EmpathyEdgeError, match="is of another judge"):
        certifications(file, Artificial("other"), ["overall"])
    assert not certifications(None, judge, ["overall"])["overall"]["certified"]


def test_length_is_held_against_the_datas_own_preference(tmp_path: Path) -> None:
    """The review's A6: a judge that agreed in all pairs was refused where the longer was better."""
    rows = []
    for number in range(PROMPTS):
        good = f"a {'very ' * (9 if number % 5 else 1)}good answer {number}"
        bad = f"some {'quite ' * 4}other answer {number}"
        responses = [
            {"source": "s", "text": text, "rating": rating} for text, rating in ((good, 3), (bad, 1))
        ]
        responses[0]["source"] = "t"
        rows.append(dialogue_row(id=f"d{number}", utterance=f"Thing {number}.", responses=responses))
    data = write_rows(tmp_path / "rated.jsonl", *rows)
    item = certify(Artificial("fair"), data, OVERALL, tmp_path / "out")["questions"]["overall"]
    assert item["longer_wins"]["share"] > 0.7 and item["certified"], item["doubts"]


def test_a_judge_that_prefers_its_own_family_is_caught(rated: Path, tmp_path: Path) -> None:
    chance = random.Random(3)
    rows = []
    for number in range(PROMPTS):
        own_is_better = chance.random() < 0.6
        texts = [f"reply {number} indeed", f"answer {number} good"]  # GPT's style, and a person's
        ratings = (3, 1) if own_is_better else (1, 3)
        responses = [
            {"source": source, "text": text, "rating": rating}
            for source, text, rating in zip(("chatgpt_empathy", "human"), texts, ratings, strict=True)
        ]
        rows.append(dialogue_row(id=f"d{number}", utterance=f"Thing {number}.", responses=responses))
    data = write_rows(tmp_path / "rated.jsonl", *rows)
    people = sum(row["responses"][0]["rating"] == 3 for row in rows) / PROMPTS

    def certified(judge: Artificial, file: Path, out: str) -> QuestionCertificate:
        made = certify(judge, file, CertifySettings(max_pairs=120), tmp_path / out)
        return made["questions"]["overall"]

    found = certified(Artificial("of GPT's family"), data, "own")
    own = found["self_preference"]
    assert (own["family"], own["pairs"], own["judge"]) == ("GPT", PROMPTS, 1.0)
    assert own["people"] == pytest.approx(people, abs=1e-4) and 0.5 < people < 0.7
    assert "its own family (GPT) in 100% of pairs" in "; ".join(found["doubts"])
    other = certified(Artificial("fair"), data, "fair")["self_preference"]
    assert "is not known by its name" in other["why_not"]
    few = certified(Artificial("of GPT's family"), rated, "few")["self_preference"]
    assert few["why_not"].startswith("only 0 pairs")
    names = ("local:Qwen2.5-1.5B", "mixtral_empathy", "gemma-3", "human")
    assert [family_of(name) for name in names] == ["Qwen", "Mistral", "Gemini", None]


class TrainedOnMost(Artificial):
    """An artificial judge that was trained on all dialogues but the first 20."""

    def has_seen(self, dialogue_id: str) -> bool:
        return int(dialogue_id[1:]) >= 20


def test_a_judge_is_not_tested_on_what_it_has_seen(rated: Path, tmp_path: Path) -> None:
    judge = TrainedOnMost("fair")
    with pytest.raises(EmpathyEdgeError, match="20 dialogues that the judge has not seen"):
        certify(judge, rated, OVERALL, tmp_path)
    assert judge.asked == 0


def write_experts(folder: Path, noise: float) -> None:
    """Sixty artificial exchanges.

    The reply's number of words is the level; with probability `noise` an expert gives another one.
    """
    chance = random.Random(3)
    (folder / "original_data").mkdir(parents=True)
    (folder / "annotations" / "epitome").mkdir(parents=True)
    levels = {f"s{place}": place % 3 for place in range(60)}
    lines = [
        "sp_id,seeker_post,response_post",
        *(f'{name},"I am sad.",{" ".join(["warm"] * (level + 1))}' for name, level in levels.items()),
    ]
    (folder / "original_data" / "sample_epitome.csv").write_text("\n".join(lines) + "\n")
    for expert in (1, 2, 3):
        rows = ["sp_id,level_emotional_reactions,level_interpretations,level_explorations"]
        for name, level in levels.items():
            seen = [chance.randint(0, 2) if chance.random() < noise else level for _ in range(3)]
            rows.append(f"{name},{','.join(map(str, seen))}")
        (folder / "annotations" / "epitome" / f"expert{expert}_ratings.csv").write_text(
            "\n".join(rows) + "\n"
        )


class CountsWords(Judge):
    """An artificial judge that goes by the number of words, which is what these experts go by."""

    name = "artificial:words"

    def compare(self, pairs: Sequence[Pair], question: str) -> Iterator[Verdict]:
        for pair in pairs:
            ahead = len(pair.first.split()) - len(pair.second.split())
            yield Verdict("tie" if not ahead else "first" if ahead > 0 else "second")


def test_a_judge_beside_experts(tmp_path: Path) -> None:
    settings = CertifySettings(questions=("explorations",), max_pairs=60)
    write_experts(tmp_path / "clear", 0.0)
    made = certify_beside_experts(CountsWords(), tmp_path / "clear", settings, tmp_path / "a")
    item = made["questions"]["explorations"]
    assert item["win_rate"]["mean"] == 1
    assert item["experts_own"] == {"expert1": 1.0, "expert2": 1.0, "expert3": 1.0}
    assert item["certified"]
    write_experts(tmp_path / "noisy", 0.6)
    made = certify_beside_experts(CountsWords(), tmp_path / "noisy", settings, tmp_path / "b")
    assert all(0.2 < share < 0.95 for share in made["questions"]["explorations"]["experts_own"].values())
    with pytest.raises(EmpathyEdgeError, match="not about overall"):
        certify_beside_experts(CountsWords(), tmp_path / "noisy", OVERALL, tmp_path / "c")
    (tmp_path / "noisy" / "annotations" / "epitome" / "expert2_ratings.csv").write_text("sp_id\ns1\n")
    with pytest.raises(EmpathyEdgeError, match="level_emotional_reactions"):
        read_experts(tmp_path / "noisy")


@pytest.mark.slow
def test_a_certificate_says_what_a_judge_costs(rated: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "EMPATHY_EDGE_LEDGER": str(tmp_path / "ledger.sqlite"),
        "OPENAI_API_KEY": "k",
    }

    def answer(said: str) -> str:
        return "1" if "good" in said.partition("Reply 2")[0] else "2"

    found = []
    with FaultServer(fault_rate=0.0, answer=answer) as server:
        for model, name in (
            ("gpt-4o-mini", "priced"),
            ("some-model", "unpriced"),
            ("gpt-4o-mini", "from-the-ledger"),
        ):
            command = ("judge", "certify", f"openai:{model}", "--base-url", server.url, "--data", rated)
            given = ("--pairs", "40", "--out", tmp_path / name, "--json", tmp_path / f"{name}.json")
            result = run_command(*command, *given, env=environment)
            assert result.returncode == 0, result.stderr
            assert assert_reported(tmp_path / f"{name}.json", "judge certify 1")["pairs"] == 40
            assert_says_next(result, "empathy-edge judge compare")
            content = json.loads((tmp_path / name / "certificate.json").read_text())
            found.append(content["questions"]["overall"])
            if name == "priced":
                usage = server.paid.values()
                usd = sum(0.15 * one["prompt_tokens"] + 0.6 * one["completion_tokens"] for one in usage) / 1e6
                assert found[0]["usd_per_1000_calls"] == pytest.approx(1000 * usd / len(usage), rel=1e-3)
                assert f"{found[0]['usd_per_1000_calls']:.2f}" in result.stdout
    assert [item["usd_per_1000_calls"] is None for item in found] == [False, True, True]
