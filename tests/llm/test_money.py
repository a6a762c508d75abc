"""What is paid for is kept, what failed is asked again, and a bad answer is never taken as a good one."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.judging.pairwise_judges import open_judge
from empathy_edge.judging.verdicts import Pair
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.llm.budget import Budget, BudgetReached, Price
from empathy_edge.llm.client import ModelClient
from empathy_edge.llm.ledger import Ledger
from empathy_edge.llm.openai_teacher import OpenAITeacher, answer_of, identity_of
from empathy_edge.llm.records import Answer, Request, TryAgain
from tests.conftest import assert_one_clear_error, run_command
from tests.llm.fault_server import FaultServer
from tests.llm.test_teachers import _command, _dialogues

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("EMPATHY_EDGE_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    return dict(os.environ)


def _in_ledger(environment: dict[str, str], table: str = "answers") -> int:
    with sqlite3.connect(environment["EMPATHY_EDGE_LEDGER"]) as database:
        return database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]


def test_a_budget_stop_of_a_judge_keeps_what_is_under_way(environment: dict[str, str]) -> None:
    """The review's B1: five calls were paid, and none of them was in the ledger."""
    pairs = [Pair(f"p{number}", "", "I lost it.", f"a{number}", "b") for number in range(8)]
    with FaultServer(fault_rate=0, delay_s=0.3, answer=lambda said: "1") as server:
        api = ApiSettings(base_url=server.url, max_calls=5)
        with open_judge("openai:gpt-test", api) as judge, pytest.raises(BudgetReached, match="5 of 8"):
            list(judge.compare(pairs, "overall"))
        assert len(server.paid) == 5 == _in_ledger(environment)
        with open_judge("openai:gpt-test", ApiSettings(base_url=server.url)) as judge:
            assert {item.verdict for item in judge.compare(pairs, "overall")} == {"first"}
        assert len(server.paid) == 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_keep_what_is_under_way(
    tmp_path: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 40)
    with FaultServer(fault_rate=0, delay_s=1.0) as server:
        program = [
            sys.executable, "-c",
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from empathy_edge.cli import main; main()",
            *_command(data, server, tmp_path / "out", "--timeout", "30"),
        ]  # fmt: skip
        process = subprocess.Popen(program, env=environment, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while len(server.paid) < 16 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate()
        assert process.returncode == 130 and "running calls" in errors, errors
        assert 16 <= len(server.paid) == _in_ledger(environment) < 40


def test_failed_dialogues_are_asked_again(tmp_path: Path, environment: dict[str, str]) -> None:
    """The review's B2: a stage with failures was done for ever."""
    data = _dialogues(tmp_path / "dialogues.jsonl", 8)
    with FaultServer(fault_rate=0) as server:
        server.failing = ("boat number 7 ", "boat number 21 ")
        result = run_command(*_command(data, server, tmp_path / "out"), env=environment)
        assert_one_clear_error(result, 4, "2 of 8 dialogues failed", "run the same command again")
        assert len(read_jsonl(tmp_path / "out" / "responses.jsonl")) == 6
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
        assert manifest["results"]["failed"] == ["d1", "d3"] and manifest["is_complete"] is False
        server.failing = ()
        result = run_command(*_command(data, server, tmp_path / "out"), env=environment)
        assert result.returncode == 0, result.stderr
        assert "2 calls" in result.stderr and len(server.paid) == 8
        assert len(read_jsonl(tmp_path / "out" / "responses.jsonl")) == 8
        asked = server.requests
        result = run_command(*_command(data, server, tmp_path / "out"), env=environment)
        assert result.returncode == 0 and server.requests == asked


def test_a_verdict_that_failed_is_asked_for_again(tmp_path: Path, environment: dict[str, str]) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 4)
    for arm in ("a", "b"):
        rows = [json.dumps({"id": f"d{number}", "text": f"{arm} {number}"}) for number in range(4)]
        (tmp_path / f"{arm}.jsonl").write_text("\n".join(rows))
    with FaultServer(fault_rate=0, answer=lambda said: "1") as server:
        command = (
            "judge", "compare", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--dialogues", data,
            "--judge", "openai:gpt-test", "--base-url", server.url, "--out", tmp_path / "out",
        )  # fmt: skip
        server.failing = ("boat number 7 ",)
        result = run_command(*command, env=environment)
        assert_one_clear_error(result, 4, "2 of 8 calls", "same command again")
        server.failing = ()
        result = run_command(*command, env=environment)
        assert result.returncode == 0, result.stderr
        assert len(server.paid) == 8 and "unparsed" not in (tmp_path / "out/verdicts.jsonl").read_text()


