"""Data in the forms that other tools and published sets have: each is recognised, what is wrong is named."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from empathy_edge.bench.chat_suite import read_conversations
from empathy_edge.bench.check.prompts import read_prompts
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue, Response, read_data, read_dialogues
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.runs.given_data import data_file
from tests.conftest import assert_one_clear_error, dialogue_row, run_command, write_rows

SAID = [
    {"role": "user", "content": "I failed my exam."},
    {"role": "assistant", "content": "Oh no. What happened?"},
    {"role": "user", "content": "I slept too little."},
]
REPLY = {"role": "assistant", "content": "Then your head had no chance."}
SYSTEM = {"role": "system", "content": "Be kind."}


def _sharegpt(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": names[item["role"]], "value": item["content"]} for item in messages]


ONE_TURN = {
    "our own, the utterance alone": {"utterance": "I slept too little."},
    "text": {"text": "I slept too little."},
    "TRL prompt": {"prompt": "I slept too little."},
    "TRL prompt, conversational": {"prompt": [SAID[2]]},
    "OpenAI, ends with the user": {"messages": [SAID[2]]},
    "OpenAI, content in parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "I slept too little."}]}]
    },
    "OpenAI batch": {"custom_id": "row-1", "body": {"messages": [SAID[2]]}},
    "ShareGPT": {"conversations": _sharegpt([SAID[2]])},
    "Alpaca without output": {"instruction": "I slept too little.", "input": "", "output": ""},
}


@pytest.mark.parametrize("case", ONE_TURN)
def test_a_prompt_without_a_response(case: str, tmp_path: Path) -> None:
    (found,) = read_dialogues(write_rows(tmp_path / "a.jsonl", ONE_TURN[case]))
    assert found == Dialogue("row-1", "", "", "I slept too little.", (), "train")


SEVERAL_TURNS = {
    "OpenAI": ({"messages": [*SAID, REPLY]}, "assistant"),
    "ShareGPT": ({"conversations": _sharegpt([*SAID, REPLY])}, "assistant"),
    "ShareGPT, a greeting before": ({"conversations": _sharegpt([REPLY, *SAID, REPLY])}, "assistant"),
    "TRL completion": ({"prompt": SAID, "completion": [REPLY]}, "completion"),
    "Alpaca": (
        {
            "instruction": SAID[2]["content"],
            "output": REPLY["content"],
            "history": [[SAID[0]["content"], SAID[1]["content"]]],
        },
        "output",
    ),
    "our own": (
        {"utterance": SAID[2]["content"], "history": SAID[:2], "response": REPLY["content"], "source": "me"},
        "me",
    ),
}


@pytest.mark.parametrize("case", SEVERAL_TURNS)
def test_several_turns_are_kept(case: str, tmp_path: Path) -> None:
    row, source = SEVERAL_TURNS[case]
    (found,) = read_dialogues(write_rows(tmp_path / "a.jsonl", row))
    assert found.history == tuple(SAID[:2]) and found.utterance == SAID[2]["content"]
    assert found.responses == (Response(source, REPLY["content"]),)
    prompt = found.prompt()
    assert [item["role"] for item in prompt] == ["system", "user", "assistant", "user"]


def test_the_chat_suite_replays_what_the_person_says(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "a.jsonl", {"messages": [SYSTEM, *SAID, REPLY]})
    assert read_conversations(data) == [["I failed my exam.", "I slept too little."]]


def test_a_system_prompt_of_the_data_is_kept(tmp_path: Path) -> None:
    (found,) = read_dialogues(write_rows(tmp_path / "a.jsonl", {"messages": [SYSTEM, *SAID, REPLY]}))
    assert found.prompt() == [SYSTEM, *SAID]


GOOD, BAD = {"role": "assistant", "content": "That is hard."}, {"role": "assistant", "content": "So what."}

PREFERENCES = {
    "texts": {"prompt": "I lost.", "chosen": "That is hard.", "rejected": "So what."},
    "texts that repeat the prompt": {
        "prompt": "I lost.",
        "chosen": "I lost. That is hard.",
        "rejected": "I lost. So what.",
    },
    "implicit prompt": {"chosen": "I lost. That is hard.", "rejected": "I lost. So what."},
    "one text for a conversation": {
        "chosen": "\n\nHuman: I lost.\n\nAssistant: That is hard.",
        "rejected": "\n\nHuman: I lost.\n\nAssistant: So what.",
    },
    "messages": {"prompt": [{"role": "user", "content": "I lost."}], "chosen": [GOOD], "rejected": [BAD]},
    "messages that repeat the prompt": {
        "prompt": "I lost.",
        "chosen": [{"role": "user", "content": "I lost."}, GOOD],
        "rejected": [{"role": "user", "content": "I lost."}, BAD],
    },
    "implicit prompt, messages": {
        "chosen": [{"role": "user", "content": "I lost."}, GOOD],
        "rejected": [{"role": "user", "content": "I lost."}, BAD],
    },
    "LLaMA-Factory": {
        "conversations": [{"from": "human", "value": "I lost."}],
        "chosen": {"from": "gpt", "value": "That is hard."},
        "rejected": {"from": "gpt", "value": "So what."},
    },
    "OpenAI": {
        "input": {"messages": [{"role": "user", "content": "I lost."}]},
        "preferred_output": [GOOD],
        "non_preferred_output": [BAD],
    },
}


@pytest.mark.parametrize("case", PREFERENCES)
def test_preferences_become_responses_rated_3_and_1(case: str, tmp_path: Path) -> None:
    (found,) = read_dialogues(write_rows(tmp_path / "a.jsonl", PREFERENCES[case]))
    assert found.utterance == "I lost." and found.history == ()
    assert found.responses == (
        Response("chosen", "That is hard.", 3),
        Response("rejected", "So what.", 1),
    )


def test_several_pairs_of_one_prompt_may_share_their_id(tmp_path: Path) -> None:
    row = {"id": "a", **PREFERENCES["texts"]}
    found = read_dialogues(write_rows(tmp_path / "a.jsonl", row, row))
    assert [item.id for item in found] == ["a", "a-2"]


def test_unpaired_preferences(tmp_path: Path) -> None:
    rows = [{"prompt": "I lost.", "completion": "So what.", "label": label} for label in (True, False)]
    found = read_dialogues(write_rows(tmp_path / "a.jsonl", *rows))
    assert [item.responses[0].rating for item in found] == [3, 1]


CONTAINERS = {
    "array.json": b'[{"utterance": "One."},\n {"utterance": "Two."}]',
    "wrapped.json": b'{"version": "1", "data": [{"utterance": "One."}, {"utterance": "Two."}]}',
    "lines.jsonl": b'{"utterance": "One."}\n\n{"utterance": "Two."}\n',
    "comma.csv": b"utterance,emotion\nOne.,sad\nTwo.,\n",
    "semicolon.csv": "\ufeffutterance;emotion\r\nOne.;sad\r\nTwo.;\r\n".encode(),
    "tab.tsv": b"utterance\temotion\nOne.\tsad\nTwo.\t\n",
    "one-column.csv": b"utterance\nOne.\nTwo.\n",
    "prompts.txt": b"One.\n\nTwo.\n",
    "json-in.txt": b'{"utterance": "One."}\n{"utterance": "Two."}\n',
    "no-suffix": b"utterance,emotion\nOne.,sad\nTwo.,\n",
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("zipped", [False, True])
def test_containers(name: str, zipped: bool, tmp_path: Path) -> None:
    content = CONTAINERS[name]
    file = tmp_path / (f"{name}.gz" if zipped else name)
    file.write_bytes(gzip.compress(content) if zipped else content)
    assert [item.utterance for item in read_dialogues(file)] == ["One.", "Two."]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"messages": [*SAID, REPLY], "id": 1}, {"messages": [SAID[0]], "id": 2}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    first, second = read_dialogues(tmp_path / "rows.parquet")
    assert first.history == tuple(SAID[:2]) and first.id == "1" and second.responses == ()
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "rows.parquet").read_bytes()[:-9])
    with pytest.raises(EmpathyEdgeError, match=r"cut\.parquet: not readable as Parquet"):
        read_dialogues(tmp_path / "cut.parquet")


def test_a_gzip_bomb_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bomb.jsonl.gz"
    file.write_bytes(gzip.compress(b" " * (80 << 20)))
    with pytest.raises(EmpathyEdgeError, match="the limit for gzip"):
        read_dialogues(file)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"One.\n")[:-4])
    with pytest.raises(EmpathyEdgeError, match="not readable as gzip"):
        read_dialogues(tmp_path / "cut.gz")


WRONG = {
    "an unknown role": (
        b'{"messages": [{"role": "user", "content": "a"}]}\n{"messages": [{"role": "tool", "content": "a"}]}',
        ("row 2", "message 1", "'role'", "tool"),
    ),
    "a reply to nothing": (b'{"messages": [{"role": "system", "content": "a"}]}', ("row 1", "the user's")),
    "a number as a text": (b'{"utterance": 7}', ("row 1", "'utterance' is 7")),
    "an empty text": (b'{"text": "a"}\n{"text": " "}', ("row 2", "'text' is missing or empty")),
    "a row without the field of the others": (
        b'[{"messages": [{"role": "user", "content": "a"}]}, {"mesages": []}]',
        ("row 2", "'messages' must be a list"),
    ),
    "fields of no form": (b'{"question": "a", "note": "b"}', ("row 1", "question, note", "--map utterance=")),
    "a speaker of its own": (
        b'[{"dialog": [{"speaker": "moderator", "content": "a"}]}]',
        ("row 1", "message 1", "'speaker' is 'moderator'"),
    ),
    "an array, by its line": (
        b'[\n {"utterance": "a"},\n\n {"utterance": ""}\n]',
        ("row 2 (line 4)", "'utterance'"),
    ),
    "an array that breaks off": (b'[{"utterance": "a"}', ("row 1", "no end")),
    "a pair without its prompt": (b'{"chosen": "a b", "rejected": "c d"}', ("row 1", "no 'prompt'")),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_row_is_named(case: str, tmp_path: Path) -> None:
    content, words = WRONG[case]
    file = tmp_path / "data.json"
    file.write_bytes(content)
    with pytest.raises(EmpathyEdgeError) as caught:
        read_dialogues(file)
    for word in (str(file), *words):
        assert word in str(caught.value)


def test_a_wrong_csv_row_is_named_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('utterance,emotion\n"One\nand a half.",sad\nTwo, and more,sad\n')
    with pytest.raises(EmpathyEdgeError, match=r"row 3 \(line 4\): 3 fields, but 2 columns"):
        read_dialogues(file)


# The command line


def test_columns_of_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "posts.csv"
    file.write_text("body,label,text\nI lost.,sad,x\nI won.,proud,y\n")
    made = data_file(file, {"utterance": "body", "emotion": "label"})
    assert [(item.utterance, item.emotion) for item in read_dialogues(made)] == [
        ("I lost.", "sad"),
        ("I won.", "proud"),
    ]
    assert made.name == "posts.csv.jsonl" and made == data_file(
        file, {"utterance": "body", "emotion": "label"}
    )
    with pytest.raises(EmpathyEdgeError, match=r"posts\.csv: row 2: no column 'words'.*body, label, text"):
        data_file(file, {"utterance": "words"})
    with pytest.raises(EmpathyEdgeError, match=r"--map feeling=…: no such field"):
        data_file(file, {"feeling": "label"})


def _answers(file: Path, *ids: str) -> Path:
    text = "That must weigh on you; what would help most just now?"
    return write_rows(
        file, *[{"dialog_id": name, "initial": f"{name}: {text}", "rating": "3"} for name in ids]
    )


def test_prompts_suffice_for_direct_and_rated_says_what_is_missing(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("I lost my keys again.\nNobody came to my party.\n")
    out = tmp_path / "rows"
    environment = {"env": _environment(tmp_path)}
    answers = _answers(tmp_path / "answers.jsonl", "row-1", "row-2")
    made = run_command(
        "distill", "--data", prompts, "--method", "direct", "--teacher", f"file:{answers}", "--out", out,
        **environment,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    rows = read_jsonl(out / "sft.jsonl")
    assert [row["id"] for row in rows] == ["row-1", "row-2"]
    assert rows[0]["prompt"][-1]["content"] == "I lost my keys again."
    assert read_jsonl(out / "preference.jsonl") == []
    refused = run_command("distill", "--data", prompts, "--out", tmp_path / "no", **environment)
    assert_one_clear_error(
        refused, 2, "prompts.txt", "no dialogue has a response", "row-1", "--method direct"
    )
    refused = run_command(
        "distill", "--data", prompts, "--method", "improve-human", "--teacher", f"file:{answers}",
        "--out", tmp_path / "no", **environment,
    )  # fmt: skip
    assert_one_clear_error(refused, 2, "prompts.txt", "no response to improve", "row-1", "--method direct")
    assert not (tmp_path / "no").exists()


def test_several_turns_reach_the_training_files(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "prompt": SAID, "chosen": [GOOD], "rejected": [BAD]},
        {"id": "b", "prompt": [SYSTEM, *SAID[:1]], "chosen": [REPLY], "rejected": [BAD]},
    ]
    data = write_rows(tmp_path / "pairs.jsonl", *rows)
    out = tmp_path / "rows"
    made = run_command(
        "distill", "--data", data, "--reference", "rejected", "--model", "chosen", "--out", out
    )
    assert made.returncode == 0, made.stderr
    first, second = read_jsonl(out / "preference.jsonl")
    assert first["prompt"][0]["role"] == "system" and first["prompt"][1:] == SAID
    assert second["prompt"] == [SYSTEM, SAID[0]]
    completions = [{"prompt": SAID, "completion": [REPLY], "label": True, "source": "editor"}]
    data = write_rows(tmp_path / "sft-rows.jsonl", *completions)
    prompts = read_prompts(data, None, 0)
    assert prompts[0].messages == tuple(SAID) and prompts[0].conversation()[1:] == SAID


def test_several_turns_reach_sft_rows_and_the_teacher(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "talks.jsonl", {"id": "a", "messages": SAID})
    answers = _answers(tmp_path / "answers.jsonl", "a")
    made = run_command(
        "distill", "--data", data, "--method", "direct", "--teacher", f"file:{answers}",
        "--out", tmp_path / "rows", env=_environment(tmp_path),
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    (row,) = read_jsonl(tmp_path / "rows" / "sft.jsonl")
    assert row["prompt"][1:] == SAID


def test_the_test_split_keeps_its_turns(tmp_path: Path) -> None:
    rows = [dialogue_row(id="test", split="test", history=SAID[:2], utterance="And then I cried.")]
    rows += [dialogue_row(id=f"d{number}", utterance=f"My cat number {number} died.") for number in range(3)]
    data = write_rows(tmp_path / "d.jsonl", *rows)
    command = ["distill", "--data", data, "--reference", "first-draft", "--model", "editor"]
    assert run_command(*command, "--out", tmp_path / "rows").returncode == 0
    (kept,) = read_dialogues(tmp_path / "rows" / "test.jsonl")
    assert kept.history == tuple(SAID[:2])


def test_inspect_says_what_a_file_is_and_what_can_be_done(tmp_path: Path) -> None:
    data = write_rows(
        tmp_path / "pairs.jsonl", *({"prompt": f"I lost \u001b[31m{n}.", **_pair(n)} for n in range(5))
    )
    result = run_command("data", "inspect", data)
    assert result.returncode == 0, result.stderr
    words = " ".join(result.stdout.split())
    assert "preferences (TRL) (JSON Lines)" in words
    assert "5 of 64 needed: use the shipped prompts" in words
    assert "rejected, rated 1: No 0." in words and "\u001b" not in result.stdout
    assert "--reference rejected --model chosen --sft-on-chosen --out" in " ".join(result.stderr.split())
    assert "row-3" in words and "row-4" not in words


def _pair(number: int) -> dict[str, str]:
    return {"chosen": f"Yes {number}.", "rejected": f"No {number}."}


def test_inspect_takes_stdin_and_columns_of_other_names(tmp_path: Path) -> None:
    environment = _environment(tmp_path)
    result = run_command(
        "data", "inspect", "-", "--map", "utterance=body", input="body\nI lost.\n", env=environment
    )
    assert result.returncode == 0, result.stderr
    assert "I lost." in result.stdout
    assert "--data - --map utterance=body --method direct" in result.stderr
    wrong = run_command("data", "inspect", "-", input='{"utterance": 3}\n', env=environment)
    assert_one_clear_error(wrong, 2, "stdin: row 1", "'utterance' is 3")


def test_sample_works_wherever_dialogues_do(tmp_path: Path) -> None:
    result = run_command(
        "distill", "--data", "sample", "--reference", "first-draft", "--model", "editor",
        "--max-sft", "5", "--out", tmp_path / "rows",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len(read_jsonl(tmp_path / "rows" / "sft.jsonl")) == 5


def test_a_dataset_that_cannot_be_reached_is_one_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    environment = {**_environment(tmp_path), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    result = run_command("data", "inspect", "someone/talks:test", env=environment)
    assert_one_clear_error(result, 3, "someone/talks", "dataset of the hub", "give a file")


def test_data_say_what_they_were_recognised_as(tmp_path: Path) -> None:
    file = tmp_path / "a.json.gz"
    file.write_bytes(gzip.compress(json.dumps([{"messages": SAID}, {"text": "One."}]).encode()))
    found = read_data(file)
    assert found.container == "gzip of JSON array" and found.rows == 2
    assert found.forms == {"OpenAI messages": 1, "prompts": 1}


def _environment(tmp_path: Path) -> dict[str, str]:
    import os

    return {
        **os.environ,
        "EMPATHY_EDGE_CACHE": str(tmp_path / "cache"),
        "EMPATHY_EDGE_LEDGER": str(tmp_path / "ledger.sqlite"),
    }
