"""A large model as scorer: an endpoint on loopback, and answers made elsewhere."""

import json
import os
import sqlite3
from pathlib import Path

import pytest

pytest.importorskip("pandas")

from empathy_edge.judging import llm_ratings
from empathy_edge.judging.rated import balanced, read_rated
from tests.commands.tree import assert_reported, assert_says_next
from tests.conftest import assert_one_clear_error, run_command
from tests.judging.conftest import WARM
from tests.llm.fault_server import FaultServer


def warmth(said: str) -> int:
    """How the artificial endpoint rates a reply: 1 to 3 by its share of warm words."""
    words = said.rpartition("The reply: ")[2].split('"')[1].split()
    return max(1, min(3, round(3 * sum(word in WARM for word in words) / max(1, len(words)))))


def test_a_budget_stop_of_ratings_keeps_what_is_under_way(rated_csv: Path, tmp_path: Path) -> None:
    """The review's B1: five calls were paid, and none of them was in the ledger."""
    ledger = tmp_path / "ledger.sqlite"
    environment = {**os.environ, "EMPATHY_EDGE_LEDGER": str(ledger), "OPENAI_API_KEY": "sk-x"}
    with FaultServer(fault_rate=0, delay_s=0.3, answer=lambda said: "2") as server:
        command = ("score", "ask", rated_csv, "--teacher", "openai:gpt-test", "--base-url", server.url)
        limits = ("--max-responses", "12", "--max-calls", "5", "--out", tmp_path / "ratings.json")
        result = run_command(*command, *limits, env=environment)
        assert_one_clear_error(result, 4, "--max-calls 5", "5 of 12")
        with sqlite3.connect(ledger) as database:
            assert database.execute("SELECT COUNT(*) FROM answers").fetchone() == (5,)
        assert len(server.paid) == 5


@pytest.mark.slow
def test_a_model_is_asked_for_ratings(rated_csv: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "EMPATHY_EDGE_LEDGER": str(tmp_path / "ledger.sqlite"),
        "OPENAI_API_KEY": "k",
    }
    with FaultServer(fault_rate=0.2, answer=lambda said: str(warmth(said))) as server:
        command = ("score", "ask", rated_csv, "--teacher", "openai:gpt-test", "--base-url", server.url)
        ask = (*command, "--max-responses", "60", "--json", "-")
        result = run_command(*ask, "--out", tmp_path / "a.json", env=environment)
        assert result.returncode == 0, result.stderr
        assert assert_reported(result.stdout, "score ask 1")["responses"] == 60
        assert_says_next(result, "empathy-edge score study")
        found = json.loads((tmp_path / "a.json").read_text())
        assert found["accuracy"]["mean"] > 60 and found["unparsed"] == 0 and found["responses"] == 60
        before = server.requests
        again = run_command(*command, "--max-responses", "60", "--out", tmp_path / "b.json", env=environment)
        assert again.returncode == 0 and server.requests == before
        assert_one_clear_error(
            run_command(*command, "--out", tmp_path / "a.json", env=environment),
            2,
            "exists already",
            "Nothing was asked",
        )
    with FaultServer(fault_rate=0.0, answer=lambda said: "It is quite empathetic: 3") as server:
        command = ("score", "ask", rated_csv, "--teacher", "openai:gpt-prose", "--base-url", server.url)
        run_command(*command, "--max-responses", "5", "--out", tmp_path / "c.json", env=environment)
        found = json.loads((tmp_path / "c.json").read_text())
        assert found["unparsed"] == 5 and found["accuracy"]["mean"] == 0 and server.requests == 15


