"""Comparisons show their biases: order, length, answers that cannot be read; and sheets are blind."""

import json
import os
import random
import resource
from pathlib import Path

import numpy as np
import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.judging import compare
from empathy_edge.judging.agreement import agreement
from empathy_edge.judging.comparison_figures import comparison_figures
from empathy_edge.judging.file_judges import VerdictFileJudge
from empathy_edge.judging.length_adjusted import length_figures
from empathy_edge.judging.pairwise_judges import LocalJudge, open_judge, parse_answer
from empathy_edge.judging.questions import QUESTIONS
from empathy_edge.judging.response_pairs import ResponsePairs, read_responses, words_ahead_of
from empathy_edge.judging.statistics import holm
from empathy_edge.judging.verdicts import Pair
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.prompts import load_prompts
from tests.artificial import Artificial
from tests.conftest import assert_one_clear_error, run_command, write_rows
from tests.judging.conftest import COMPARED
from tests.llm.fault_server import FaultServer


def judged(arms: tuple[Path, Path, Path], rule: str, out: Path) -> dict:
    first, second, dialogues = arms
    result = compare.run(
        first=first,
        second=second,
        dialogues=dialogues,
        judges=[(Artificial(rule), None)],
        questions=["overall"],
        out=out,
    )
    return result["judges"][0]["questions"]["overall"]


def test_several_judges_stand_beside_each_other_with_their_agreement(
    arms: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    first, second, dialogues = arms
    rules = ("fair", "of GPT's family", "mute")
    done = compare.run(
        first=first, second=second, dialogues=dialogues, judges=[(Artificial(rule), None) for rule in rules],
        questions=["overall"], out=tmp_path,
    )  # fmt: skip
    assert [item["judge"] for item in done["judges"]] == [f"artificial {rule}" for rule in rules]
    found = done["agreement"]["overall"]
    kappas = {tuple(name.split()[-1] for name in row["between"]): row for row in found["kappa"]}
    assert kappas["fair", "mute"]["kappa"] == 1.0, "where both could be read they say the same"
    assert 60 < kappas["fair", "mute"]["pairs"] < COMPARED == kappas["fair", "family"]["pairs"]
    assert kappas["fair", "family"]["kappa"] == pytest.approx(0, abs=0.2) and found["alpha"] < 0.9
    assert judged(arms, "fair", tmp_path / "alone") == done["judges"][0]["questions"]["overall"]


def test_agreement_is_what_the_libraries_say_and_none_where_nothing_varies() -> None:
    anna = {str(number): float(number % 3 - 1) for number in range(30)}
    ben = anna | {"0": 1.0, "3": 0.0}
    found = agreement({"anna": anna, "ben": ben, "cleo": {"7": 1.0}}, (-1.0, 0.0, 1.0))
    assert [(row["between"], row["pairs"]) for row in found["kappa"]] == [
        (["anna", "ben"], 30), (["anna", "cleo"], 1), (["ben", "cleo"], 1),
    ]  # fmt: skip
    observed, expected = (4 + 1) / 30, 1.0  # mean squared differences, as they are and by chance
    assert found["kappa"][0]["kappa"] == pytest.approx(1 - observed / (4 / 3 * expected), abs=0.05)
    same = dict.fromkeys("abc", 0.0)
    assert agreement({"anna": same, "ben": same}, (-1.0, 0.0, 1.0)) == {
        "kappa": [{"between": ["anna", "ben"], "kappa": None, "pairs": 3}], "alpha": None,
    }  # fmt: skip


@pytest.mark.slow
def test_each_of_several_judges_has_its_own_certificate(
    arms: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    first, second, dialogues = arms
    files = []
    for name in ("anna", "ben"):
        made = compare.run(
            first=first, second=second, dialogues=dialogues, judges=[(Artificial("fair"), None)],
            questions=["overall"], out=tmp_path / name,
        )  # fmt: skip
        assert made["agreement"]["overall"]["alpha"] is None
        rows = [row | {"judge": name} for row in read_jsonl(tmp_path / name / "verdicts.jsonl")]
        files.append(write_rows(tmp_path / f"{name}.jsonl", *rows))
    names = [VerdictFileJudge(file).name for file in files]
    good = {"certified": True, "doubts": [], "win_rate": {"mean": 0.8, "low": 0.7, "high": 0.9}}
    for place, name in enumerate((names[1], "someone else")):
        (tmp_path / f"{place}.json").write_text(json.dumps({"judge": name, "questions": {"overall": good}}))
    command = ["judge", "compare", first, second, "--dialogues", dialogues]
    command += ["--judge", f"file:{files[0]}", "--judge", f"file:{files[1]}"]
    command += ["--certificate", tmp_path / "0.json", "--certificate", tmp_path / "1.json"]
    command += ["--out", tmp_path / "both"]
    result = run_command(*command)
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "both" / "compared.json").read_text())
    assert [item["questions"]["overall"]["judge"]["certified"] for item in content["judges"]] == [False, True]
    assert content["agreement"]["overall"]["alpha"] == 1.0 and "agreement of the judges" in result.stdout
    assert "1.json: is of none of these judges" in " ".join(result.stderr.split())
    assert_one_clear_error(
        run_command(*command, "--certificate", tmp_path / "0.json"), 2, "More certificates"
    )


