"""JSON lines: every text survives a round trip through every reader and writer."""

import json
from pathlib import Path

import pytest

from empathy_edge.bench.chat_suite import read_conversations
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.formats.json_lines import read_jsonl, read_unfinished_jsonl, write_jsonl
from tests.conftest import dialogue_row

LINE_ENDS = "\u2028 \u2029 \u0085 \x0b \x0c \x1c \x1d \x1e \r\n \n"
"""Everything at which `str.splitlines` splits."""


def test_texts_with_unusual_line_ends_survive(tmp_path: Path) -> None:
    """The review's B5: our own file was refused, and resumed files lost the row without a word."""
    rows = [{"id": "a", "text": f"before{LINE_ENDS}after"}, {"id": "b", "text": "plain"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == read_unfinished_jsonl(tmp_path / "rows.jsonl") == rows


def test_every_reader_of_json_lines_takes_them(tmp_path: Path) -> None:
    file = tmp_path / "dialogues.jsonl"
    write_jsonl(file, [dialogue_row(utterance=f"I{LINE_ENDS}fell.")])
    assert read_dialogues(file)[0].utterance == f"I{LINE_ENDS}fell."
    write_jsonl(tmp_path / "turns.jsonl", [{"turns": [f"I{LINE_ENDS}fell."]}])
    assert read_conversations(tmp_path / "turns.jsonl") == [[f"I{LINE_ENDS}fell."]]


def test_half_a_character_can_be_written_and_is_read_as_a_replacement(tmp_path: Path) -> None:
    """As it stands, no tokenizer, API or database takes it: it stopped whole runs."""
    rows = [{"id": "a", "text": "broken \ud83d emoji", "more": [{"\udc00": "whole \U0001f600"}]}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    whole = [{"id": "a", "text": "broken \ufffd emoji", "more": [{"\ufffd": "whole \U0001f600"}]}]
    assert read_jsonl(tmp_path / "rows.jsonl") == whole


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_last_line_may_end_or_not(end: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes((json.dumps({"id": 1}) + end).encode())
    assert read_jsonl(tmp_path / "rows.jsonl") == [{"id": 1}]
