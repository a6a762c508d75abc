"""A large model as judge of `check`: a real endpoint on loopback, which rates by the number of words."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from empathy_edge.bench.check.baseline.record import read_baseline
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.judging.raters.model_rater import ModelRater, read_ratings
from empathy_edge.judging.raters.rater import ToRate
from empathy_edge.llm.api_settings import ApiSettings
from tests.conftest import CHECK_REPLIES, run_command
from tests.llm.fault_server import FaultServer

REPLIES = ["I am so sorry, that hurts.", "Fine.", "That is hard for you."]


def shown_replies(question: str) -> list[str]:
    return [json.loads(reply) for reply in re.findall(r'^\d+\. (".*")$', question, re.MULTILINE)]


def by_words(question: str) -> str:
    return json.dumps([min(100, len(reply.split())) for reply in shown_replies(question)])


def first_is_best(question: str) -> str:
    return json.dumps([100 - place for place in range(len(shown_replies(question)))])


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.setenv(
        "EMPATHY_EDGE_CACHE", str(tmp_path / "cache")
    )  # an earlier server may have had the port
    monkeypatch.setenv("OPENAI_API_KEY", "test")


@pytest.mark.usefixtures("ledger")
def test_ratings_are_of_the_right_replies_and_paid_once() -> None:
    item = ToRate([{"role": "user", "content": "My dog died."}], REPLIES)
    with FaultServer(fault_rate=0.3, answer=by_words) as server:
        for _ in range(2):
            rater = ModelRater("openai:judge", ApiSettings(base_url=server.url), "check")
            assert rater.rate_many([item]) == [[6.0, 1.0, 5.0]]
            rater.close()
        assert len(server.paid) == 2


@pytest.mark.usefixtures("ledger")
def test_a_judge_who_prefers_the_first_rates_all_alike() -> None:
    with FaultServer(fault_rate=0, answer=first_is_best) as server:
        rater = ModelRater("openai:judge", ApiSettings(base_url=server.url), "check")
        (ratings,) = rater.rate_many([ToRate([{"role": "user", "content": "Hi."}], REPLIES)])
        rater.close()
    assert len(set(ratings)) == 1


@pytest.mark.usefixtures("ledger")
def test_nonsense_is_one_clear_error() -> None:
    with FaultServer(fault_rate=0, answer=lambda question: "The first one is lovely.") as server:
        rater = ModelRater("openai:judge", ApiSettings(base_url=server.url), "check")
        with pytest.raises(EmpathyEdgeError, match="no lists of ratings, after 3 tries"):
            rater.rate_many([ToRate([{"role": "user", "content": "Hi."}], REPLIES)])
        rater.close()


WITHHELD: dict[str, dict[str, Any]] = {
    "filter": {"finish_reason": "content_filter"},
    "refusal": {"message": {"role": "assistant", "content": None, "refusal": "I cannot help."}},
}


def without_answer(kind: str) -> Callable[[str], dict[str, Any]]:
    """An endpoint that gives no answer where a dog died."""
    return lambda question: dict(WITHHELD[kind]) if "My dog died" in question else {}


def items_of(*said: str) -> list[ToRate]:
    return [ToRate([{"role": "user", "content": text}], REPLIES) for text in said]


@pytest.mark.parametrize("kind", WITHHELD)
@pytest.mark.usefixtures("ledger")
def test_a_withheld_answer_is_an_error_that_names_the_prompt(kind: str) -> None:
    items = items_of("Hi.", "My dog died.\n" + "He was old. " * 20)
    with FaultServer(fault_rate=0, answer=by_words, completion=without_answer(kind)) as server:
        for _ in range(2):
            rater = ModelRater("openai:judge", ApiSettings(base_url=server.url), "check")
            with pytest.raises(EmpathyEdgeError, match="1 of 2 answers are withheld") as error:
                rater.rate_many(items)
            rater.close()
            said = str(error.value)
            assert "'My dog died. He was old." in said and len(said) < 500 and "Hi." not in said
            assert "out of --prompts" in said and "not paid for twice" in said
            assert "no lists of ratings" not in said and "larger model" not in said
            assert error.value.exit_code == 2
        rater = ModelRater("openai:judge", ApiSettings(base_url=server.url), "check")
        paid = len(server.paid)
        assert rater.rate_many(items[:1]) == [[6.0, 1.0, 5.0]] and len(server.paid) == paid
        rater.close()


@pytest.mark.usefixtures("ledger")
def test_withheld_and_unreadable_answers_are_told_apart() -> None:
    def answer(question: str) -> str:
        return "Lovely." if "Hi." in question else by_words(question)

    with FaultServer(fault_rate=0, answer=answer, completion=without_answer("filter")) as server:
        rater = ModelRater("openai:judge", ApiSettings(base_url=server.url), "check")
        with pytest.raises(EmpathyEdgeError) as error:
            rater.rate_many(items_of("Hi.", "My dog died.", "Hello."))
        rater.close()
    assert "1 of 3 answers are withheld" in str(error.value)
    assert "1 of 3 answers are no lists of ratings, after 3 tries" in str(error.value)


@pytest.mark.usefixtures("ledger")
def test_few_withheld_answers_are_left_out_where_that_may_be() -> None:
    with FaultServer(fault_rate=0, answer=by_words, completion=without_answer("filter")) as server:
        rater = ModelRater("openai:judge", ApiSettings(base_url=server.url), "own-pairs", leave_out=True)
        items = items_of("My dog died.", "a", "b", "c", "d")
        assert rater.rate_many(items) == [[], *[[6.0, 1.0, 5.0]] * 4]
        with pytest.raises(EmpathyEdgeError, match="1 of 4 answers are withheld") as error:
            rater.rate_many(items[:4])
        rater.close()
    assert "--prompts" not in str(error.value) and "Take another judge" in str(error.value)


@pytest.mark.parametrize(
    ("text", "ratings"),
    [
        ("[3, 50.5]", [3.0, 50.5]),
        ("```json\n[1, 2]\n```", [1.0, 2.0]),
        ("[1, 2, 3]", None),
        ("[1, 101]", None),
        ("[1, true]", None),
        ("[1, NaN]", None),
        ("Ratings: [1, 2]", None),
        ("", None),
    ],
)
def test_read_ratings(text: str, ratings: list[float] | None) -> None:
    assert read_ratings(text, 2) == ratings


@pytest.mark.slow
@pytest.mark.usefixtures("ledger")
def test_a_baseline_by_an_endpoint(tiny_model: Path, exported: Path, tmp_path: Path) -> None:
    file = tmp_path / "baseline.json.gz"
    with FaultServer(fault_rate=0, answer=by_words) as server:
        judge = ("--judge", "openai:judge", "--base-url", server.url)
        few = ("--max-prompts", "20", *CHECK_REPLIES[2:])
        made = run_command("baseline", exported / "gguf-f16", *few, *judge, "--out", file)
        assert made.returncode == 0, made.stderr
    known = read_baseline(file)
    assert known.judge.name == "openai:judge" and known.judge.doubts  # length says nothing of empathy
    assert {reply.rating for record in known.prompts for reply in record.replies} == {0.0}
    assert len(server.paid) == 2 * 448, "a judge without a certificate is asked nothing more"
