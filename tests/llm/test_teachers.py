"""A teacher that fails in every way: each answer arrives and is paid once, limits hold, keys stay secret."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from empathy_edge.formats.json_lines import read_jsonl, write_jsonl
from tests.conftest import assert_one_clear_error, dialogue_row, run_command, write_rows
from tests.llm.fault_server import FaultServer

SECRET = "sk-a-very-secret-key"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "EMPATHY_EDGE_LEDGER": str(tmp_path / "ledger.sqlite"), "OPENAI_API_KEY": SECRET}


def _dialogues(path: Path, count: int) -> Path:
    rows = [
        dialogue_row(
            id=f"d{number}",
            utterance=f"On day {number} my boat number {number * 7} sank.",
            responses=[{"source": "human", "text": "Buy a new boat.", "rating": number % 3 + 1}],
        )
        for number in range(count)
    ]
    return write_rows(path, *rows)


def _command(data: Path, server: FaultServer, out: Path, *more: str) -> list[str]:
    return [
        "distill", "--data", str(data), "--method", "direct", "--teacher", "openai:gpt-test",
        "--base-url", server.url, "--timeout", "2", "--parallel", "16", "--out", str(out), *more,
    ]  # fmt: skip


def _answers(environment: dict[str, str]) -> int:
    path = environment["EMPATHY_EDGE_LEDGER"]
    if not Path(path).exists():
        return 0
    with sqlite3.connect(path, timeout=30) as database:
        try:
            return database.execute("SELECT COUNT(*) FROM answers").fetchone()[0]
        except sqlite3.OperationalError:
            return 0


@pytest.mark.slow
def test_500_calls_with_every_fault_and_two_kills(tmp_path: Path, environment: dict[str, str]) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 500)
    with FaultServer() as server:
        command = _command(data, server, tmp_path / "out")
        for enough in (120, 300):
            program = [sys.executable, "-c", "from empathy_edge.cli import main; main()", *command]
            process = subprocess.Popen(
                program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            deadline = time.monotonic() + 120
            while _answers(environment) < enough and time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert enough <= _answers(environment) < 500
        result = run_command(*command, env=environment)
        assert result.returncode == 0, result.stderr
        assert all(server.faults.values()), server.faults
        assert server.too_early == 0, "Retry-After was not respected"
        assert len(server.paid) == 500 == _answers(environment)
        with sqlite3.connect(environment["EMPATHY_EDGE_LEDGER"]) as database:
            sums = database.execute(
                "SELECT SUM(prompt_tokens), SUM(completion_tokens) FROM answers"
            ).fetchone()
        paid = server.paid.values()
        assert sums == (sum(x["prompt_tokens"] for x in paid), sum(x["completion_tokens"] for x in paid))
        rows = [len(read_jsonl(tmp_path / "out" / f"{name}.jsonl")) for name in ("sft", "preference")]
        assert sum(rows) == 500 and rows[0] == 166
        asked = server.requests
        again = run_command(*_command(data, server, tmp_path / "again"), env=environment)
        assert again.returncode == 0 and server.requests == asked, (
            "an answer that was paid for was asked again"
        )
        assert "500 answers from the ledger" in again.stderr
    leaks = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert not leaks and SECRET not in result.stderr + result.stdout


@pytest.mark.slow
def test_a_server_that_dies_amid_500_calls(tmp_path: Path, environment: dict[str, str]) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 500)
    program = [sys.executable, "-c", "from empathy_edge.cli import main; main()"]
    with FaultServer(fault_rate=0, delay_s=0.02) as server:
        command = _command(data, server, tmp_path / "out", "--parallel", "32")
        process = subprocess.Popen(
            [*program, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 120
        while len(server.paid) < 200 and time.monotonic() < deadline:
            time.sleep(0.02)
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 4, errors
    assert "calls in a row failed" in errors and "of 500 are done and kept in the ledger" in errors
    before = _answers(environment)
    assert 150 < before < 500
    with FaultServer(fault_rate=0, port=server.port, paid=server.paid) as revived:
        result = run_command(*command, env=environment)
        assert result.returncode == 0, result.stderr
        assert revived.requests == 500 - before and len(revived.paid) == 500 == _answers(environment)


def test_many_answers_that_are_cut_off_are_no_dead_server(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 30)
    with FaultServer(fault_rate=0, completion=lambda said: {"finish_reason": "length"}) as server:
        for _ in range(2):  # the second time all of them come from the ledger
            result = run_command(*_command(data, server, tmp_path / "out"), env=environment)
            assert result.returncode != 0 and "in a row" not in result.stderr, result.stderr
            assert len(server.paid) == 30


@pytest.mark.slow
def test_limits_stop_before_they_are_passed(tmp_path: Path, environment: dict[str, str]) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 30)
    prices = tmp_path / "prices.yaml"
    prices.write_text("gpt-test: [1000.0, 1000.0]\n")
    with FaultServer(fault_rate=0) as server:
        result = run_command(*_command(data, server, tmp_path / "out", "--max-calls", "7"), env=environment)
        assert_one_clear_error(result, 4, "--max-calls 7", "7 of 30", "kept in the ledger")
        assert len(server.paid) == 7
        result = run_command(
            *_command(data, server, tmp_path / "out", "--max-cost", "1.2", "--prices", str(prices)),
            env=environment,
        )
        assert_one_clear_error(result, 4, "--max-cost 1.2", "kept in the ledger")
        spent = sum(sum(usage.values()) for usage in list(server.paid.values())[7:]) * 1000 / 1e6
        assert 0 < spent <= 1.2
        result = run_command(*_command(data, server, tmp_path / "out", "--max-cost", "1"), env=environment)
        assert_one_clear_error(result, 2, "--prices")
        result = run_command(*_command(data, server, tmp_path / "out"), env=environment)
        assert result.returncode == 0 and len(server.paid) == 30
    shown = run_command("ledger", env=environment)
    assert "gpt-test" in shown.stdout and "30" in shown.stdout
    assert run_command("ledger", "--export", tmp_path / "all.jsonl", env=environment).returncode == 0
    assert len(read_jsonl(tmp_path / "all.jsonl")) == 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "strategy", "calls"),
    [("direct", "naive", 10), ("improve-human", "sequential", 30), ("improve-llm", "all-dimensions", 20)],
)
def test_dry_run_knows_calls_and_ledger(
    method: str, strategy: str, calls: int, tmp_path: Path, environment: dict[str, str]
) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 10)
    more = ("--method", method, "--strategy", strategy)
    with FaultServer(fault_rate=0) as server:
        command = [*_command(data, server, tmp_path / "out"), *more]
        result = run_command(*command, "--dry-run", env=environment)
        assert result.returncode == 0 and f"{calls} calls" in result.stderr and server.requests == 0
        assert "0 answers are in the ledger" in result.stderr and not (tmp_path / "out").exists()
        run_command(*command, "--max-calls", "7", env=environment)
        result = run_command(*command, "--dry-run", env=environment)
        assert f"{calls - 7} calls" in result.stderr and "7 answers are in the ledger" in result.stderr
        assert run_command(*command, env=environment).returncode == 0 and len(server.paid) == calls
        result = run_command(*command, "--dry-run", env=environment)
        assert "0 calls" in result.stderr and f"{calls} answers are in the ledger" in result.stderr


def test_an_estimate_knows_answers_of_a_former_identity(tmp_path: Path, environment: dict[str, str]) -> None:
    from empathy_edge.distill.estimate import estimate
    from empathy_edge.distill.teacher_settings import TeacherSettings
    from empathy_edge.formats.dialogue import read_dialogues
    from empathy_edge.llm.ledger import Ledger
    from empathy_edge.llm.openai_teacher import identity_of

    data = _dialogues(tmp_path / "dialogues.jsonl", 4)
    with FaultServer(fault_rate=0) as server:
        assert run_command(*_command(data, server, tmp_path / "out"), env=environment).returncode == 0
    settings = TeacherSettings(teacher="openai:gpt-test", method="direct")
    ledger = Ledger(Path(environment["EMPATHY_EDGE_LEDGER"]))
    known = identity_of(server.url, "gpt-test", ledger.endpoint(server.url, "gpt-test").reported)
    found = [
        estimate(read_dialogues(data), settings, identities, ledger)
        for identities in (["new"], ["new", known])
    ]
    ledger.close()
    assert [(item.calls, item.in_ledger) for item in found] == [(4, 0), (0, 4)]


def test_an_endpoint_with_another_model_is_noticed(tmp_path: Path, environment: dict[str, str]) -> None:
    """It was asked for every dialogue, and paid for, before this was said."""
    data = _dialogues(tmp_path / "dialogues.jsonl", 60)
    with FaultServer(fault_rate=0, served_model="gpt-test-mini", delay_s=0.2) as server:
        result = run_command(*_command(data, server, tmp_path / "out"), env=environment)
    assert_one_clear_error(result, 4, "gpt-test-mini", "not 'gpt-test'")
    assert _answers(environment) == 0 and server.requests <= 32  # 16 at a time


def test_a_content_filter_is_withheld_with_http_400_too(tmp_path: Path, environment: dict[str, str]) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 3)
    with FaultServer(fault_rate=0, filtered=("number 7 ",)) as server:
        result = run_command(*_command(data, server, tmp_path / "out"), env=environment)
    assert_one_clear_error(result, 4, "1 of 3 dialogues failed", "withheld by the endpoint: ", "not allowed")


def test_no_key_and_no_server_is_a_prerequisite(tmp_path: Path, environment: dict[str, str]) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 2)
    del environment["OPENAI_API_KEY"]
    environment.pop("OPENAI_BASE_URL", None)
    result = run_command(
        "distill", "--data", data, "--method", "direct", "--teacher", "openai:gpt-4o",
        "--out", tmp_path / "out", env=environment,
    )  # fmt: skip
    assert_one_clear_error(result, 3, "OPENAI_API_KEY")


def test_file_teacher_replays_what_was_made_elsewhere(tmp_path: Path, environment: dict[str, str]) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 4)
    answers = [
        {
            "dialog_id": f"d{number}",
            "all_dimensions": f'Improved Response: "Number {number}, what a loss for you."',
            "sequential": f"In the end, number {number}.",
        }
        for number in range(3)
    ]
    write_jsonl(tmp_path / "answers.jsonl", answers)
    for strategy, expected in (
        ("all-dimensions", "Number 2, what a loss for you."),
        ("sequential", "In the end, number 2."),
    ):
        out = tmp_path / strategy
        result = run_command(
            "distill", "--data", data, "--method", "improve-human", "--strategy", strategy, "--teacher",
            f"file:{tmp_path / 'answers.jsonl'}", "--out", out, env=environment,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        (row,) = read_jsonl(out / "sft.jsonl")
        assert row["completion"][0]["content"] == expected
        assert {pair["rejected"][0]["content"] for pair in read_jsonl(out / "preference.jsonl")} == {
            "Buy a new boat."
        }
        manifest = json.loads((out / "manifest.json").read_text())
        assert manifest["results"]["dialogues"] == 3 and manifest["settings"]["prompts"]["sha256"]


def test_a_file_of_answers_finds_ids_with_spaces(tmp_path: Path, environment: dict[str, str]) -> None:
    data = write_rows(tmp_path / "dialogues.jsonl", dialogue_row(id="conv 12"))
    write_jsonl(tmp_path / "answers.jsonl", [{"dialog_id": "conv 12", "initial": "What a loss for you."}])
    result = run_command(
        "distill", "--data", data, "--method", "direct", "--teacher", f"file:{tmp_path / 'answers.jsonl'}",
        "--out", tmp_path / "out", env=environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (row,) = read_jsonl(tmp_path / "out" / "sft.jsonl")
    assert row["completion"][0]["content"] == "What a loss for you."


@pytest.mark.slow
def test_local_teacher_answers_in_process(tmp_path: Path, environment: dict[str, str]) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 4)
    result = run_command(
        "distill", "--data", data, "--method", "improve-llm", "--strategy", "naive", "--teacher",
        "local:smollm2-135m", "--words", "20", "--max-tokens", "400", "--out", tmp_path / "out",
        env=environment,
    )  # fmt: skip
    assert result.returncode in (0, 4) and "calls for 0.0000 USD" in result.stderr, result.stderr
    rows = read_jsonl(tmp_path / "out" / "responses.jsonl")
    failed = json.loads((tmp_path / "out" / "manifest.json").read_text())["results"]["failed"]
    assert len(rows) >= 1 and len(rows) + len(failed) == 4
    for row in rows:
        assert [step["step"] for step in row["steps"]] == ["initial", "naive"]
        assert row["reference"] == row["steps"][0]["text"]


@pytest.mark.slow
def test_a_local_answer_that_was_cut_off_is_no_answer(
    exported: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 3)
    result = run_command(
        "distill", "--data", data, "--method", "direct", "--teacher", f"local:{exported / 'gguf-f16'}",
        "--max-tokens", "20", "--out", tmp_path / "out", env=environment,
    )  # fmt: skip
    assert_one_clear_error(result, 4, "No call to local:gguf-f16", "cut off at 20 tokens")
    assert not (tmp_path / "out" / "responses.jsonl").exists()
