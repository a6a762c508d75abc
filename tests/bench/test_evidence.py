"""A test split is apart from what was used, is read once, and its replies are compared by ratings."""

import json
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from empathy_edge.bench.evidence.compare_arms import Arm, compare
from empathy_edge.bench.evidence.readings import read_record
from empathy_edge.formats.dialogue import read_dialogues
from tests.bench.check.test_sheet_rater import fill
from tests.conftest import dialogue_row, run_module, write_rows

command = partial(run_module, "empathy_edge.bench.evidence")


def conversation(number: int, emotion: str, said: str) -> dict[str, object]:
    turns = [{"speaker": "speaker", "text": said}, {"speaker": "listener", "text": f"Oh, {said.lower()}"}]
    return {"dialog_id": f"c{number}", "emotion": emotion, "situation": said, "turns": turns}


def a_split(tmp_path: Path, each: int = 2) -> "subprocess.CompletedProcess[str]":
    said = ["My cat died last night.", "I lost my keys in the park.", "Somebody took my new bicycle today."]
    happy = ["I won a prize at the fair.", "We are having a baby in May.", "I won a prize at the fair!"]
    rows = [conversation(number, "sad", text) for number, text in enumerate(said)]
    rows += [conversation(10 + number, "joyful", text) for number, text in enumerate(happy)]
    source = write_rows(tmp_path / "source.jsonl", *rows)
    used = write_rows(tmp_path / "used.jsonl", dialogue_row())
    arguments = ["--apart-from", used, "--each", str(each), "--out", tmp_path / "split.jsonl"]
    return command("split", source, *arguments)


def test_a_split_has_each_emotion_and_nothing_that_was_used(tmp_path: Path) -> None:
    assert a_split(tmp_path).returncode == 0
    split = read_dialogues(tmp_path / "split.jsonl")
    assert Counter(item.emotion for item in split) == {"sad": 2, "joyful": 2}
    assert {item.id for item in split if item.emotion == "sad"} == {"c1", "c2"}
    assert len({item.utterance.strip("!.") for item in split}) == 4
    assert all(item.split == "test" and item.response("human") for item in split)
    again = a_split(tmp_path)
    assert again.returncode == 2 and "made once" in again.stderr


def test_a_split_says_which_emotion_has_too_few(tmp_path: Path) -> None:
    result = a_split(tmp_path, each=3)
    assert result.returncode == 2 and "fewer than 3 dialogues of joyful, sad" in result.stderr
    assert not (tmp_path / "split.jsonl").exists()


def test_a_split_is_answered_once_and_compared(tiny_model: Path, exported: Path, tmp_path: Path) -> None:
    assert a_split(tmp_path).returncode == 0
    split, folder, record = (tmp_path / name for name in ("split.jsonl", "responses", "readings.jsonl"))
    answering = ["answer", split, "--record", record, "--out", folder, "--purpose", "a test"]
    assert command(*answering, "--arm", f"base={tiny_model}").returncode == 0
    kept = (folder / "base.jsonl").read_bytes()
    assert command(*answering, "--arm", f"base={tiny_model}").returncode == 0  # goes on: nothing is missing
    (first,) = read_record(record)
    assert (folder / "base.jsonl").read_bytes() == kept and first.purpose == "a test"

    other = ["--arm", f"base={exported / 'gguf-q8_0'}"]
    refused = command(*answering, *other)
    assert refused.returncode == 2 and "A test split is read once" in refused.stderr
    (folder / "base.jsonl").rename(tmp_path / "before.jsonl")
    assert command(*answering, *other, "--again", "the first had no template").returncode == 0
    assert [item.again for item in read_record(record)] == ["", "the first had no template"]

    comparing = ["compare", split, folder, "--sheet", tmp_path / "ratings.csv", "--pair", "base:human"]
    assert command(*comparing).returncode == 4
    fill(tmp_path / "ratings.csv", lambda said, reply: 90 if reply.startswith("Oh,") else 10)
    result = command(*comparing)
    assert result.returncode == 0, result.stderr
    assert "| base against human | 0.0% [0.0, " in result.stdout
    unknown = command(*comparing[:-1], "base:humans")
    assert unknown.returncode == 2 and "Did you mean human?" in unknown.stderr
    rows = [json.loads(line) for line in (folder / "base.jsonl").read_text().splitlines()]
    write_rows(folder / "base.jsonl", *rows[1:])
    short = command(*comparing)
    assert short.returncode == 2 and "no response to 1 dialogues" in short.stderr


def test_win_rates_of_ratings_that_are_known() -> None:
    """The first wins where both are well-formed, and length decides nothing."""
    generator = np.random.default_rng(0)
    words = generator.integers(10, 40, (2, 400)).astype(float)
    good = np.arange(400) < 300
    first = Arm("a", np.where(good, 80.0, 20.0), good, words[0])
    second = Arm("b", np.where(np.arange(400) < 30, 80.0, 50.0), np.ones(400, dtype=bool), words[1])
    found = compare(first, second)
    assert found.win_rate.mean == (270 + 15) / 400 and found.ties == 30 / 400
    assert found.prompts_well_formed == 300 and found.both_well_formed.mean == 285 / 300
    assert found.equal_length and abs(found.equal_length.mean - found.win_rate.mean) < 0.02
    assert found.win_rate.low < found.win_rate.mean < found.win_rate.high
