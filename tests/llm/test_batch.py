"""The Batch API: sent once, fetched by another process, partial failures sent again."""

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.llm.batch_teacher import BatchTeacher
from empathy_edge.llm.budget import Budget, BudgetReached, Price, cost_usd, max_prompt_tokens
from empathy_edge.llm.client import ModelClient
from empathy_edge.llm.ledger import Ledger
from empathy_edge.llm.records import Request
from tests.conftest import assert_one_clear_error, run_command
from tests.llm.batch_server import BatchServer
from tests.llm.test_teachers import _dialogues


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "EMPATHY_EDGE_LEDGER": str(tmp_path / "ledger.sqlite"), "OPENAI_API_KEY": "sk-x"}


def _command(tmp_path: Path, server: BatchServer, *more: str) -> list[str]:
    return [
        "distill", "--data", str(tmp_path / "d.jsonl"), "--method", "direct", "--teacher", "batch:gpt-test",
        "--base-url", server.url, "--poll", "0.1", "--out", str(tmp_path / "out"), *more,
    ]  # fmt: skip


def test_sent_today_fetched_tomorrow(tmp_path: Path, environment: dict[str, str]) -> None:
    _dialogues(tmp_path / "d.jsonl", 9)
    with BatchServer(["completed"], looks=2) as server:
        result = run_command(*_command(tmp_path, server, "--no-wait"), env=environment)
        assert_one_clear_error(result, 3, "not done yet", "same command again")
        assert len(server.asked) == 9 and len(server.batches) == 1
        result = run_command(*_command(tmp_path, server, "--no-wait"), env=environment)
        assert result.returncode == 0, result.stderr
        assert len(server.asked) == 9 and len(server.batches) == 1
    assert len(read_jsonl(tmp_path / "out" / "responses.jsonl")) == 9


def test_partial_failures_and_expiry_are_sent_again(tmp_path: Path, environment: dict[str, str]) -> None:
    _dialogues(tmp_path / "d.jsonl", 12)
    with BatchServer(["partial", "expired", "completed"]) as server:
        result = run_command(*_command(tmp_path, server), env=environment)
        assert result.returncode == 0, result.stderr
        assert sorted(server.paid) == sorted(set(server.paid)) and len(server.paid) == 12
        assert [len(batch["requests"]) for batch in server.batches.values()] == [12, 4, 2]
    with sqlite3.connect(tmp_path / "ledger.sqlite") as database:
        assert database.execute("SELECT COUNT(*), SUM(prompt_tokens) FROM answers").fetchone() == (12, 120)


