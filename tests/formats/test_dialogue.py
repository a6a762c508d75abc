"""Reading dialogues: what is good is read, what is wrong is one clear error."""

import csv
import re
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

from empathy_edge.data import sample_dialogues
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Response, paper_split, read_dialogues
from tests.conftest import assert_one_clear_error, dialogue_row, run_command, write_rows

EMOTIONS = """
afraid angry annoyed anticipating anxious apprehensive ashamed caring confident content devastated
disappointed disgusted embarrassed excited faithful furious grateful guilty hopeful impressed jealous
joyful lonely nostalgic prepared proud sad sentimental surprised terrified trusting
""".split()  # noqa: SIM905 - a list of 32 words reads better as text


def test_sample_dialogues_are_what_they_promise() -> None:
    dialogues = read_dialogues(sample_dialogues())
    assert Counter(item.emotion for item in dialogues) == dict.fromkeys(EMOTIONS, 7)
    test = [item for item in dialogues if item.split == "test"]
    assert sorted(item.emotion for item in test) == EMOTIONS
    responses = list(chain.from_iterable(item.responses for item in dialogues))
    good = [response.text for response in responses if response.rating == 3]
    with_flat_ones = [item for item in dialogues if any(one.rating in (1, 2) for one in item.responses)]
    assert len(good) >= len(dialogues) and len(with_flat_ones) >= len(dialogues) / 2
    assert all(15 <= len(text.split()) <= 60 for text in good)
    assert len({item.utterance for item in dialogues}) == len(dialogues)


def test_sample_responses_repeat_no_stock_phrases() -> None:
    runs: Counter[tuple[str, ...]] = Counter()
    for dialogue in read_dialogues(sample_dialogues()):
        for response in dialogue.responses:
            if response.rating == 3:
                words = re.findall(r"[\w']+", response.text.lower())
                runs.update({tuple(words[place : place + 5]) for place in range(len(words) - 4)})
    (phrase, count), *_ = runs.most_common(1)
    assert count <= 3, f"'{' '.join(phrase)}' stands in {count} responses"


def test_paper_csv(paper_csv: Path) -> None:
    dialogues = read_dialogues(paper_csv)
    assert Counter(item.split for item in dialogues) == {"train": 1750, "test": 250}
    assert all(len(item.responses) == 5 for item in dialogues)


def test_paper_split_needs_two_good_responses() -> None:
    def rated(*ratings: int) -> list[Response]:
        return [Response("x", "y", rating) for rating in ratings]

    assert paper_split(rated(3, 1, 2, 2, 1)) == "test"
    assert paper_split(rated(3, 3, 1, 1, 1)) == "train"


def _csv(path: Path, **changes: str) -> Path:
    row = {
        "dialog_id": "hit:1_conv:2",
        "emotion": "sad",
        "situation": "I lost my keys",
        "speaker_uttr": "I lost my keys again",
        "response_human": "Oh no, where?",
        "rating_human": "2",
        **changes,
    }
    with open(path, "w", newline="") as handle:
        writer = csv.DictWriter(handle, [key for key in row if row[key] != "DROP"], extrasaction="ignore")
        writer.writeheader()
        writer.writerow(row)
    return path


BAD_JSONL = {
    "responses that are no list": (dialogue_row(responses="Oh."), ("row 1", "'responses' must be a list")),
    "a response without text": (
        dialogue_row(responses=[{"source": "editor", "text": " ", "rating": 3}]),
        ("row 1", "response 1", "'text'"),
    ),
    "a rating of 7": (
        dialogue_row(responses=[{"source": "editor", "text": "Oh.", "rating": 7}]),
        ("row 1", "'rating' is 7", "1, 2 or 3"),
    ),
    "no utterance": (dialogue_row(utterance=""), ("row 1", "'utterance'")),
    "an unknown split": (dialogue_row(split="dev"), ("row 1", "'split'")),
}


@pytest.mark.parametrize("case", BAD_JSONL)
def test_bad_jsonl_row(case: str, tmp_path: Path) -> None:
    row, words = BAD_JSONL[case]
    path = write_rows(tmp_path / "bad.jsonl", row)
    with pytest.raises(EmpathyEdgeError) as caught:
        read_dialogues(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


BAD_CSV = {
    "wrong columns": ({"speaker_uttr": "DROP"}, ("wrong columns", "speaker_uttr")),
    "a response without a rating column": ({"rating_human": "DROP"}, ("wrong columns", "rating_human")),
    "an empty response": ({"response_human": ""}, ("row 2", "'response_human'")),
    "a rating of 7": ({"rating_human": "7"}, ("row 2", "'rating_human' is '7'")),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv(case: str, tmp_path: Path) -> None:
    changes, words = BAD_CSV[case]
    path = _csv(tmp_path / "bad.csv", **changes)
    with pytest.raises(EmpathyEdgeError) as caught:
        read_dialogues(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_duplicate_id_names_both_rows(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "twice.jsonl", dialogue_row(), dialogue_row(utterance="Again."))
    with pytest.raises(EmpathyEdgeError, match=r"row 2: the dialogue id 'd1' is already used in row 1"):
        read_dialogues(path)


def test_bad_files_on_the_command_line(tmp_path: Path) -> None:
    """Each is one error of exit code 2, and nothing is written."""
    files = {
        "missing.jsonl": None,
        "empty.jsonl": b"",
        "latin1.jsonl": b'{"id": "caf\xe9"}\n',
        "broken.jsonl": b'{"id": "a"\n',
        "header.csv": b"dialog_id,emotion,situation,speaker_uttr,response_human,rating_human\n",
        "nested.jsonl": b"[" * 100_000 + b"\n",
    }
    words = {
        "missing.jsonl": "no such file",
        "empty.jsonl": "empty",
        "latin1.jsonl": "not UTF-8",
        "broken.jsonl": "row 1 is not JSON",
        "header.csv": "no dialogue",
        "nested.jsonl": "row 1 is not JSON",
    }
    for name, content in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        result = run_command("distill", "--data", tmp_path / name, "--out", tmp_path / "out")
        assert_one_clear_error(result, 2, name, words[name])
        assert not (tmp_path / "out").exists()
