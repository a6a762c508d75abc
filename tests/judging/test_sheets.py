"""Sheets: blind, the same for a person and a spreadsheet, read back, and certified raters."""

import csv
import json
from pathlib import Path

import pytest

from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.judging.judge_settings import SheetSettings
from empathy_edge.judging.response_pairs import ResponsePairs
from empathy_edge.judging.sheet import make_pairs
from tests.conftest import assert_one_clear_error, dialogue_row, run_command, write_rows


def test_sheets_are_blind_and_come_back(arms: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first, second, dialogues = arms
    common = ("--dialogues", dialogues, "--question", "cognitive")
    result = run_command(
        "judge", "sheet", "make", first, second, *common, "--max-prompts", "60", "--out", tmp_path / "s"
    )
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "s/sheet.html").read_text()
    assert "http" not in page, "nothing is fetched"
    assert "a.jsonl" not in page and "d17" not in page, "no arm, no id"
    rows = list(csv.DictReader((tmp_path / "s/sheet.csv").read_text().splitlines()))
    assert len(rows) == 60
    assert set(rows[0]) == {"key", "situation", "utterance", "reply_1", "reply_2", "answer"}
    ours = {row["text"] for row in read_jsonl(first)}
    assert 15 < sum(row["reply_1"] in ours for row in rows) < 45  # the order is drawn
    for name, wrong in (("anna", 0), ("ben", 6)):
        with open(tmp_path / f"{name}.csv", "w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["key", "answer"])
            for number, row in enumerate(rows):
                right = "1" if "good" in row["reply_1"] else "2"
                writer.writerow([row["key"], {"1": "2", "2": "1"}[right] if number < wrong else right])
    files = (tmp_path / "anna.csv", tmp_path / "ben.csv")
    arguments = ("--sheet", tmp_path / "s", "--out", tmp_path / "verdicts.jsonl")
    result = run_command("judge", "sheet", "read", *files, *arguments)
    assert result.returncode == 0 and "Krippendorff's alpha 0." in result.stdout
    verdicts = read_jsonl(tmp_path / "verdicts.jsonl")
    assert len(verdicts) == 120 and sum(row["verdict"] == "tie" for row in verdicts) == 12
    judge = f"file:{tmp_path / 'verdicts.jsonl'}"
    result = run_command(
        "judge", "compare", first, second, *common, "--judge", judge, "--out", tmp_path / "c"
    )
    assert result.returncode == 0 and "is about 60 of 120 dialogues" in result.stderr, result.stderr
    found = json.loads((tmp_path / "c/compared.json").read_text())["judges"][0]["questions"]["cognitive"]
    assert found["ties"] == 6 and found["win_rate"]["n"] == 60
    assert found["order_flips"] is None, "nobody saw a pair in both orders"
    assert found["first_position_wins"]["n"] == 54, "verdicts that are mirrored tell nothing of the order"
    write_rows(tmp_path / "other.jsonl", *(row | {"text": "else"} for row in read_jsonl(first)))
    result = run_command(
        "judge",
        "compare",
        tmp_path / "other.jsonl",
        second,
        *common,
        "--judge",
        judge,
        "--out",
        tmp_path / "d",
    )
    assert_one_clear_error(result, 2, "pairs are not in it", "texts or question are others")
    (tmp_path / "anna.csv").write_text("key,answer\nxyz,1\n")
    result = run_command("judge", "sheet", "read", *files, *arguments[:-1], tmp_path / "no.jsonl")
    assert_one_clear_error(result, 2, "line 2: the key 'xyz' is not in this sheet")


@pytest.mark.slow
def test_raters_are_certified_and_judge_other_sheets(arms: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """A rater of single replies is certified; the certificate is valid for that rater's other sheets."""
    first, second, dialogues = arms
    rated = []
    for number in range(60):
        responses = [
            {
                "source": f"x{rating}",
                "text": f"reply {number} {'good' if rating == 3 else 'poor'}",
                "rating": rating,
            }
            for rating in (3, 1)
        ]
        rated.append(dialogue_row(id=f"r{number}", utterance=f"Other {number}.", responses=responses))
    data = write_rows(tmp_path / "rated.jsonl", *rated)

    def answered(command: tuple[object, ...], name: str, rows: int, rater: str) -> Path:
        result = run_command("judge", "sheet", *command, "--alone", "--out", tmp_path / name)
        assert result.returncode == 0, result.stderr
        shown = list(csv.DictReader((tmp_path / name / "sheet.csv").read_text().splitlines()))
        assert len(shown) == rows and set(shown[0]) == {"key", "situation", "utterance", "reply", "answer"}
        answers = tmp_path / name / f"{rater}.csv"
        with open(answers, "w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["key", "answer"])
            writer.writerows((row["key"], "7" if "good" in row["reply"] else "3") for row in shown)
        out = tmp_path / f"{name}-{rater}.jsonl"
        result = run_command("judge", "sheet", "read", answers, "--sheet", tmp_path / name, "--out", out)
        assert result.returncode == 0, result.stderr
        return out

    learned = answered(("certify", "--data", data), "by", 120, "anna")
    result = run_command(
        "judge", "certify", f"ratings:{learned}", "--data", data, "--out", tmp_path / "certified"
    )
    assert result.returncode == 0 and "raters:anna:alone" in result.stdout, result.stderr
    judged = answered(
        ("make", first, second, first, "--dialogues", dialogues, "--max-prompts", "50"), "gate", 100, "anna"
    )
    command = ("judge", "compare", first, second, "--dialogues", dialogues, "--judge", f"ratings:{judged}")
    certificate = ("--certificate", tmp_path / "certified/certificate.json")
    result = run_command(*command, *certificate, "--out", tmp_path / "compared")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "compared/compared.json").read_text())["judges"][0]
    item = found["questions"]["overall"]
    assert found["prompts"] == 50 and item["judge"]["certified"]
    assert item["ties"] == 0 and item["order_flips"] == 0
    other = answered(
        ("make", first, second, "--dialogues", dialogues, "--max-prompts", "50"), "again", 100, "ben"
    )
    command = ("judge", "compare", first, second, "--dialogues", dialogues, "--judge", f"ratings:{other}")
    assert_one_clear_error(
        run_command(*command, *certificate, "--out", tmp_path / "no"), 2, "is of another judge"
    )
    result = run_command(
        "judge", "compare", second, first, *command[4:], "--question", "cognitive", "--out", tmp_path / "no2"
    )
    assert_one_clear_error(result, 2, "replies are not in it")


def test_pairs_in_both_orders_tell_of_flips(arms: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first, second, dialogues = arms
    common = ("--dialogues", dialogues, "--max-prompts", "50", "--both-orders", "--out", tmp_path / "s")
    assert run_command("judge", "sheet", "make", first, second, *common).returncode == 0
    shown = list(csv.DictReader((tmp_path / "s/sheet.csv").read_text().splitlines()))
    assert len(shown) == 100 and len({row["key"] for row in shown[:50]}) == 50
    with open(tmp_path / "anna.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["key", "answer"])
        writer.writerows((row["key"], "1") for row in shown)  # whatever is shown first
    out = tmp_path / "verdicts.jsonl"
    read = ("judge", "sheet", "read", tmp_path / "anna.csv", "--sheet", tmp_path / "s", "--out", out)
    assert run_command(*read).returncode == 0
    judge = ("--judge", f"file:{out}", "--out", tmp_path / "c")
    assert run_command("judge", "compare", first, second, "--dialogues", dialogues, *judge).returncode == 0
    item = json.loads((tmp_path / "c/compared.json").read_text())["judges"][0]["questions"]["overall"]
    assert item["order_flips"] == 1.0 and item["first_position_wins"]["share"] == 1.0


def test_a_hostile_reply_stays_text_in_the_sheet(arms: tuple[Path, Path, Path], tmp_path: Path) -> None:
    hostile = {"d0": {"text": "</script><script>alert(1)</script>"}}
    formula = {"d0": {"text": "=HYPERLINK(1)"}}
    pairs = ResponsePairs(read_dialogues(arms[2]), hostile, formula)
    make_pairs(pairs, SheetSettings(), tmp_path / "s")
    assert "<script>alert" not in (tmp_path / "s/sheet.html").read_text()
    row = next(csv.DictReader((tmp_path / "s/sheet.csv").read_text().splitlines()))
    assert "'=HYPERLINK(1)" in (row["reply_1"], row["reply_2"])