@pytest.mark.slow
def test_what_never_succeeds_is_asked_again_by_the_next_run(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    _dialogues(tmp_path / "d.jsonl", 9)
    with BatchServer(["partial", "partial", "partial", "completed"]) as server:
        result = run_command(*_command(tmp_path, server), env=environment)
        assert_one_clear_error(
            result, 4, "1 of 9 dialogues failed", "given up after 3 batches", "run the same"
        )
        assert len(read_jsonl(tmp_path / "out" / "responses.jsonl")) == 8
        result = run_command(*_command(tmp_path, server), env=environment)
        assert result.returncode == 0, result.stderr
        assert len(server.batches["batch_3"]["requests"]) == 1
    assert len(read_jsonl(tmp_path / "out" / "responses.jsonl")) == 9


@pytest.mark.slow
def test_a_batch_that_was_read_is_not_taken_for_a_new_one(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Three batches without an answer were found again by the next run, which sent nothing any more."""
    _dialogues(tmp_path / "d.jsonl", 1)
    with BatchServer(["partial", "partial", "partial", "completed"]) as server:
        result = run_command(*_command(tmp_path, server), env=environment)
        assert_one_clear_error(result, 4, "No call to gpt-test succeeded", "given up after 3 batches")
        result = run_command(*_command(tmp_path, server), env=environment)
        assert result.returncode == 0, result.stderr
        assert len(server.batches) == 4 and len(server.paid) == 1


@pytest.mark.slow
def test_two_commands_wait_for_one_batch(tmp_path: Path, environment: dict[str, str]) -> None:
    """The one that did not fetch it waited for ever."""
    _dialogues(tmp_path / "d.jsonl", 3)
    with BatchServer(["completed"], looks=12) as server:
        result = run_command(*_command(tmp_path, server, "--no-wait"), env=environment)
        assert result.returncode == 3, result.stderr
        commands = [
            [*_command(tmp_path, server)[:-1], str(tmp_path / name), "--poll", poll]
            for name, poll in (("first", "0.1"), ("second", "0.15"))
        ]
        with ThreadPoolExecutor() as threads:
            results = list(threads.map(lambda command: run_command(*command, env=environment), commands))
        assert [result.returncode for result in results] == [0, 0], results[0].stderr + results[1].stderr
        assert len(server.batches) == 1 and len(server.paid) == 3
    for name in ("first", "second"):
        assert len(read_jsonl(tmp_path / name / "responses.jsonl")) == 3


@pytest.mark.slow
def test_a_batch_of_another_project_is_not_given_up(tmp_path: Path, environment: dict[str, str]) -> None:
    """With another project's key the endpoint does not know it; its answers are paid for."""
    _dialogues(tmp_path / "d.jsonl", 3)
    with BatchServer(["completed"]) as server:
        result = run_command(*_command(tmp_path, server, "--no-wait"), env=environment)
        assert result.returncode == 3, result.stderr
        server.is_of_another = True
        result = run_command(*_command(tmp_path, server), env=environment)
        assert_one_clear_error(result, 3, "does not know the batch batch_0", "the project")
        server.is_of_another = False
        result = run_command(*_command(tmp_path, server), env=environment)
        assert result.returncode == 0, result.stderr
        assert len(server.batches) == 1 and len(server.paid) == 3


def test_what_is_sent_again_is_reserved_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty answers are charged: each batch of them has to fit into --max-cost."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    request, price = Request(({"role": "user", "content": "I lost it."},)), Price(1000.0, 1000.0)
    highest = cost_usd(price, max_prompt_tokens(request), request.max_tokens) or 0.0
    with BatchServer(["completed"] * 3, text=" ") as server:
        ledger = Ledger(tmp_path / "ledger.sqlite")
        teacher = BatchTeacher("gpt-test", ledger, base_url=server.url, price=price, poll_s=0.05)
        client = ModelClient(teacher, ledger, Budget(price, max_cost=1.01 * highest))
        with pytest.raises(BudgetReached, match="would be passed"):
            client.run([request], client.ask, label="asked")
        (spending,) = ledger.spent()
        client.close()
        assert len(server.batches) == 1
    assert spending.failures == 1 and spending.cost_usd == pytest.approx(0.015)  # 10 tokens and 5


@pytest.mark.slow
def test_an_api_that_is_gone_loses_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    """The review's B2: one error of the network was recorded as a failure of every request that waited."""
    _dialogues(tmp_path / "d.jsonl", 5)
    with BatchServer(["completed"], looks=2) as server:
        result = run_command(*_command(tmp_path, server, "--no-wait"), env=environment)
        assert result.returncode == 3
        server.is_broken = True
        result = run_command(*_command(tmp_path, server), env=environment)
        assert_one_clear_error(result, 3, "The Batch API failed", "not paid again")
        server.is_broken = False
        result = run_command(*_command(tmp_path, server), env=environment)
        assert result.returncode == 0, result.stderr
        assert len(server.batches) == 1
    with sqlite3.connect(tmp_path / "ledger.sqlite") as database:
        assert database.execute("SELECT COUNT(*) FROM failures").fetchone() == (0,)


def test_unusual_line_ends_in_answers(tmp_path: Path, environment: dict[str, str]) -> None:
    """The review's B5: an answer with U+2028 was lost, and paid up to three times."""
    _dialogues(tmp_path / "d.jsonl", 3)
    with BatchServer(["completed"], text="That is a lot.\u2028I am here.\u0085Tell me more.") as server:
        result = run_command(*_command(tmp_path, server), env=environment)
        assert result.returncode == 0, result.stderr
        assert len(server.paid) == 3
    rows = read_jsonl(tmp_path / "out" / "responses.jsonl")
    assert len(rows) == 3 and all("\u2028" in row["text"] for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("names_parameter", [True, False])
def test_refused_parameters_are_left_out_of_the_next_batch(
    tmp_path: Path, environment: dict[str, str], names_parameter: bool
) -> None:
    """The second request was read by what the first one had taught: no limit of tokens was left."""
    _dialogues(tmp_path / "d.jsonl", 3)
    refuses = ("max_tokens", "temperature", "seed")
    with BatchServer(["completed"] * 4, refuses=refuses, names_parameter=names_parameter) as server:
        result = run_command(*_command(tmp_path, server), env=environment)
        assert result.returncode == 0, result.stderr
        assert len(server.batches) == 4 and len(server.paid) == 3
        sent = server.batches["batch_3"]["requests"][0]["body"]
        assert "max_completion_tokens" in sent and not {"temperature", "seed"} & set(sent)


@pytest.mark.slow
def test_a_batch_that_was_created_before_a_kill_is_adopted(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    _dialogues(tmp_path / "d.jsonl", 5)
    with BatchServer(["completed", "completed"], looks=2) as server:
        run_command(*_command(tmp_path, server, "--no-wait"), env=environment)
        with sqlite3.connect(tmp_path / "ledger.sqlite") as database:
            database.execute(
                "DELETE FROM batches"
            )  # as if killed between the endpoint's answer and the ledger
        result = run_command(*_command(tmp_path, server), env=environment)
        assert result.returncode == 0, result.stderr
        assert len(server.batches) == 1 and len(server.paid) == 5
