"""Ratings by people: a sheet that the command writes, somebody fills in, and the command reads."""

import csv
from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path

import pytest

from empathy_edge.bench.check.baseline.record import read_baseline
from empathy_edge.bench.check.certificate import CERTIFICATE_PAIRS, ReadPair, read_pairs
from empathy_edge.bench.check.report import CheckReport
from empathy_edge.bench.check.stage import run as run_stage
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.judging.raters.rater import ToRate
from empathy_edge.judging.raters.sheet_rater import RatingsMissing, SheetRater
from empathy_edge.runs.settings import CheckStageSettings
from tests.conftest import CHECK_REPLIES, run_command

HELLO = ToRate([{"role": "user", "content": "My dog died."}], ["=HYPERLINK(1)", "I am sorry.", "Fine."])
BYE = ToRate([{"role": "user", "content": "I moved\nto Rome."}], ["How was it?", "I am sorry."])


def fill(file: Path, rate: Callable[[str, str], float]) -> int:
    """Rate what has no rating yet, by conversation and reply; how many that are."""
    with file.open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    empty = [row for row in rows if not row["rating"]]
    for row in empty:
        row["rating"] = f"{rate(row['conversation'], row['reply'].removeprefix(chr(39))):g}"
    with file.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return len(empty)


def test_a_sheet_is_written_filled_in_and_read(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    with pytest.raises(RatingsMissing, match="the sheet is written; its 5 replies have no rating"):
        SheetRater(file, [BYE]).prepare([HELLO])
    assert ",'=HYPERLINK(1)," in file.read_text() and "user: My dog died." in file.read_text()
    assert fill(file, lambda _, reply: len(reply)) == 5
    rater = SheetRater(file, [BYE])
    assert rater.rate_many([HELLO, BYE]) == [[13, 11, 5], [11, 11]]
    assert rater.rate_many([HELLO._replace(replies=["Fine.", "Fine.", "=HYPERLINK(1)", "I am sorry."])]) == [
        [5, 5, 13, 11]
    ]
    more = HELLO._replace(replies=["I am sorry.", "So sad."])  # the same reply beside others is another row
    with pytest.raises(RatingsMissing, match="the sheet is not full yet: 2 replies"):
        rater.rate_many([HELLO, more])
    assert fill(file, lambda *_: 7) == 2
    again = SheetRater(file, [BYE])
    assert again.rate_many([more, BYE]) == [[7, 7], [11, 11]] and again.identity == rater.identity


def test_a_sheet_that_a_spreadsheet_saved_is_the_same(tmp_path: Path) -> None:
    """Semicolons, decimal commas, another way to write a number, a column of notes, a line that was lost."""
    file = tmp_path / "ratings.csv"
    with pytest.raises(RatingsMissing):
        SheetRater(file, [BYE]).prepare([HELLO])
    assert file.read_bytes().startswith(BOM_UTF8)
    fill(file, lambda _, reply: len(reply) + 0.5)
    first = SheetRater(file, [BYE])
    with file.open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert all(row["key"].startswith("r") and row["conversation"] for row in rows)
    for row in rows:
        row |= {"rating": f"+{row['rating'].replace('.', ',')}0", "notes": "hm"}
    lost = next(row for row in rows if row["reply"] == "Fine.")
    with file.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(row for row in rows if row is not lost)
    again = SheetRater(file, [BYE])
    assert again.identity == first.identity and again.rate_many([BYE]) == first.rate_many([BYE])
    with pytest.raises(RatingsMissing, match="1 replies"):
        again.rate_many([HELLO])
    with file.open(encoding="utf-8-sig", newline="") as handle:
        kept = list(csv.DictReader(handle))
    assert kept[-1]["conversation"] == "user: My dog died." and kept[-1]["reply"] == "Fine."
    assert kept[0]["notes"] == "hm" and SheetRater(file, [BYE]).identity == first.identity


def test_ratings_that_are_saved_while_a_command_runs_are_kept(tmp_path: Path) -> None:
    """Rows are added to the file as it is now; its ratings of the certificate are those that count."""
    file = tmp_path / "ratings.csv"
    with pytest.raises(RatingsMissing):
        SheetRater(file, [BYE]).prepare([])
    rater = SheetRater(file, [BYE])
    before = rater.identity
    assert fill(file, lambda _, reply: len(reply)) == 2
    written = file.read_text(encoding="utf-8-sig").splitlines()
    file.write_text("\n".join([written[0] + ",notes", *written[1:]]).replace("sorry.,11,", "sorry.,12,"))
    with pytest.raises(RatingsMissing, match="the sheet is not full yet: 3 replies"):
        rater.prepare([HELLO])
    with file.open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["reply"]: row["rating"] for row in rows[:2]} == {"How was it?": "11", "I am sorry.": "12"}
    assert [row["rating"] for row in rows[2:]] == ["", "", ""] and "notes" in rows[0]
    assert rater.rate_many([BYE]) == [[11, 12]]
    assert rater.identity == SheetRater(file, [BYE]).identity != before


