"""Rows that a model must not be trained on."""

from pathlib import Path

import pytest

from empathy_edge.bench.release.safety import safety_prompts
from empathy_edge.data import certification_pairs, check_prompts, written_dialogues
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.formats.json_lines import read_jsonl, write_jsonl
from empathy_edge.text.near_duplicates import KeptForTests, refuse_leaks


def _row(identifier: str, said: str) -> dict[str, object]:
    return {"id": identifier, "prompt": [{"role": "user", "content": said}]}


def test_prompts_of_the_check_are_never_trained_on(tmp_path: Path) -> None:
    file = tmp_path / "sft.jsonl"
    said = next(
        row["messages"][-1]["content"]
        for row in read_jsonl(check_prompts())
        if len(row["messages"][-1]["content"].split()) > 20
    )
    write_jsonl(
        file, [_row("ours", "My boat sank on the day I bought it."), _row("theirs", f"{said} Really!")]
    )
    with pytest.raises(
        EmpathyEdgeError, match=r"1 rows are prompts of `empathy-edge check` \(first: theirs\)"
    ):
        refuse_leaks(file)
    write_jsonl(file, [_row("ours", "My boat sank on the day I bought it.")])
    refuse_leaks(file)


def test_a_test_file_of_another_folder_counts_and_apostrophes_do_not(tmp_path: Path) -> None:
    """Only the one beside the rows was read, and ’ made two words of one."""
    rows, other = tmp_path / "rows" / "sft.jsonl", tmp_path / "other"
    write_jsonl(rows, [_row("ours", "I don’t know what I’d do without her.")])
    write_jsonl(other / "test.jsonl", [{"id": "t", "utterance": "I don't know what I'd do without her."}])
    refuse_leaks(rows)
    with pytest.raises(EmpathyEdgeError, match=r"1 rows are test dialogues of .*other.*\(first: ours\)"):
        refuse_leaks(rows, [other])


def test_the_shipped_training_dialogues_are_no_test_prompts() -> None:
    prompts = [row["messages"][-1]["content"] for row in read_jsonl(check_prompts())]
    prompts += [row["messages"][-1]["content"] for row in read_jsonl(certification_pairs())]
    prompts += [prompt.utterance for prompt in safety_prompts()]
    tests = KeptForTests((str(place), text) for place, text in enumerate(prompts))
    written = read_dialogues(written_dialogues())
    assert len({dialogue.id for dialogue in written}) == 1978
    assert [item.id for item in written if tests.has(item.id, item.utterance)] == []
    assert sum(len(item.responses) for item in written) == 1978 + 1583
