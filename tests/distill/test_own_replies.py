"""Messages with good replies of the user's own: no ratings, and columns of any name."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from empathy_edge import distill
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Response, read_data
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.formats.usual_names import map_options
from tests.commands.tree import assert_says_next
from tests.conftest import assert_one_clear_error, dialogue_row, run_command, write_rows

THINGS = ("bike", "car", "phone")


def _rows(said: str, reply: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for thing in THINGS:
        rows.append({said: f"Somebody stole my {thing} today.", reply: f"Losing your {thing} must hurt."})
    return rows


def _environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "EMPATHY_EDGE_CACHE": str(tmp_path / "cache")}


def test_replies_without_ratings_become_sft_rows(tmp_path: Path) -> None:
    """They were refused for want of ratings, with advice to ask a teacher."""
    said, reply, source = "message", "empathetic_reply", "response"
    data = write_rows(tmp_path / "mine.jsonl", *({**row, "feeling": "sad"} for row in _rows(said, reply)))
    inspected = run_command("data", "inspect", data)
    assert_says_next(inspected, f"empathy-edge distill --data {data} --out rows")
    out = tmp_path / "rows"
    made = run_command("distill", "--data", data, "--out", out)
    assert made.returncode == 0, made.stderr
    assert "3 responses without ratings are taken as good ones: SFT rows only" in made.stderr
    assert "Warning" not in made.stderr
    assert_says_next(made, f"empathy-edge finetune {out} --base smollm2-135m --out ")
    rows = read_jsonl(out / "sft.jsonl")
    assert [row["source"] for row in rows] == [source] * 3
    assert rows[0]["prompt"][-1]["content"] == "Somebody stole my bike today."
    assert rows[0]["completion"] == [{"role": "assistant", "content": "Losing your bike must hurt."}]
    assert read_jsonl(out / "preference.jsonl") == []
    results = json.loads((out / "manifest.json").read_text())["results"]
    assert (results["taken_as_good"], results["sft_found"], results["sft_rows"]) == (3, 3, 3)


def _unrated(name: str, split: str = "train") -> dict[str, object]:
    responses = [{"source": source, "text": f"{source} on {name}"} for source in ("human", "llm")]
    return dialogue_row(id=name, utterance=f"I say {name}.", responses=responses, split=split)


def test_every_source_counts_and_the_test_split_stays_apart(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "d.jsonl", _unrated("a"), _unrated("kept for the test", split="test"))
    both = run_command("distill", "--data", data, "--out", tmp_path / "both")
    assert "2 responses without ratings" in both.stderr
    assert [row["source"] for row in read_jsonl(tmp_path / "both" / "sft.jsonl")] == ["human", "llm"]
    (kept,) = read_jsonl(tmp_path / "both" / "test.jsonl")
    assert [item["rating"] for item in kept["responses"]] == [None, None]
    one = run_command("distill", "--data", data, "--model", "llm", "--out", tmp_path / "one")
    assert "1 response without a rating is taken as a good one" in one.stderr
    assert [row["source"] for row in read_jsonl(tmp_path / "one" / "sft.jsonl")] == ["llm"]
    none = run_command("distill", "--data", data, "--model", "editor", "--out", tmp_path / "none")
    assert_one_clear_error(none, 2, "'editor'", "human, llm", "--model")
    only_test = write_rows(tmp_path / "t.jsonl", _unrated("a", split="test"))
    refused = run_command("distill", "--data", only_test, "--out", tmp_path / "no")
    assert refused.returncode == 2 and "of the test split" in refused.stderr


def test_data_with_some_ratings_keep_the_rule_of_ratings(tmp_path: Path) -> None:
    rated = _unrated("b")
    rated["responses"] = [
        {"source": "human", "text": "human on b", "rating": 1},
        {"source": "llm", "text": "llm on b", "rating": 3},
    ]
    data = write_rows(tmp_path / "d.jsonl", _unrated("a"), rated)
    made = run_command("distill", "--data", data, "--model", "llm", "--out", tmp_path / "rows")
    assert made.returncode == 0 and "taken as good" not in made.stderr
    assert read_jsonl(tmp_path / "rows" / "sft.jsonl") == []
    assert [row["id"] for row in read_jsonl(tmp_path / "rows" / "preference.jsonl")] == ["b"]


RECOGNISED = {
    "a message and a reply": ({"message": "I lost.", "reply": "Oh."}, "message and reply"),
    "a question and an answer": ({"question": "I lost.", "answer": "Oh."}, "question and answer"),
    "input and output": ({"input": "I lost.", "output": "Oh."}, "input and output"),
    "capitals": ({"User_Message": "I lost.", "Empathetic_Reply": "Oh."}, "User_Message and Empathetic_Reply"),
    "prompt and completion": ({"text": "I lost.", "completion": "Oh."}, "completion"),
    "a known prompt": ({"prompt": "I lost.", "answer": "Oh."}, "answer"),
    "our own utterance": ({"utterance": "I lost.", "reply": "Oh.", "mood": "sad"}, "reply"),
}


@pytest.mark.parametrize("case", RECOGNISED)
def test_names_in_common_use_are_recognised(case: str, tmp_path: Path) -> None:
    row, names = RECOGNISED[case]
    found = read_data(write_rows(tmp_path / "a.jsonl", row))
    assert found.forms == {f"dialogues by usual names ({names})": 1}
    assert found.dialogues[0].utterance == "I lost."
    assert found.dialogues[0].responses == (Response("response", "Oh."),)


def test_a_reply_beside_messages_is_kept(tmp_path: Path) -> None:
    prompt = [{"role": "user", "content": "I lost."}]
    for number, said in enumerate((prompt, "\n\nHuman: I lost.")):
        file = write_rows(tmp_path / f"{number}.jsonl", {"prompt": said, "response": "Oh."})
        (found,) = read_data(file).dialogues
        assert found.utterance == "I lost." and found.responses == (Response("response", "Oh."),)


def test_a_table_is_known_by_its_usual_names(tmp_path: Path) -> None:
    file = tmp_path / "posts"
    file.write_text("message,reply\nI lost.,Oh.\n")
    (found,) = read_data(file).dialogues
    assert (found.utterance, found.responses) == ("I lost.", (Response("response", "Oh."),))
    file.write_text("Message, as I said.\nI lost.\n")
    assert len(read_data(file).dialogues) == 2


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ({"my reply": "Oh.", "body": "I lost."}, "--map utterance=body --map 'response=my reply'"),
        ({"message": "a", "reply": "b", "answer": "c"}, "--map utterance=message --map response=reply"),
        ({"text": "I lost.", "comfort": "Oh."}, "--map response=comfort"),
        ({"id": "a", "emotion": "sad", "rating": 3, "body": "I lost."}, "--map utterance=body"),
        ({"rating": 3}, "--map utterance=FIELD"),
    ],
)
def test_fields_to_be_named(row: dict[str, object], options: str) -> None:
    assert shlex.join(map_options(row)) == options


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ({"body": "I lost.", "comfort": "Oh."}, "--map utterance=body --map response=comfort"),
        ({"text": "I lost.", "comfort": "Oh."}, "--map response=comfort"),
    ],
)
def test_an_error_gives_the_whole_command(row: dict[str, object], options: str, tmp_path: Path) -> None:
    """It named the utterance alone, and the next try failed for want of the reply."""
    data = write_rows(tmp_path / "posts.jsonl", row)
    out = tmp_path / "rows"
    inspected = run_command("data", "inspect", data)
    assert options in " ".join(inspected.stderr.split())
    refused = run_command("distill", "--data", data, "--out", out)
    assert_one_clear_error(refused, 2, f"{data}: ")
    assert f"\n  empathy-edge distill --data {data} {options} --out {out}\n" in refused.stderr
    made = run_command(
        "distill", "--data", data, *shlex.split(options), "--out", out, env=_environment(tmp_path)
    )
    assert made.returncode == 0 and "1 response without a rating" in made.stderr


def test_errors_about_mapped_columns_name_the_file_that_was_given(tmp_path: Path) -> None:
    """They named a file of the cache, posts.csv.jsonl."""
    environment = _environment(tmp_path)
    data = tmp_path / "posts.csv"
    data.write_text("body,note,stars\nI lost.,Oh.,1\nI lost it.,,2\n")
    command = ("distill", "--out", tmp_path / "rows", "--map", "utterance=body", "--data")
    for given, name in ((data, str(data)), ("-", "stdin")):
        text = data.read_text()
        refused = run_command(*command, given, input=text, env=environment)
        assert_one_clear_error(refused, 2, "no dialogue has a response", "row-2")
        assert f"Error: {name}: no dialogue" in refused.stderr
        assert str(tmp_path / "cache") not in refused.stderr
    rated = ("--map", "response=note", "--map", "rating=stars", "--model", "response")
    refused = run_command(*command, data, *rated, "--reference", "response", env=environment)
    assert_one_clear_error(refused, 2, f"{data}: gives 0 SFT rows")
    data.write_text("body,note,stars\nI lost.,Oh.,9\n")
    refused = run_command(*command, data, *rated, env=environment)
    assert_one_clear_error(refused, 2, f"{data}: row 2: 'rating' is '9'")
    with pytest.raises(EmpathyEdgeError) as caught:
        distill(data, tmp_path / "rows", columns={"utterance": "body", "history": "stars"})
    assert str(caught.value).startswith(f"{data}: row 2: ")


def test_a_warning_names_the_file_that_was_given(tmp_path: Path) -> None:
    data = tmp_path / "posts.csv"
    data.write_text("body,note,stars\nI lost.,Oh.,3\n")
    maps = [f"--map={item}" for item in ("utterance=body", "response=note", "rating=stars")]
    made = run_command(
        "distill", "--data", data, *maps, "--reference", "response", "--model", "response",
        "--out", tmp_path / "rows", env=_environment(tmp_path),
    )  # fmt: skip
    assert made.returncode == 0 and f"Warning: {data}: gives" in made.stderr.replace("\n", "")
