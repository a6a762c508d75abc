"""Every result says what comes next, and every command that reports gives its figures as JSON."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from empathy_edge.commands.json_output import give_json
from tests.commands.tree import all_commands, assert_reported, assert_says_next
from tests.conftest import CHECK_REPLIES, dialogue_row, run_command, write_rows

WITHOUT_FIGURES = {
    "": "a page",
    "report": "its page is the report, and report.md beside it",
    "chat": "a conversation",
    "phone": "each result is a JSON file in --out",
    "convert": "files",
    "baseline": "a file of JSON",
    "completion": "a script",
    "export bundle": "files",
    "bench device": "files",
    "bench ingest": "a profile",
    "judge sheet make": "files",
    "judge sheet certify": "files",
    "data": "a group",
    "bench": "a group",
    "judge": "a group",
    "judge sheet": "a group",
    "score": "a group",
}
"""The commands without --json, and what they give instead."""


def test_every_command_that_reports_has_json() -> None:
    for words, command in all_commands().items():
        names = {option for item in command.params for option in item.opts}
        assert ("--json" in names) != (words in WITHOUT_FIGURES), words


def both(*arguments: str | Path, kind: str, **options: object) -> tuple[dict[str, object], str]:
    """Run with `--json -`; returns the object, and stderr, where all else is."""
    result = run_command(*arguments, "--json", "-", **options)
    assert result.returncode in (0, 1, 3, 4), result.stderr
    found = assert_reported(result.stdout, kind)
    assert_says_next(result)
    return found, result.stderr


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "my data.jsonl", *(dialogue_row(id=f"d{number}") for number in range(12)))


def test_commands_that_look_up() -> None:
    found, _ = both("devices", kind="devices 1")
    assert isinstance(found["devices"], list) and len(found["devices"]) > 20
    found, shown = both("devices", "pixel-8", kind="devices 1")
    assert "Tensor G3" in shown and "--device pixel-8" in shown.splitlines()[-1]
    found, _ = both("ledger", kind="ledger 1")
    assert isinstance(found["spent"], list)
    found, shown = both("doctor", kind="doctor 1")
    assert {"name", "extra", "needed_for", "version"} == set(found["packages"][0])  # type: ignore[index]
    assert "Packages" in shown


def test_commands_about_data(data: Path, tmp_path: Path) -> None:
    found, shown = both("data", "inspect", data, kind="data inspect 1")
    assert found["counts"]["dialogues"] == 12  # type: ignore[index]
    assert f"Next: {found['next']}" in shown and "'" in str(found["next"])  # the name has a space
    rows = tmp_path / "my rows"
    made, shown = both(
        "distill", "--data", "sample", "--reference", "first-draft", "--model", "editor", "--out", rows,
        kind="distill 1",
    )  # fmt: skip
    assert made["sft_rows"] and f"finetune '{rows}'" in shown.splitlines()[-1]
    if find_spec("pyarrow"):
        converted = run_command("convert", rows, "--to", "parquet", "--out", tmp_path / "p")
        assert_says_next(converted, "train on them")


def test_commands_about_a_phone(exported: Path, tmp_path: Path) -> None:
    artifact = exported / "gguf-q8_0"
    predict = ("bench", "predict", "--device", "pixel-8", "--artifact", artifact)
    found, shown = both(*predict, kind="predict 1")
    assert found["predictions"][0]["device"] == "pixel-8"  # type: ignore[index]
    assert shown.splitlines()[-1].endswith(f"bench device termux {artifact} --out phone")
    made = run_command("bench", "device", "termux", artifact, "--out", tmp_path / "phone")
    assert_says_next(made, f"see {tmp_path / 'phone' / 'README.md'}")
    results = tmp_path / "results.csv"
    results.write_text("prefill_tps,decode_tps,threads\n120,20.5,6\n")
    of = ("--artifact", artifact, "--device", "pixel-8", "--out", tmp_path / "mine.yaml")
    assert_says_next(run_command("bench", "ingest", results, *of), "empathy-edge bench predict --device")


def test_bench_and_its_comparisons(exported: Path, tmp_path: Path) -> None:
    quick = ("--prompt-tokens", "16", "--decode-tokens", "8", "--threads", "1")
    found, _ = both("bench", exported / "gguf-q8_0", *quick, kind="bench 2")
    old = tmp_path / "old.json"
    old.write_text(json.dumps(found))
    compared, shown = both("bench", "compare", old, old, kind="bench compare 1")
    assert compared["differences"][0]["prefill_tps"]["value"] == 1  # type: ignore[index]
    assert shown.splitlines()[-1] == f"Next: empathy-edge bench ARTIFACT --baseline {old}"
    options = (*quick, "--baseline", old, "--tolerance", "0.9")
    assert_says_next(run_command("bench", exported / "gguf-q8_0", *options))
    again = run_command("bench", exported / "gguf-q8_0", *quick, "--json", old)
    assert again.returncode == 2 and "exists already" in again.stderr
    sustained = ("bench", "sustained", exported / "gguf-q8_0", "--minutes", "0.1", "--threads", "1")
    both(*sustained, kind="bench 2")


def test_check_and_baseline(exported: Path, tiny_model: Path, baseline_file: Path, tmp_path: Path) -> None:
    artifact = exported / "gguf-f16"
    found, shown = both("check", artifact, "--baseline", baseline_file, kind="check 1")
    assert "f16" in str(found["artifacts"]) and "PASS: " in shown
    assert shown.splitlines()[-1] == f"Next: empathy-edge export bundle {artifact} --out bundle"
    out = tmp_path / "b.json.gz"
    judge = ("--judge", f"likelihood:{artifact}")
    made = run_command("baseline", tiny_model, *CHECK_REPLIES, *judge, "--out", out)
    assert_says_next(made, f"empathy-edge check ARTIFACT --baseline {out}")


def test_export_and_bundles(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "my export"
    found, shown = both(
        "export", tiny_model, "--to", "gguf-q8_0", "--verify", "quick", "--out", out, kind="export 1"
    )
    assert found["verify"]["artifacts"][0]["artifact"] == "gguf-q8_0"  # type: ignore[index]
    assert found["verify"]["artifacts"][0]["greedy_same"] >= 0  # type: ignore[index]
    assert "conversion" in shown and "right" in shown and "PASS" not in shown and "greedy" not in shown
    expected = f"empathy-edge check '{out / 'gguf-q8_0'}' --reference {tiny_model}"
    assert shown.splitlines()[-1] == f"Next: {expected}"
    licence, bundle = tmp_path / "LICENSE", tmp_path / "bundle"
    licence.write_text("Do what you like.")
    options = ("--license", licence, "--out", bundle)
    made = run_command("export", "bundle", out / "gguf-q8_0", *options)
    assert_says_next(made, f"the steps for the app are in {bundle / 'README.md'}")
    found, _ = both("export", "check", bundle, kind="export check 1")
    assert found["faults"] == []
    (bundle / "README.md").write_text("changed")
    bad = run_command("export", "check", bundle, "--json", "-")
    assert bad.returncode == 1 and assert_reported(bad.stdout, "export check 1")["faults"]
    assert_says_next(bad, "do not use it")


def test_an_export_that_fails_says_what_next(tiny_model: Path, tmp_path: Path) -> None:
    """Four bits where eight were asked for are beyond the bounds of eight."""
    rough = ("--to", "gguf-q8_0", "--tensor-type", "token_embd=q4_0", "--out", tmp_path / "out")
    result = run_command("export", tiny_model, *rough, "--json", "-")
    assert result.returncode == 1, result.stderr
    assert "not the model that was exported" in result.stderr
    found = assert_reported(result.stdout, "export 1")
    assert found["verify"]["artifacts"][0]["verdict"] == "FAIL"  # type: ignore[index]
    assert_says_next(result, "do not ship what failed")


def test_responses_and_judges(data: Path, exported: Path, tmp_path: Path) -> None:
    respond = ("respond", exported / "gguf-q8_0", "--dialogues", data, "--max-new-tokens", "8")
    found, shown = both(*respond, "--out", tmp_path / "a.jsonl", kind="respond 1")
    assert found["figures"]["format"]["responses"] == 12  # type: ignore[index]
    assert f"judge compare {tmp_path / 'a.jsonl'} OTHER.jsonl" in shown.splitlines()[-1]
    other = ("respond", exported / "gguf-f16", *respond[2:], "--out", tmp_path / "b.jsonl")
    assert run_command(*other).returncode == 0
    sheet, answers = tmp_path / "sheet", tmp_path / "anna.csv"
    arms = (tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--dialogues", data)
    assert_says_next(run_command("judge", "sheet", "make", *arms, "--out", sheet), "send ")
    keys = list(json.loads((sheet / "keys.json").read_text())["keys"])
    answers.write_text("key,answer\n" + "".join(f"{key},0\n" for key in keys))
    read = ("judge", "sheet", "read", answers, "--sheet", sheet, "--out", tmp_path / "verdicts.jsonl")
    found, shown = both(*read, kind="judge sheet read 1")
    assert found["raters"] == {"anna": len(keys)} and "--judge file:" in shown.splitlines()[-1]
    judge = ("--judge", f"file:{tmp_path / 'verdicts.jsonl'}", "--out", tmp_path / "compared")
    found, shown = both("judge", "compare", *arms, *judge, kind="judge compare 1")
    assert found["first"] == "a" and "judge certify" in shown.splitlines()[-1]


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    give_json(tmp_path / "new" / "a.json", {"mean": float("nan"), "names": ("ä",)}, "respond")
    text = (tmp_path / "new" / "a.json").read_text()
    assert json.loads(text) == {"format": "empathy-edge respond 1", "mean": None, "names": ["ä"]}
    assert "ä" in text and [item.name for item in (tmp_path / "new").iterdir()] == ["a.json"]
