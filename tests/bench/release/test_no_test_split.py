"""Data without a test split and without ratings: the fine-tuned model is compared with its base even so."""

import json
import shlex
from pathlib import Path

import pytest

from empathy_edge.bench.release.results import ReleaseResults
from empathy_edge.bench.release.shipped_prompts import shipped_prompts
from empathy_edge.formats.json_lines import read_jsonl
from tests.commands.tree import assert_says_next
from tests.conftest import assert_one_clear_error, run_command, write_rows

SHORT = ("--max-new-tokens", "8")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `distill` makes of dialogues with good replies, no ratings and no split."""
    folder = tmp_path_factory.mktemp("own")
    things = ("bike", "car", "phone")
    said = ({"message": f"Somebody stole my {x}.", "reply": f"Losing your {x} must hurt."} for x in things)
    made = run_command("distill", "--data", write_rows(folder / "my.jsonl", *said), "--out", folder / "rows")
    assert made.returncode == 0, made.stderr
    assert "No test split in the data" in made.stderr and "field `split`" in made.stderr
    return folder / "rows"


def test_rows_without_a_test_split(tiny_model: Path, rows: Path, exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "released"
    command = ("release", exported / "gguf-q8_0", "--base", tiny_model, "--rows", rows, *SHORT, "--out", out)
    result = run_command(*command)
    assert result.returncode == 4, result.stderr
    assert "No test split: 32 shipped prompts of `check`" in result.stderr
    assert "Responses to 32 shipped prompts" in result.stdout and "Win rate" not in result.stdout
    assert "Before and after fine-tuning: replies to 4 of 32 prompts" in result.stdout
    assert "there are no preference pairs for a judge to learn from" in result.stdout
    assert "(`judge sheet make`)" in result.stdout
    written = json.loads((out / "release.json").read_text())
    found = ReleaseResults.model_validate(written)
    assert found.verdict == "UNDECIDED" and found.prompts == 32 and not found.win_rates
    assert set(found.format) == {"base", "fine-tuned"} and found.shipped_prompts
    assert len({row["emotion"] for row in read_jsonl(out / "prompts.jsonl")}) == 32
    assert run_command(*command).stdout == result.stdout, "a finished release shows the same again"

    assert_says_next(result, "empathy-edge judge sheet make")
    following = shlex.split(result.stderr.rstrip().splitlines()[-1].removeprefix("Next: empathy-edge "))
    sheet = run_command(*following, cwd=tmp_path)
    assert sheet.returncode == 0, sheet.stderr
    assert (tmp_path / "sheet" / "sheet.html").is_file()


def test_no_rows_and_a_judge(tiny_model: Path, exported: Path, tmp_path: Path) -> None:
    judge = ("--judge", f"local:{exported / 'gguf-f16'}", "--max-prompts", "3")
    model = (exported / "gguf-q8_0", "--base", tiny_model, *SHORT)
    result = run_command("release", *model, *judge, "--out", tmp_path / "released", "--json", "-")
    assert result.returncode in (1, 4), result.stderr
    written = json.loads(result.stdout)["results"]
    assert written["prompts"] == 3 and [row["second"] for row in written["win_rates"]] == ["base"]
    assert "known" not in written["format"]
    assert len(read_jsonl(tmp_path / "released" / "prompts.jsonl")) == 3


def test_a_test_split_without_pairs(tiny_model: Path, exported: Path, rows: Path, tmp_path: Path) -> None:
    """The data's own prompts are answered; what the judge would learn from is missing."""
    kept = tmp_path / "rows"
    kept.mkdir()
    (kept / "sft.jsonl").write_bytes((rows / "sft.jsonl").read_bytes())
    (kept / "preference.jsonl").touch()
    said = ({"id": f"t{place}", "utterance": f"My {x} was stolen."} for place, x in enumerate(("car", "bag")))
    test = write_rows(kept / "test.jsonl", *said)
    out = tmp_path / "released"
    model = (exported / "gguf-q8_0", "--base", tiny_model, "--rows", kept, *SHORT)
    result = run_command("release", *model, "--out", out)
    assert result.returncode == 4, result.stderr
    assert "Responses to 2 test prompts" in result.stdout and "replies to 2 of 2 prompts" in result.stdout
    assert "shipped" not in result.stderr and not (out / "prompts.jsonl").exists()
    assert f"--dialogues {test}" in result.stderr


def test_a_folder_without_rows_is_refused(tiny_model: Path, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    command = ("release", exported / "gguf-q8_0", "--base", tiny_model, "--out", tmp_path / "released")
    refused = run_command(*command, "--rows", tmp_path / "empty")
    assert_one_clear_error(refused, 2, "has no rows", "distill")
    assert_one_clear_error(run_command(*command, "--rows", tmp_path / "rosw"), 2, "no such folder")


def test_shipped_prompts_are_spread_over_emotions() -> None:
    first, more = shipped_prompts(32), shipped_prompts(100)
    assert len({item.emotion for item in first}) == 32 and more[:32] == first
    assert len(more) == len({item.id for item in more}) == 100
    assert len(shipped_prompts(9999)) == 640