def test_another_endpoint_or_model_shares_no_answers(tmp_path: Path, environment: dict[str, str]) -> None:
    """The review's B3: the ledger's key had the model's name only."""
    data = _dialogues(tmp_path / "dialogues.jsonl", 3)
    with FaultServer(fault_rate=0) as first, FaultServer(fault_rate=0) as second:
        for server in (first, second):
            server.reported = {"id": "gpt-test", "owned_by": "me", "meta": {"size": 1}}
            for out in ("out", "again"):
                folder = tmp_path / f"{out}-{id(server)}"
                assert run_command(*_command(data, server, folder), env=environment).returncode == 0
            assert server.requests == 3
        first.reported = {"id": "gpt-test", "owned_by": "me", "meta": {"size": 2}}
        assert run_command(*_command(data, first, tmp_path / "new"), env=environment).returncode == 0
        assert first.requests == 6
    manifest = json.loads((tmp_path / "new" / "manifest.json").read_text())
    assert manifest["results"]["served"] == ["gpt-test fp_test"]


def test_no_call_before_the_model_is_known(tmp_path: Path, environment: dict[str, str]) -> None:
    """Answers under an identity without what the endpoint says of the model were paid for again later."""
    data = _dialogues(tmp_path / "dialogues.jsonl", 3)
    with FaultServer(fault_rate=0, reported={"id": "gpt-test", "owned_by": "me"}, unreadable=True) as server:
        result = run_command(*_command(data, server, tmp_path / "out"), env=environment)
        assert_one_clear_error(result, 3, "could not be asked which models it has")
        assert server.requests == 0
        server.unreadable = False
        for out in ("out", "new"):
            result = run_command(*_command(data, server, tmp_path / out), env=environment)
            assert result.returncode == 0, result.stderr
            server.unreadable = True  # it is known now
        assert server.requests == len(server.paid) == 3


def test_an_endpoint_without_a_list_is_not_needed_for_what_the_ledger_has(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 3)
    with FaultServer(fault_rate=0) as server:
        assert run_command(*_command(data, server, tmp_path / "out"), env=environment).returncode == 0
    result = run_command(*_command(data, server, tmp_path / "new"), env=environment)
    assert result.returncode == 0, result.stderr
    assert "3 answers from the ledger" in result.stderr


def test_each_charged_try_is_in_the_ledgers_sums(tmp_path: Path, environment: dict[str, str]) -> None:
    """An empty answer costs as much as its tokens; with a good one after it, its cost was lost."""
    price, request = Price(1000.0, 1000.0), Request(({"role": "user", "content": "I lost it."},))
    with FaultServer(fault_rate=1.0, kinds=("empty",)) as server:  # four times, then it answers
        ledger = Ledger(tmp_path / "sums.sqlite")
        teacher = OpenAITeacher("gpt-test", ledger, base_url=server.url, price=price)
        client = ModelClient(teacher, ledger, Budget(price))
        assert isinstance(client.run([request], client.ask, label="asked")[0], Answer)
        (spending,) = ledger.spent()
        client.close()
    assert spending.failures == 4 and spending.cost_usd == pytest.approx(client.budget.cost)
    assert client.budget.cost == pytest.approx(5 * 0.022)  # 2 tokens and 20 each


def test_calls_of_unknown_cost_count_at_their_most() -> None:
    """Timeouts and answers without a count of tokens passed any limit, as they counted as free."""
    request, price = Request(({"role": "user", "content": "I lost it."},)), Price(1000.0, 1000.0)
    choice = {"message": {"content": "Oh no."}, "finish_reason": "stop"}
    counted = {"prompt_tokens": 5, "completion_tokens": 3}
    assert answer_of({"choices": [choice], "usage": counted}, "m", price).cost_usd == pytest.approx(0.008)
    assert answer_of({"choices": [choice]}, "m", price).cost_usd is None
    budget = Budget(price, max_cost=1.0)
    highest = budget.reserve(request)
    budget.settle(highest, None)
    assert (budget.cost, budget.untold) == (0.0, highest)
    budget.settle(budget.reserve(request), 0.008)
    assert (budget.cost, budget.untold) == (pytest.approx(0.008), highest)
    with pytest.raises(BudgetReached, match="did not tell"):
        for _ in range(10):
            budget.settle(budget.reserve(request), None)
    assert budget.cost + budget.untold <= 1.0