def test_a_fair_judge(arms: tuple[Path, Path, Path], tmp_path: Path) -> None:
    found = judged(arms, "fair", tmp_path)
    assert found["win_rate"]["mean"] == pytest.approx(2 / 3, abs=1e-4) and found["win_rate"]["low"] > 0.5
    assert (found["wins"], found["losses"], found["ties"]) == (80, 40, 0)
    assert (
        found["order_flips"] == 0 and found["first_position_wins"]["share"] == 0.5 and found["p_holm"] < 0.01
    )
    assert 0.35 < found["longer_wins"]["share"] < 0.65
    assert abs(found["length_adjusted"]["mean"] - 2 / 3) < 0.05
    assert len(found["worst"]) == 10 and all("good" in row["second"] for row in found["worst"])
    assert sum(item["n"] for item in found["by_emotion"].values()) == COMPARED


def test_a_judge_that_takes_the_first_place_tells_nothing(
    arms: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    found = judged(arms, "place", tmp_path)
    assert found["win_rate"]["mean"] == 0.5 and found["ties"] == COMPARED and found["p_against_half"] == 1
    assert found["first_position_wins"]["share"] == 1.0 and found["order_flips"] == 1.0


def test_a_judge_of_length_is_seen(arms: tuple[Path, Path, Path], tmp_path: Path) -> None:
    found = judged(arms, "length", tmp_path)
    assert found["longer_wins"]["share"] == 1.0 and found["longer_wins"]["low"] > 0.9
    assert abs(found["length_adjusted"]["mean"] - 0.5) < 0.15


@pytest.mark.timeout(120)  # 2 s; the table of all pairs of verdicts would take hours
def test_ten_thousand_verdicts_take_little_memory() -> None:
    chance = random.Random(0)
    names = [f"d{n}" for n in range(5000)]
    arms = [
        {name: {"text": "word " * chance.randint(1, 40), "finish_reason": "stop"} for name in names}
        for _ in range(2)
    ]
    dialogues = [Dialogue(name, "sad", "s", "I lost my job today.", (), "test") for name in names]
    rows = [
        {"id": name, "verdicts": chance.choices(["first", "second", "tie"], k=2), "mirrored": [False] * 2}
        for name in names
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = comparison_figures(rows, ResponsePairs(dialogues, *arms))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB
    assert abs(found["win_rate"]["mean"] - 0.5) < 0.03


def test_answers_that_cannot_be_read_are_bounded(arms: tuple[Path, Path, Path], tmp_path: Path) -> None:
    found = judged(arms, "mute", tmp_path)
    assert 0.1 < found["unparsed"] < 0.3
    low, high = found["win_rate_if_unparsed_lost"], found["win_rate_if_unparsed_won"]
    assert low < found["win_rate"]["mean"] < high and high - low == pytest.approx(found["unparsed"], abs=1e-3)
    assert low < 2 / 3 < high


def test_the_rate_at_equal_length_is_the_logistic_fits() -> None:
    from sklearn.linear_model import LogisticRegression

    chance = np.random.default_rng(5)
    ahead = chance.integers(-20, 30, 200).astype(float)
    points = np.where(chance.random(200) < 1 / (1 + np.exp(0.5 - 0.06 * ahead)), 1.0, 0.0)
    points[::7] = 0.5
    twice = np.concatenate([ahead, ahead])[:, None] / 10
    model = LogisticRegression(C=10, tol=1e-8).fit(
        twice, np.r_[np.ones(200), np.zeros(200)], np.r_[points, 1 - points]
    )
    expected = 1 / (1 + np.exp(-model.intercept_[0]))
    found = length_figures(points, ahead)["length_adjusted"]
    assert found["mean"] == pytest.approx(expected, abs=1e-3) and points.mean() > found["mean"] + 0.03
    assert found["low"] < found["lower_bound_one_sided"] < found["mean"] < found["high"]
    one_sided = length_figures(np.where(ahead > 0, 1.0, 0.0), ahead)["length_adjusted"]
    assert 0 < one_sided["mean"] < 1, "rows that length separates have an answer"


def test_a_length_that_is_the_arm_is_not_adjusted_for(tmp_path: Path) -> None:
    ours = [{"id": f"d{n}", "text": "one two three four"} for n in range(60)]
    theirs = [{"id": f"d{n}", "text": "one"} for n in range(60)]
    points = np.array([float(n % 2) for n in range(60)])
    ids = [row["id"] for row in ours]
    ahead = words_ahead_of(ids, dict(zip(ids, ours, strict=True)), dict(zip(ids, theirs, strict=True)))
    found = length_figures(points, ahead)
    assert found["lengths_differ"] and found["mean_words_ahead"] == 3
    assert found["length_adjusted"] is None and "cannot be told apart" in found["length_adjusted_why_not"]


def test_what_is_known_is_not_asked_again(arms: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first, second, dialogues = arms
    judge = Artificial("fair")
    common = {
        "first": first,
        "second": second,
        "dialogues": dialogues,
        "judges": [(judge, None)],
        "out": tmp_path,
    }
    whole = compare.run(**common, questions=["overall"])
    assert judge.asked == 2 * COMPARED
    lines = (tmp_path / "verdicts.jsonl").read_text().splitlines()
    # A kill while it was writing.
    (tmp_path / "verdicts.jsonl").write_text("\n".join(lines[:100]) + '\n{"judge": "arti')
    again = compare.run(**common, questions=["overall", "affective"])
    assert judge.asked == 2 * COMPARED + (2 * COMPARED - 100) + 2 * COMPARED
    # Whole again; nothing was appended to the line that was cut off.
    assert len(read_jsonl(tmp_path / "verdicts.jsonl")) == 4 * COMPARED
    rates = [done["judges"][0]["questions"]["overall"]["win_rate"] for done in (again, whole)]
    assert rates[0] == rates[1]


def test_a_folder_that_holds_something_else_is_left_alone(
    arms: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "winrate.json").write_text("{}")
    with pytest.raises(EmpathyEdgeError, match=r"holds something else \(winrate\.json\)"):
        judged(arms, "fair", tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["winrate.json"]


def test_a_local_judge_gives_probabilities(
    tiny_model: Path, arms: tuple[Path, Path, Path], exported: Path
) -> None:
    pairs = [Pair("d1", "s", "u", "good", "bad"), Pair("d1", "s", "u", "bad", "good")]
    for model in (tiny_model, exported / "gguf-f16"):  # random weights: they would say anything but a digit
        judge = LocalJudge(str(model))
        verdicts = list(judge.compare(pairs, "overall"))
        assert all(v.verdict == "unparsed" and 0 < v.first < 1 for v in verdicts)
        assert verdicts[0].first != verdicts[1].first
        logits = judge._runtime.next_logits(list(range(300, 340)))
        again = judge._runtime.next_logits(list(range(300, 330)))
        assert logits.shape == again.shape and abs(logits - again).max() > 0
        judge._runtime.forget()
        assert abs(judge._runtime.next_logits(list(range(300, 340))) - logits).max() < 2e-2


def test_every_question_has_its_words() -> None:
    assert set(load_prompts("judge").texts) == {"system", "pair", *QUESTIONS}
    assert set(load_prompts("alone").texts) == {"scale", *QUESTIONS}
    text = Pair("d", "It rained.", "I am wet.", "Oh no.", "Ha!").messages("affective")[1]["content"]
    assert "It rained." in text and 'Reply 2: "Ha!"' in text and "fitting warmth" in text and "{" not in text


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("1", "first"),
        (" 2.\n", "second"),
        ("**0**", "tie"),
        ("Reply 1", None),
        ("12", None),
        ("", None),
        ("1 or 2", None),
    ],
)
def test_answers_are_read_strictly(text: str, verdict: str | None) -> None:
    assert parse_answer(text) == verdict


def test_unknown_judges_and_bad_files_are_one_error(arms: tuple[Path, Path, Path], tmp_path: Path) -> None:
    with (
        pytest.raises(EmpathyEdgeError, match="give local:MODEL, openai:MODEL"),
        open_judge("gpt", ApiSettings()),
    ):
        pass
    file = write_rows(tmp_path / "v.jsonl", {"key": "x", "verdict": "maybe"})
    with pytest.raises(EmpathyEdgeError, match=r"v\.jsonl: row 1: needs 'key' and 'verdict'"):
        VerdictFileJudge(file)
    with pytest.raises(EmpathyEdgeError, match="row 1: needs 'id' and 'text'"):
        read_responses(file)


def test_statistics_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == [0.03, 0.06, 0.06]


@pytest.mark.slow
def test_an_api_judge_is_asked_again_and_then_counted(arms: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """The endpoint answers in prose: each order of a pair is asked three times, and nothing is dropped."""
    first = write_rows(tmp_path / "x.jsonl", *read_jsonl(arms[0])[:40])  # more than one batch
    environment = {
        **os.environ,
        "EMPATHY_EDGE_LEDGER": str(tmp_path / "ledger.sqlite"),
        "OPENAI_API_KEY": "k",
    }
    with FaultServer(fault_rate=0.0) as server:
        command = ("judge", "compare", first, arms[1], "--dialogues", arms[2])
        command += ("--judge", "openai:gpt-test", "--base-url", server.url)
        result = run_command(*command, "--out", tmp_path / "out", env=environment)
        assert result.returncode == 0, result.stderr
        assert len(server.paid) == 40 * 2 * 3
        run_command(*command, "--out", tmp_path / "again", env=environment)
        assert server.requests == 40 * 2 * 3  # the ledger had them all
    found = json.loads((tmp_path / "out/compared.json").read_text())["judges"][0]["questions"]["overall"]
    assert found["unparsed"] == 1.0 and found["win_rate"]["mean"] == 0.5
    assert (found["win_rate_if_unparsed_lost"], found["win_rate_if_unparsed_won"]) == (0.0, 1.0)