def test_rows_that_a_second_command_added_are_read(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    first, second = SheetRater(file, [BYE]), SheetRater(file, [BYE])
    with pytest.raises(RatingsMissing, match="the sheet is written"):
        first.prepare([])
    fill(file, lambda *_: 7)
    saved = file.read_bytes()
    second.prepare([])
    assert second.rate_many([BYE]) == [[7, 7]] and file.read_bytes() == saved


def test_rows_that_are_lost_while_a_command_runs_are_written_again(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    with pytest.raises(RatingsMissing):
        SheetRater(file, [BYE]).prepare([])
    fill(file, lambda *_: 7)
    rater = SheetRater(file, [BYE])
    file.unlink()
    with pytest.raises(RatingsMissing, match="the sheet is not full yet: 3 replies"):
        rater.prepare([HELLO])
    assert SheetRater(file, [BYE]).rate_many([BYE]) == [[7, 7]]


def test_a_sheet_that_is_none_any_more_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    rater = SheetRater(file, [BYE])
    for content in ("name,phone\n", "conversation,reply,rating,key\nuser: Hi.,Hello.,good,k1\n"):
        file.write_text(content)
        with pytest.raises(EmpathyEdgeError, match=r"no sheet of ratings|the rating 'good'"):
            rater.prepare([HELLO])
        assert file.read_text() == content


@pytest.mark.parametrize("content", ["", "\ufeff", "\n", "conversation,reply,rating,key\n"])
def test_an_empty_file_is_a_new_sheet(content: str, tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(RatingsMissing, match="the sheet is written; its 2 replies"):
        SheetRater(file, [BYE]).prepare([])


def test_empty_lines_and_cells_of_a_spreadsheet_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    with pytest.raises(RatingsMissing):
        SheetRater(file, [BYE]).prepare([])
    fill(file, lambda *_: 7)
    with file.open(encoding="utf-8-sig", newline="") as handle:
        header, *rows = csv.reader(handle)
    with file.open("w", encoding="utf-8", newline="") as handle:
        padded = [[*header, "notes", "", ""], [*rows[0], "", "", ""], [*rows[1], "hm"], [""] * 7, [" "] * 7]
        csv.writer(handle).writerows(padded)
        handle.write(",,,\n\n")
    assert SheetRater(file, [BYE]).rate_many([BYE]) == [[7, 7]]


def test_other_raters_are_another_judge(tmp_path: Path) -> None:
    identities = set()
    for number in (1, 2):
        file = tmp_path / f"{number}.csv"
        with pytest.raises(RatingsMissing):
            SheetRater(file, [BYE]).prepare([])
        fill(file, lambda _, reply, by=number: len(reply) * by)
        identities.add(SheetRater(file, [BYE]).identity)
    assert len(identities) == 2


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("conversation,reply,rating,key\nuser: Hi.,Hello.,very good,k1\n", "line 2: the rating 'very good'"),
        ("conversation,reply,rating,key\nuser: Hi.,Hello.,101,k1\n", "line 2: the rating '101'"),
        ("conversation,reply,rating,key\nuser: Hi.,Hello.,nan,k1\n", "line 2: the rating 'nan'"),
        ("conversation,reply\nuser: Hi.,Hello.\n", "line 1: is no sheet .* no column rating and no key"),
        ("name,phone\n", "line 1: is no sheet of ratings"),
        ("What I have to buy\n", "line 1: is no sheet of ratings"),
        ("conversation,reply,rating,rating,key\na,b,1,,k1\n", "line 1: the column 'rating' is there twice"),
        ("key,conversation,reply,rating,key\n", "line 1: the column 'key' is there twice"),
        ("conversation,reply,rating,key,hm,hm\n", "line 1: the column 'hm' is there twice"),
        ("conversation,reply,rating,key,,\na,b,1,k1,one,\n", "line 2: has text in a column without a name"),
        ("conversation,reply,rating,key\na,b,c,1,k1\n", "line 2: has text in a column without a name"),
        ("conversation,reply,rating,key\na,b,1,\n", "line 2: the cell `key` is empty"),
        ("conversation,reply,rating,key\na,b\n", "line 2: the cell `key` is empty"),
        ("conversation,reply,rating,key\na,b,1,k1\na,b,2,k1\n", "line 3: this reply is in line 2, too"),
        ("conversation,reply,rating,key\na,b,\x1b[31m,k1\n", r"line 2: the rating '\\x1b\[31m'"),
        ('conversation,reply,rating,key\n"user: Hi.,Hello.\n', "not readable as CSV"),
    ],
)
def test_a_wrong_sheet_names_the_line(content: str, found: str, tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text(content)
    with pytest.raises(EmpathyEdgeError, match=rf"ratings\.csv: {found}"):
        SheetRater(file, [])
    assert file.read_text() == content
    with pytest.raises(EmpathyEdgeError, match=r"is a \.csv file"):
        SheetRater(tmp_path / "ratings.xlsx", [])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def like_the_readers(cache: Path) -> Callable[[str, str], float]:
    """Ratings that prefer what most readers prefer, and the reference's replies to every other one."""
    assert len(read_pairs()) == CERTIFICATE_PAIRS
    liked = {(pair.messages[-1]["content"], preferred_text(pair)) for pair in read_pairs()}
    (kept,) = (cache / "replies").glob("*.jsonl")
    for record in read_jsonl(kept):
        liked |= {(record["messages"][-1]["content"], reply["text"]) for reply in record["replies"]}

    def rate(conversation: str, reply: str) -> float:
        own = any(conversation.endswith(said) and reply == text for said, text in liked)
        return len(reply) % 10 + 80 * own

    return rate


def preferred_text(pair: ReadPair) -> str:
    return pair.artifact if pair.preferred == "artifact" else pair.reference


@pytest.mark.slow
def test_people_judge_a_check(tiny_model: Path, damaged: Path, tmp_path: Path, cache: Path) -> None:
    """From the empty sheet to a verdict: whoever agrees with the readers is certified and decides."""
    sheet, out = tmp_path / "ratings.csv", tmp_path / "baseline.json.gz"
    judge = ("--judge", f"sheet:{sheet}")
    command = ("baseline", tiny_model, *CHECK_REPLIES, *judge, "--out", out)
    empty = run_command(*command)
    assert empty.returncode == 4 and "have no rating yet" in empty.stderr and not out.exists()
    assert "Error" not in empty.stderr
    rate = like_the_readers(cache)
    assert fill(sheet, rate) > 896
    done = run_command(*command)
    assert done.returncode == 0, done.stderr
    known = read_baseline(out)
    assert known.judge.certified and known.judge.agreement_low > 0.9

    check = ("check", damaged, "--baseline", out, *judge)
    waiting = run_command(*check)
    assert waiting.returncode == 4, waiting.stdout + waiting.stderr
    assert "fill in" in waiting.stdout and "run the same command again" in " ".join(waiting.stdout.split())
    assert fill(sheet, rate) > 100
    decided = run_command(*check)
    assert decided.returncode == 1, decided.stdout + decided.stderr
    assert "decided by judge" in decided.stdout


@pytest.mark.slow
def test_a_stage_that_waits_for_ratings_goes_on(
    exported: Path, damaged: Path, tmp_path: Path, cache: Path
) -> None:
    sheet = tmp_path / "ratings.csv"
    settings = CheckStageSettings(
        judge=f"sheet:{sheet}", max_prompts=80, samples=3, max_new_tokens=12, temperature=0.5
    )

    def check() -> CheckReport:
        return run_stage(
            reference=exported / "gguf-f16",
            artifacts=[damaged],
            out=tmp_path / "check",
            settings=settings,
            as_gguf=lambda _: None,
        )

    with pytest.raises(RatingsMissing):
        check()
    rate = like_the_readers(cache)
    fill(sheet, rate)
    (waiting,) = check().artifacts
    assert waiting.verdict == "UNDECIDED" and waiting.ratings_missing == fill(sheet, rate) > 100
    (decided,) = check().artifacts
    assert decided.verdict == "FAIL" and decided.ratings_missing == 0