def test_answers_made_elsewhere_are_read_from_a_file(rated_csv: Path, tmp_path: Path) -> None:
    names = llm_ratings.SUBFACTORS[2]
    chosen = balanced(read_rated(rated_csv))
    rows = [
        {
            "dialog_id": row.unified_dialog_id,
            "naive": str(row.rating),
            "explicit": json.dumps(dict.fromkeys(names, 3 * row.rating)),
        }
        for row in chosen.itertuples()
    ]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    environment = {**os.environ, "EMPATHY_EDGE_LEDGER": str(tmp_path / "ledger.sqlite")}
    given = (rated_csv, "--teacher", f"file:{answers}", "--out")
    asked = run_command("score", "ask", *given, tmp_path / "ratings.json", env=environment)
    assert asked.returncode == 0, asked.stderr
    found = json.loads((tmp_path / "ratings.json").read_text())
    assert found["accuracy"]["mean"] == 100 and found["responses"] == len(rows)
    scored = run_command("score", "subfactors", *given, tmp_path / "factors.json", env=environment)
    assert scored.returncode == 0, scored.stderr
    factors = {row["id"]: row["scores"] for row in json.loads((tmp_path / "factors.json").read_text())}
    assert factors[rows[0]["dialog_id"]] == dict.fromkeys(names, 3 * int(rows[0]["naive"]))
    other = run_command(
        "score", "ask", *given, tmp_path / "b.json", "--prompt", "dimensions", env=environment
    )
    assert other.returncode != 0 and "has no 'dimensions'" in other.stderr


@pytest.mark.slow
def test_subfactors_are_asked_for_and_studied(rated_csv: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "EMPATHY_EDGE_LEDGER": str(tmp_path / "ledger.sqlite"),
        "OPENAI_API_KEY": "k",
    }

    def answer(said: str) -> str:
        scores = {name: 3 * warmth(said) for name in llm_ratings.SUBFACTORS[2]}
        return f"Here you are: {json.dumps(scores)}"

    with FaultServer(fault_rate=0.0, answer=answer) as server:
        command = ("score", "subfactors", rated_csv, "--teacher", "openai:gpt-test", "--base-url", server.url)
        given = ("--json", "-", "--out", tmp_path / "factors.json")
        result = run_command(*command, *given, env=environment)
    assert result.returncode == 0, result.stderr
    assert assert_reported(result.stdout, "score subfactors 1")["subfactors"]
    assert_says_next(result, "empathy-edge score study")
    schemas = [given["json_schema"]["schema"] for given in server.formats if given]
    assert len(schemas) == server.requests and all(
        set(one["required"]) == {*llm_ratings.SUBFACTORS[2]} for one in schemas
    )
    out = tmp_path / "study"
    given = ("--subfactors", tmp_path / "factors.json", "--json", tmp_path / "study.json")
    result = run_command("score", "study", rated_csv, *given, "--out", out)
    assert result.returncode == 0, result.stderr
    assert assert_reported(tmp_path / "study.json", "score study 1")["rows"]
    assert_says_next(result, "empathy-edge score train")
    rows = {
        (row["features"], row["classifier"]): row
        for row in json.loads((out / "study.json").read_text())["rows"]
    }
    assert rows["subfactors", "lr"]["grouped"]["mean"] > 60 > rows["source", "majority"]["grouped"]["mean"]
    assert (
        rows["words", "lr"]["responses"] == rows["subfactors", "lr"]["responses"]
        and ("miti", "lr") not in rows
    )
    assert "| words | lr |" in (out / "study.md").read_text()


@pytest.mark.slow
def test_an_endpoint_without_structured_output_is_asked_without(rated_csv: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "EMPATHY_EDGE_LEDGER": str(tmp_path / "ledger.sqlite"),
        "OPENAI_API_KEY": "k",
    }
    answer = json.dumps(dict.fromkeys(llm_ratings.SUBFACTORS[1], 7))
    with FaultServer(fault_rate=0.0, answer=lambda said: answer, structured=False) as server:
        command = ("score", "subfactors", rated_csv, "--teacher", "openai:gpt-test", "--base-url", server.url)
        options = ("--version", "1", "--max-responses", "20", "--parallel", "1")
        result = run_command(*command, *options, "--out", tmp_path / "factors.json", env=environment)
    assert result.returncode == 0 and "20 of 20 responses" in result.stderr, result.stderr
    assert "refuses 'response_format'" in result.stderr
    assert server.requests == 21 and [given is not None for given in server.formats] == [True] + 20 * [False]


@pytest.mark.parametrize(
    "text",
    [
        "none",
        '{"encouragement": 5}',
        "[1, 2]",
        json.dumps(dict.fromkeys(llm_ratings.SUBFACTORS[2], 11)),
    ],
)
def test_scores_that_are_not_all_there_are_none(text: str) -> None:
    assert llm_ratings.read_subfactors(text, llm_ratings.SUBFACTORS[2]) is None
    assert all(len(set(factors)) == 15 for factors in llm_ratings.SUBFACTORS.values())
