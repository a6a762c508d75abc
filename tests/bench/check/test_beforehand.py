"""What a check says before its work: what these settings can decide, and how much work comes."""

from pathlib import Path

import pytest

from empathy_edge.bench.check.beforehand import what_can_pass, work_of_the_reference
from tests.commands.tree import assert_says_next
from tests.conftest import run_command


def test_limits_and_work_are_said_before_anything_is_drawn(
    tiny_model: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    result = run_command(
        "check", exported / "gguf-f16", "--reference", tiny_model,
        "--max-prompts", "8", "--max-new-tokens", "8", "--samples", "2",
    )  # fmt: skip
    assert result.returncode == 4, result.stderr
    said = " ".join(result.stderr.split())
    expected = (
        "With 8 prompts nothing can pass, it takes at least 64",
        "With 64 or more, only artifacts nearly identical to the reference can pass (F16, BF16): "
        "the judge likelihood:smollm2-135m is not certified",
        "(the reference as an F16 GGUF, on which its replies are drawn)",
        "First 24 replies of the reference (3 to each prompt); they are kept for later checks.",
        "replies: 16 sampled replies",
    )
    places = [said.find(text) for text in expected]
    assert -1 not in places and places == sorted(places), result.stderr
    again = f"empathy-edge check {exported / 'gguf-f16'} --reference {tiny_model} --max-prompts 96"
    assert_says_next(result, again)
    assert "--max-new-tokens 8" in result.stderr.splitlines()[-1]


def test_a_baseline_says_what_it_cannot_decide(baseline_file: Path, exported: Path) -> None:
    result = run_command("check", exported / "gguf-f16", "--baseline", baseline_file)
    said = " ".join(result.stderr.split())
    assert result.returncode == 0 and "Only artifacts nearly identical to the reference can pass" in said


def test_nothing_is_said_where_everything_can_pass() -> None:
    assert what_can_pass(64, "sheet:r.csv", ()) == what_can_pass(640, "openai:m", None) == []


@pytest.mark.parametrize(
    ("prompts", "command", "shorter"),
    [
        (640, "check", "`check --max-prompts 96` needs 480"),
        (640, "baseline", "`baseline --max-prompts 96` needs 480"),
        (640, "", ""),
        (96, "check", ""),
        (8, "check", ""),
    ],
)
def test_the_work_names_the_option_that_makes_it_shorter(prompts: int, command: str, shorter: str) -> None:
    said = work_of_the_reference(prompts, 5, command)
    assert f"First {prompts * 5} replies" in said and shorter in said
    assert ("--max-prompts" in said) is bool(shorter)
