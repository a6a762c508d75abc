"""Data that were once read wrongly without a word: each is read right now, or refused by its row."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue, Response, read_data, read_dialogues
from empathy_edge.runs import given_data
from empathy_edge.system.files import sha256_json
from tests.conftest import write_rows

PAIR = {"chosen": "I am so sorry to hear that.", "rejected": "I am busy."}
RESPONSES = (Response("chosen", PAIR["chosen"], 3), Response("rejected", PAIR["rejected"], 1))
SYSTEM = {"role": "system", "content": "Be kind."}
ASKED = {"role": "user", "content": "My dog died."}
GREETING = {"role": "assistant", "content": "Hello."}


def _read(tmp_path: Path, *rows: dict[str, Any]) -> list[Dialogue]:
    return read_dialogues(write_rows(tmp_path / "rows.jsonl", *rows))


def _file(tmp_path: Path, name: str, content: str | bytes) -> Path:
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


# The prompt of a preference

PROMPTS_OF_PAIRS = {
    "instruction": ({"instruction": "My dog died.", "input": ""}, "My dog died."),
    "instruction and input": (
        {"instruction": "Comfort me.", "input": "She died."},
        "Comfort me.\n\nShe died.",
    ),
    "question": ({"question": "My dog died."}, "My dog died."),
    "input": ({"input": "My dog died."}, "My dog died."),
    "messages": ({"messages": [ASKED]}, "My dog died."),
    "utterance": ({"utterance": "My dog died."}, "My dog died."),
}


@pytest.mark.parametrize("case", PROMPTS_OF_PAIRS)
def test_the_prompt_of_a_preference_under_other_names(case: str, tmp_path: Path) -> None:
    fields, utterance = PROMPTS_OF_PAIRS[case]
    (found,) = _read(tmp_path, {**fields, **PAIR})
    assert found.utterance == utterance and found.responses == RESPONSES


def test_responses_beside_a_pair_are_kept(tmp_path: Path) -> None:
    row = {"utterance": "My dog died.", "responses": [{"source": "me", "text": "Oh."}], **PAIR}
    (found,) = _read(tmp_path, row)
    assert found.responses == (Response("me", "Oh."),)


def test_a_system_prompt_beside_a_preference(tmp_path: Path) -> None:
    (found,) = _read(tmp_path, {"system": "Be kind.", "question": "My dog died.", **PAIR})
    assert found.prompt() == [SYSTEM, ASKED] and found.responses == RESPONSES


WRONG_PROMPTS = {
    "an empty prompt": ({"prompt": ""}, "'prompt' is missing or empty"),
    "a prompt of null": ({"prompt": None}, "'prompt' is missing or empty"),
    "a system prompt alone": ({"system": "Be kind."}, "no 'prompt'"),
    "no field for the prompt": ({"note": "My dog died."}, "no 'prompt'"),
    "an empty instruction": ({"instruction": ""}, "'instruction' is missing or empty"),
    "messages that end with a reply": ({"messages": [ASKED, GREETING]}, "must be the user's"),
}


@pytest.mark.parametrize("case", WRONG_PROMPTS)
def test_no_prompt_is_made_up_for_a_preference(case: str, tmp_path: Path) -> None:
    fields, words = WRONG_PROMPTS[case]
    with pytest.raises(EmpathyEdgeError, match=f"row 1: .*{words}"):
        _read(tmp_path, {**fields, **PAIR})


def test_a_common_line_is_a_prompt(tmp_path: Path) -> None:
    (found,) = _read(tmp_path, {"chosen": "My dog died\nOh no.", "rejected": "My dog died\nSo what."})
    assert found.utterance == "My dog died" and found.responses[1].text == "So what."


# EmpatheticDialogues

TURNS = ("I lost.", "Oh no.", "Yes.", "Poor you.")


def _turn(conversation: str, number: int) -> str:
    return f"{conversation},{number},sad,It was so.,{number % 2},{TURNS[number - 1]},5|5|5,\n"


def _published(tmp_path: Path, *turns: tuple[str, int]) -> Path:
    header = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n"
    return _file(tmp_path, "train.csv", header + "".join(_turn(*turn) for turn in turns))


def test_turns_of_a_published_conversation_are_put_in_order(tmp_path: Path) -> None:
    found = read_dialogues(_published(tmp_path, ("a", 4), ("a", 2), ("a", 1), ("a", 3)))
    assert [(item.utterance, item.responses[0].text) for item in found] == [
        ("I lost.", "Oh no."),
        ("Yes.", "Poor you."),
    ]


INCOMPLETE = {
    "the first is missing": ((("a", 2), ("a", 3)), "row 2: .*'a'.*2, 3"),
    "one between is missing": ((("a", 1), ("a", 2), ("a", 4)), "row 2: .*'a'.*1, 2, 4"),
    "one is there twice": ((("a", 1), ("a", 2), ("a", 2)), "row 2: .*'a'.*1, 2, 2"),
    "interleaved": ((("a", 1), ("b", 1), ("a", 2), ("b", 2)), "row 4: .*'a'.*Sort"),
}


@pytest.mark.parametrize("case", INCOMPLETE)
def test_incomplete_published_conversations_are_refused(case: str, tmp_path: Path) -> None:
    turns, words = INCOMPLETE[case]
    with pytest.raises(EmpathyEdgeError, match=words):
        read_dialogues(_published(tmp_path, *turns))


# Instructions


def test_dolly_keeps_context_and_response(tmp_path: Path) -> None:
    row = {
        "instruction": "Comfort me.",
        "context": "My dog died.",
        "response": "Oh no.",
        "category": "open_qa",
    }
    (found,) = _read(tmp_path, row)
    assert found.utterance == "Comfort me.\n\nMy dog died." and found.responses[0].text == "Oh no."


def test_an_instruction_whose_answer_has_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmpathyEdgeError, match=r"(?s)row 1: .*'answer'.*--map response=answer"):
        _read(tmp_path, {"instruction": "Comfort me.", "answer": "Oh no."})


def test_a_mapped_utterance_is_the_prompt_of_a_pair(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", {"ask": "My dog died.", **PAIR})
    (found,) = read_data(data, {"utterance": "ask"}).dialogues
    assert found.utterance == "My dog died." and found.responses == RESPONSES


# CSV


def test_column_names_with_spaces_and_capitals(tmp_path: Path) -> None:
    (found,) = read_dialogues(_file(tmp_path, "a.csv", "Utterance, Emotion , RESPONSE\nI lost.,sad,Oh.\n"))
    assert (found.utterance, found.emotion) == ("I lost.", "sad")
    assert found.responses[0].text == "Oh."


def test_a_mapped_column_keeps_its_name(tmp_path: Path) -> None:
    file = _file(tmp_path, "a.csv", "Text,Emotion\nI lost.,sad\n")
    (found,) = read_data(file, {"utterance": "Text", "situation": "Emotion"}).dialogues
    assert (found.utterance, found.situation, found.emotion) == ("I lost.", "sad", "")


def test_a_short_csv_row_is_refused(tmp_path: Path) -> None:
    file = _file(tmp_path, "a.csv", 'utterance,emotion,response\n"I\nlost.",sad,Oh.\nI won.\n')
    with pytest.raises(EmpathyEdgeError, match=r"row 3 \(line 4\): 1 field, but 3 columns"):
        read_dialogues(file)


# JSON


def test_text_after_an_array_is_not_dropped(tmp_path: Path) -> None:
    file = _file(tmp_path, "a.json", '[{"text": "One."}]\n[{"text": "Two."}]\n')
    assert [item.utterance for item in read_dialogues(file)] == ["One.", "Two."]
    file = _file(tmp_path, "b.json", '[{"text": "One."}]\n{"text": "Two."}\n')
    with pytest.raises(EmpathyEdgeError, match=r"b\.json: line 2: .*after the array"):
        read_dialogues(file)


def test_an_object_that_is_a_row_is_not_unwrapped(tmp_path: Path) -> None:
    row = {"utterance": "My dog died.", "response": "Oh no.", "annotations": [{"text": "X"}]}
    (found,) = read_dialogues(_file(tmp_path, "a.json", json.dumps(row)))
    assert found.utterance == "My dog died."


class _CountedText(str):
    """A text that counts the characters that are copied from it."""

    copied = 0

    def __getitem__(self, key: Any) -> str:
        part = super().__getitem__(key)
        _CountedText.copied += len(part)
        return part


def test_an_array_is_not_copied_for_each_row() -> None:
    from empathy_edge.formats.data_rows import _array_rows

    text = _CountedText("[" + ",\n".join(['{"text": "One."}'] * 500) + "]")
    _CountedText.copied = 0
    assert len(list(_array_rows(Path("a.json"), text, 1))) == 500
    assert _CountedText.copied < 20 * len(text)


# Labels, ratings, weights


@pytest.mark.parametrize(
    ("label", "rating"),
    [(True, 3), ("True", 3), ("1", 3), (1, 3), ("true", 3), (False, 1), ("False", 1), ("0", 1), (0, 1)],
)
def test_labels_of_unpaired_preferences(label: object, rating: int, tmp_path: Path) -> None:
    (found,) = _read(tmp_path, {"prompt": "I lost.", "completion": "Oh.", "label": label})
    assert found.responses[0].rating == rating


@pytest.mark.parametrize("label", ["good", 2, [True]])
def test_other_labels_are_refused(label: object, tmp_path: Path) -> None:
    with pytest.raises(EmpathyEdgeError, match=r"row 1: 'label' is .*true or false"):
        _read(tmp_path, {"prompt": "I lost.", "completion": "Oh.", "label": label})


def test_true_is_no_rating(tmp_path: Path) -> None:
    with pytest.raises(EmpathyEdgeError, match="row 1: 'rating' is True"):
        _read(tmp_path, {"utterance": "I lost.", "response": "Oh.", "rating": True})


def test_a_last_message_of_weight_0_is_no_response(tmp_path: Path) -> None:
    first = {"role": "assistant", "content": "Oh.", "weight": 0}
    reply = {"role": "assistant", "content": "So what.", "weight": 0}
    (found,) = _read(tmp_path, {"messages": [ASKED, first, ASKED, reply]})
    assert found.utterance == "My dog died." and found.responses == ()
    assert found.history[1] == {"role": "assistant", "content": "Oh."}


# What stands before the utterance


@pytest.mark.parametrize(
    "row",
    [
        {"system": "Be kind.", "prompt": "My dog died.", "completion": "Oh."},
        {"system": "Be kind.", "messages": [ASKED]},
        {"system": "Be kind.", "prompt": "My dog died."},
        {"system": "Be kind.", "utterance": "My dog died."},
        {"system": "Be fast.", "messages": [SYSTEM, ASKED]},
    ],
)
def test_the_field_system_stands_in_front(row: dict[str, Any], tmp_path: Path) -> None:
    (found,) = _read(tmp_path, row)
    assert found.prompt() == [SYSTEM, ASKED]


@pytest.mark.parametrize("rest", [{"completion": "Oh."}, PAIR, {}])
def test_a_prompt_that_is_a_conversation_as_one_text(rest: dict[str, Any], tmp_path: Path) -> None:
    prompt = "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: My dog died.\n\nAssistant:"
    (found,) = _read(tmp_path, {"prompt": prompt, **rest})
    assert found.utterance == "My dog died." and found.history[1] == GREETING


def test_a_greeting_in_our_own_history_is_left_out(tmp_path: Path) -> None:
    (found,) = _read(tmp_path, {"utterance": "My dog died.", "history": [SYSTEM, GREETING]})
    assert found.history == (SYSTEM,)


def test_empty_texts_in_an_alpaca_history_are_skipped(tmp_path: Path) -> None:
    row = {
        "instruction": "My dog died.",
        "output": "Oh.",
        "history": [["", "Hello."], ["Hi.", "Yes?"], ["", ""]],
    }
    (found,) = _read(tmp_path, row)
    assert found.history == ({"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Yes?"})


# Parquet


@pytest.mark.parametrize("as_dictionary", [False, True])
def test_parquet_that_unpacks_too_far_is_refused(
    as_dictionary: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from empathy_edge.formats import text_file

    monkeypatch.setattr(text_file, "ALWAYS_ALLOWED", 1 << 20)
    column = pyarrow.array(["x" * 100_000] * 400)
    table = pyarrow.table({"text": column.dictionary_encode() if as_dictionary else column})
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(EmpathyEdgeError, match=r"a\.parquet: .*the limit for Parquet"):
        read_dialogues(tmp_path / "a.parquet")


# Small ones


def test_a_folder_is_called_a_folder(tmp_path: Path) -> None:
    with pytest.raises(EmpathyEdgeError, match="is a folder; name a file in it"):
        read_dialogues(tmp_path)


def test_a_field_that_begins_with_response_is_not_the_papers(tmp_path: Path) -> None:
    (found,) = _read(tmp_path, {"prompt": "My dog died.", **PAIR, "response_model": "x"})
    assert found.utterance == "My dog died." and found.responses == RESPONSES


@pytest.mark.parametrize(
    "rows",
    [
        [{"\u001b[31mquestion\u0007": "a"}],
        [{"id": "\u001b[31ma", "utterance": "a"}] * 2,
        [{"conversation\u001b[31m": "a", "instruction": "b"}],
        [{"response_a": "x", "rating_a": 1, "\u001b[31m": "b"}],
    ],
)
def test_errors_show_no_control_characters(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(EmpathyEdgeError) as caught:
        _read(tmp_path, *rows)
    assert "\u001b" not in str(caught.value) and "\u0007" not in str(caught.value)


def test_control_characters_in_columns(tmp_path: Path) -> None:
    file = _file(tmp_path, "a.csv", "text\u001b[31m,text\u001b[31m\na,b\n")
    with pytest.raises(EmpathyEdgeError) as caught:
        read_dialogues(file)
    assert "twice" in str(caught.value) and "\u001b" not in str(caught.value)
    with pytest.raises(EmpathyEdgeError) as caught:
        read_data(write_rows(tmp_path / "b.jsonl", {"\u001b[31m": "a"}), {"utterance": "body"})
    assert "no column 'body'" in str(caught.value) and "\u001b" not in str(caught.value)


def test_control_characters_in_the_name_of_a_list(tmp_path: Path) -> None:
    file = _file(tmp_path, "a.json", json.dumps({"\u001b[31mrows": [{"text": "One."}]}))
    assert read_data(file).container == "JSON object, rows in '[31mrows'"


def test_ids_made_of_row_numbers_stay_unique(tmp_path: Path) -> None:
    rows = [{"id": name, "prompt": "My dog died.", **PAIR} for name in ("a-3", "a", "a")]
    assert len({item.id for item in _read(tmp_path, *rows)}) == 3


def test_half_a_character_can_be_hashed() -> None:
    assert len(sha256_json(["half \ud83d a character"])) == 64


def test_two_responses_of_one_source_are_refused(tmp_path: Path) -> None:
    responses = [{"source": "me", "text": "Oh."}, {"source": "me", "text": "No."}]
    with pytest.raises(EmpathyEdgeError, match=r"row 1: .*two responses.*'me'"):
        _read(tmp_path, {"utterance": "I lost.", "responses": responses})


# Text files


def test_a_table_in_a_text_file_is_read_as_one(tmp_path: Path) -> None:
    file = _file(tmp_path, "a.txt", 'utterance,emotion\n"Oh, no.",sad\n')
    (found,) = read_dialogues(file)
    assert (found.utterance, found.emotion) == ("Oh, no.", "sad")
    lines = _file(tmp_path, "b.txt", "text, prompt and all that\nI lost it all.\n")
    assert len(read_dialogues(lines)) == 2


def test_utf_16_is_refused(tmp_path: Path) -> None:
    file = _file(tmp_path, "a.txt", "I lost.\n".encode("utf-16-le"))
    with pytest.raises(EmpathyEdgeError, match="UTF-16 or binary; save it as UTF-8"):
        read_dialogues(file)


def test_lines_that_end_as_on_an_old_mac(tmp_path: Path) -> None:
    found = read_dialogues(_file(tmp_path, "a.txt", "One.\rTwo.\r\nThree.\n"))
    assert [item.utterance for item in found] == ["One.", "Two.", "Three."]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.txt"])
@pytest.mark.parametrize("beginning", ["", '[{"text": "One."},\n', '{"text": "One."}\n', "text\nOne.\n"])
def test_a_line_that_is_too_large_is_refused(
    beginning: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from empathy_edge.formats import text_file

    monkeypatch.setattr(text_file, "MAX_BYTES", 1 << 20)
    file = _file(tmp_path, name, beginning + json.dumps({"text": "x" * (4 << 20)}) + "\n")
    place = (
        "4 MB" if beginning.startswith("[") else f"line {beginning.count(chr(10)) + 1} is longer than 1 MB"
    )
    with pytest.raises(EmpathyEdgeError, match=rf"{name}: {place}"):
        read_dialogues(file)


def test_an_array_that_is_too_large_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from empathy_edge.formats import text_file

    monkeypatch.setattr(text_file, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(text_file.TextFile, "lines", lambda file: pytest.fail("it was read"))
    file = _file(tmp_path, "a.json", " " + json.dumps([{"text": "x" * 1000}] * 2000))
    with pytest.raises(EmpathyEdgeError, match=r"a\.json: 1 MB; of JSON .* at most 1 MB are read"):
        read_dialogues(file)


# Datasets of the hub


def _from_hub(rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(cache / "cache"))
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: rows)
    return given_data.data_file(Path("someone/talks"))


def test_values_that_json_lacks_do_not_stop_a_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"text": "I lost.", "at": datetime(2026, 1, 2, tzinfo=UTC), "image": {"bytes": b"\x89"}, "id": 1.0}
    file = _from_hub([row], monkeypatch, tmp_path)
    kept = json.loads(file.read_text())
    assert kept["at"].startswith("2026-01-02") and kept["image"] == {"bytes": None}
    assert read_dialogues(file)[0].id == "1"


def test_a_dataset_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given_data, "MAX_BYTES", 1000)
    with pytest.raises(EmpathyEdgeError, match="someone/talks: more than"):
        _from_hub([{"text": "I lost."}] * 100, monkeypatch, tmp_path)


def test_nan_is_missing(tmp_path: Path) -> None:
    row = {"id": float("nan"), "utterance": "I lost.", "emotion": float("nan"), "split": float("nan")}
    (found,) = _read(tmp_path, {**row, "response": "Oh.", "rating": float("nan")})
    assert (found.id, found.emotion, found.responses[0].rating) == ("row-1", "", None)
    with pytest.raises(EmpathyEdgeError, match="'utterance' is missing or empty"):
        _read(tmp_path, {"utterance": float("nan")})