def test_an_endpoint_that_is_gone_costs_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    """A refused connection was no call; a connection that was cut may have been one."""
    request = Request(({"role": "user", "content": "I lost it."},))
    costs = {}
    for kind in ("cut before", "refused"):
        with FaultServer(fault_rate=1.0, kinds=("cut before",)) as server:
            teacher = OpenAITeacher("gpt-test", Ledger(tmp_path / "ledger.sqlite"), base_url=server.url)
            if kind == "refused":
                server.__exit__()
            with pytest.raises(TryAgain) as raised:
                asyncio.run(teacher.answer(request, "key"))
            costs[kind] = raised.value.cost_usd
    assert costs == {"cut before": None, "refused": 0.0}


def test_half_a_character_stops_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    data = tmp_path / "dialogues.jsonl"
    data.write_text('{"id": "a", "utterance": "I lost \\ud83d it today, and it hurts."}\n')
    with FaultServer(fault_rate=0) as server:
        result = run_command(*_command(data, server, tmp_path / "out"), env=environment)
        assert result.returncode == 0, result.stderr
        assert len(server.paid) == 1


def test_credentials_in_an_address_are_in_no_identity() -> None:
    found = identity_of("https://me:secret@host:8000/v1?api-key=secret", "gpt-test", "")
    assert found.startswith("gpt-test at https://host:8000/v1 ") and "secret" not in found


BAD_ANSWERS: dict[str, dict[str, Any]] = {
    "cut off": {"finish_reason": "length"},
    "withheld": {"finish_reason": "content_filter"},
    "I cannot help": {"message": {"role": "assistant", "content": None, "refusal": "I cannot help."}},
    "empty answer": {"message": {"role": "assistant", "content": None}},
    "an empty answer": {"message": {"role": "assistant", "content": "  "}},
}


@pytest.mark.parametrize("words", BAD_ANSWERS)
def test_a_bad_answer_is_never_a_good_one(
    words: str, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The review's C12: an answer that was cut off became a training row."""
    data = _dialogues(tmp_path / "dialogues.jsonl", 3)

    def completion(said: str) -> dict[str, Any]:
        return dict(BAD_ANSWERS[words]) if "number 7 " in said else {}

    with FaultServer(fault_rate=0, completion=completion) as server:
        result = run_command(*_command(data, server, tmp_path / "out"), env=environment)
        assert_one_clear_error(result, 4, "1 of 3 dialogues failed", words)
        paid = len(server.paid)
        requests = server.requests
        result = run_command(*_command(data, server, tmp_path / "out"), env=environment)
        assert result.returncode == 4 and len(server.paid) == paid
        if words == "cut off":  # it was paid for, and would be cut off again
            assert server.requests == requests
    assert len(read_jsonl(tmp_path / "out" / "responses.jsonl")) == 2


def test_models_that_reason(tmp_path: Path, environment: dict[str, str]) -> None:
    """They refuse parameters, which is learned once; their reasoning is paid for."""
    data = _dialogues(tmp_path / "dialogues.jsonl", 6)
    prices = tmp_path / "prices.yaml"
    prices.write_text("gpt-test: [0.0, 1000.0]\n")

    def completion(said: str) -> dict[str, Any]:
        return {"usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 130}}

    refuses = ("max_tokens", "temperature", "seed")
    with FaultServer(fault_rate=0, refuses=refuses, completion=completion) as server:
        more = ("--prices", str(prices), "--parallel", "1", "--max-dialogues")
        result = run_command(*_command(data, server, tmp_path / "out", *more, "3"), env=environment)
        assert result.returncode == 0, result.stderr
        assert server.refused == 3 and "refuses 'max_tokens'" in result.stderr
        assert "3 calls for 0.3600 USD" in result.stderr  # 3 × (130 − 10) tokens
        result = run_command(*_command(data, server, tmp_path / "new", *more, "6"), env=environment)
        assert result.returncode == 0 and server.refused == 3, result.stderr


def test_a_page_instead_of_an_answer_is_tried_again(tmp_path: Path, environment: dict[str, str]) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 3)
    with FaultServer(fault_rate=1.0, kinds=("html",)) as server:
        result = run_command(*_command(data, server, tmp_path / "out"), env=environment)
        assert result.returncode == 0, result.stderr
        assert server.faults["html"] == 12 and len(server.paid) == 3


def test_a_missing_price_is_said_before_the_first_call(tmp_path: Path, environment: dict[str, str]) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 1)
    with FaultServer(fault_rate=0) as server:
        server.failing = ("boat",)
        result = run_command(*_command(data, server, tmp_path / "out"), env=environment)
    lines = result.stderr.splitlines()
    assert "The price of gpt-test is not in the table" in lines[0] and "No call" in result.stderr
