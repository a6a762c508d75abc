"""Which prompts of a file a check takes: each is evidence of its own."""

from pathlib import Path

import pytest

from empathy_edge.bench.check.prompts import CheckPrompt, read_prompts
from tests.conftest import write_rows

TURNS = ("I failed.", "Oh no.", "Twice!", "Poor you.", "I know.", "Try again.")


def said(*texts: str) -> dict[str, object]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]}


def read(file: Path, most: int | None = None) -> list[CheckPrompt]:
    """In the order of the file."""
    return sorted(read_prompts(file, most, 0), key=lambda prompt: prompt.id)


def published(file: Path, conversations: int) -> Path:
    """A published CSV of EmpatheticDialogues, in which each conversation has three replies."""
    lines = ["conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags"]
    for conversation in range(conversations):
        for number, text in enumerate(TURNS, 1):
            first = f"{conversation}: {text}"
            lines.append(f"c{conversation},{number},sad,It was so.,{number % 2},{first},5|5|5,")
    file.write_text("\n".join(lines) + "\n")
    return file


def test_of_a_published_conversation_the_longest_prompt_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = read(published(tmp_path / "train.csv", 4))
    assert [prompt.id for prompt in prompts] == ["c0-6", "c1-6", "c2-6", "c3-6"]
    assert [message["content"] for message in prompts[0].messages] == [f"0: {text}" for text in TURNS[:5]]
    (line,) = capsys.readouterr().err.splitlines()
    assert "train.csv: of 12 prompts 0 are left out as copies" in line
    assert "and 8 as the beginning of a longer one" in line
    assert len(read(tmp_path / "train.csv", most=3)) == 3, "the limit is of those that are taken"


def test_of_copies_the_first_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [said("I won!"), said("I lost."), said("I won!"), said("I won!"), said("I won! Really.")]
    prompts = read(write_rows(tmp_path / "a.jsonl", *rows))
    assert [prompt.id for prompt in prompts] == ["row-1", "row-2", "row-5"]
    assert "of 5 prompts 2 are left out as copies" in capsys.readouterr().err


def test_copies_of_a_beginning_and_of_its_conversation(tmp_path: Path) -> None:
    rows = [said("Hi."), said("Hi.", "Hello.", "I lost."), said("Hi."), said("Hi.", "Hello.", "I lost.")]
    other = [said("Hi.", "Hello.", "I won!"), said("Hi.", "Yes?", "I lost.")]
    prompts = read(write_rows(tmp_path / "a.jsonl", *rows, *other))
    assert [prompt.id for prompt in prompts] == ["row-2", "row-5", "row-6"]


def test_other_files_keep_all_prompts_and_nothing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [said(f"My cat {number} is ill.") for number in range(20)]
    assert len(read(write_rows(tmp_path / "a.jsonl", *rows))) == 20
    assert len(read_prompts(None, None, 0)) == 640
    assert capsys.readouterr().err == ""


def test_half_a_character_is_replaced(tmp_path: Path) -> None:
    """Tokenizers and files of results cannot hold it."""
    row = {**said("\udc00", "Oh.", "\U0001f600 \ud83d"), "id": "mi\ud800ne"}
    file = write_rows(tmp_path / "a.jsonl", row)
    assert "\\ud8" in file.read_text(), "it stands escaped in the file"
    (prompt,) = read_prompts(file, None, 0)
    assert prompt.id == "mi\ufffdne"
    assert [message["content"] for message in prompt.messages] == ["\ufffd", "Oh.", "\U0001f600 \ufffd"]
