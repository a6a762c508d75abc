"""A price table of the user's own: whatever has a limit in USD takes it, and an estimate is called one."""

import json
import os
import re
from pathlib import Path

import click
import pytest

from empathy_edge.llm.api_settings import ApiSettings
from tests.commands.tree import all_commands
from tests.conftest import assert_one_clear_error, run_command
from tests.llm.fault_server import FaultServer
from tests.llm.test_teachers import _dialogues

COMMANDS = all_commands()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "EMPATHY_EDGE_LEDGER": str(tmp_path / "ledger.sqlite"), "OPENAI_API_KEY": "sk-x"}


def _prices(file: Path, usd_per_million: float) -> Path:
    file.write_text(f"gpt-test: [{usd_per_million}, {usd_per_million}]\n")
    return file


def _options(command: click.Command) -> set[str]:
    options: set[str] = set()
    for parameter in command.get_params(click.Context(command)):
        options.update(parameter.opts)
    return options


def test_each_command_with_a_limit_in_usd_takes_prices() -> None:
    """`judge`, `check`, `score` and others refused a model that is not in the table, and took no table."""
    with_limit = {words for words, command in COMMANDS.items() if "--max-cost" in _options(command)}
    with_prices = {words for words, command in COMMANDS.items() if "--prices" in _options(command)}
    assert {"distill", "own-pairs", "judge compare", "score ask", "check", "release"} <= with_limit
    assert with_prices == with_limit
    assert ApiSettings(prices=Path("prices.yaml"), max_cost=1.0).prices == Path("prices.yaml")


@pytest.mark.slow
def test_prices_of_the_user_count_for_a_judge(tmp_path: Path, environment: dict[str, str]) -> None:
    data = _dialogues(tmp_path / "dialogues.jsonl", 4)
    for arm in ("a", "b"):
        rows = [json.dumps({"id": f"d{number}", "text": f"{arm} {number}"}) for number in range(4)]
        (tmp_path / f"{arm}.jsonl").write_text("\n".join(rows))
    with FaultServer(fault_rate=0, answer=lambda said: "1") as server:
        command = (
            "judge", "compare", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--dialogues", data,
            "--judge", "openai:gpt-test", "--base-url", server.url, "--max-cost", "1",
        )  # fmt: skip
        result = run_command(*command, "--out", tmp_path / "out", env=environment)
        assert_one_clear_error(result, 2, "--prices FILE")
        dear = _prices(tmp_path / "dear.yaml", 1e6)
        result = run_command(*command, "--prices", dear, "--out", tmp_path / "out", env=environment)
        assert_one_clear_error(result, 4, "--max-cost 1.0")
        assert server.requests == 0
        cheap = _prices(tmp_path / "cheap.yaml", 0.1)
        result = run_command(*command, "--prices", cheap, "--out", tmp_path / "out", env=environment)
        assert result.returncode == 0 and len(server.paid) == 8, result.stderr


@pytest.mark.slow
def test_a_dry_run_says_about_what_it_would_cost(tmp_path: Path, environment: dict[str, str]) -> None:
    """It said `at most about`; the length of an answer that nobody has is guessed."""
    data = _dialogues(tmp_path / "dialogues.jsonl", 3)
    prices = _prices(tmp_path / "prices.yaml", 1000)
    command = ("distill", "--data", data, "--method", "direct", "--teacher", "openai:gpt-test", "--dry-run")
    result = run_command(*command, "--prices", prices, "--out", tmp_path / "out", env=environment)
    assert result.returncode == 0, result.stderr
    said = " ".join(result.stderr.split())
    assert re.search(r"3 calls, about \d+ prompt tokens and \d+ completion tokens, about \d\.\d\d USD", said)
    assert "at most" not in said
