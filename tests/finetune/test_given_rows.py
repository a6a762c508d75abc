"""What `finetune` is given: rows of both kinds, of one, or data; refused before anything is trained."""

from pathlib import Path

import pytest

from empathy_edge.api import finetune
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.finetune import dpo
from empathy_edge.finetune.given_rows import sft_step_in, steps_to_train
from tests.conftest import assert_one_clear_error, run_command


def _only(folder: Path, kind: str, empty: str, is_there: bool) -> None:
    (folder / f"{kind}.jsonl").write_text("{}\n")
    if is_there:
        (folder / f"{empty}.jsonl").write_text("")


@pytest.fixture
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to write into that is not there yet, outside of the rows."""
    return tmp_path_factory.mktemp("out") / "a" / "tuned"


@pytest.mark.parametrize("inside", ["", "tuned", "a/../tuned"])
def test_nothing_is_written_into_the_rows(inside: str, tmp_path: Path, tuned: Path) -> None:
    """`finetune rows --out rows` wrote sft/ beside sft.jsonl."""
    _only(tmp_path, "sft", "preference", is_there=False)
    out = tmp_path / inside
    if not inside:
        result = run_command("finetune", tmp_path, "--base", "no-such", "--out", out)
        assert_one_clear_error(result, 2, "choose another --out")
    with pytest.raises(EmpathyEdgeError, match="choose another --out"):
        finetune(tmp_path, out, base="no-such")
    with pytest.raises(EmpathyEdgeError, match=f"rows {tmp_path}, or inside it"):
        steps_to_train(tmp_path, [tmp_path], None, out)
    assert [file.name for file in tmp_path.iterdir()] == ["sft.jsonl"]
    assert steps_to_train(tmp_path, [], None, tmp_path.parent) == ("sft",)


@pytest.mark.parametrize("is_there", [True, False])
def test_rows_without_pairs_train_sft_alone(is_there: bool, tmp_path: Path, tuned: Path) -> None:
    """They were refused: the README's `finetune rows` failed with replies that nobody had rated."""
    _only(tmp_path, "sft", "preference", is_there)
    assert steps_to_train(tmp_path, [], None) == steps_to_train(tmp_path, [], "sft") == ("sft",)
    command = ("finetune", tmp_path, "--only", "dpo", "--base", "no-such", "--out", tuned)
    assert_one_clear_error(run_command(*command), 2, "has no preference pairs", "own-pairs")


@pytest.mark.parametrize("only", [(), ("--only", "sft")])
@pytest.mark.parametrize("is_there", [True, False])
def test_pairs_alone_are_refused_before_training(
    is_there: bool, only: tuple[str, ...], tmp_path: Path, tuned: Path
) -> None:
    _only(tmp_path, "preference", "sft", is_there)
    assert steps_to_train(tmp_path, [], "dpo") == ("dpo",)
    result = run_command("finetune", tmp_path, *only, "--base", "no-such", "--out", tuned)
    assert_one_clear_error(result, 2, "--only dpo")
    assert not tuned.exists()


def test_a_file_of_data_is_not_what_finetune_takes(tmp_path: Path, tuned: Path) -> None:
    """It said that my_dialogues.jsonl/sft.jsonl was no such file."""
    data = tmp_path / "my_dialogues.jsonl"
    data.write_text('{"prompt": "I lost.", "response": "Oh."}\n')
    result = run_command("finetune", data, "--out", tuned)
    assert_one_clear_error(result, 2, f"{data}: is a file of data")
    assert f"empathy-edge distill --data {data} --out rows" in result.stderr
    pairs = ("--pairs", data, "--out", tuned)
    (tmp_path / "sft.jsonl").write_text("{}\n")
    assert_one_clear_error(run_command("finetune", tmp_path, *pairs), 2, "own-pairs")
    result = run_command("finetune", tmp_path / "sft.jsonl", "--out", tuned)
    assert_one_clear_error(result, 2, f"give its folder: {tmp_path}")
    result = run_command("finetune", tmp_path / "nothing", "--out", tuned)
    assert_one_clear_error(result, 2, "no such folder", "distill")
    assert not tuned.exists()


def test_dpo_starts_from_a_folder_that_finetune_made(tmp_path: Path) -> None:
    """`--sft tuned` was looked up as tuned/adapter, and refused as no adapter."""
    adapter = tmp_path / "tuned" / "sft" / "adapter"
    adapter.mkdir(parents=True)
    assert sft_step_in(tmp_path / "tuned") == sft_step_in(tmp_path / "tuned" / "sft") == adapter.parent
    (tmp_path / "sft.jsonl").write_text("{}\n")
    (tmp_path / "preference.jsonl").write_text("{}\n")
    command = ("finetune", tmp_path, "--only", "dpo", "--sft", tmp_path / "no", "--out", tmp_path / "new")
    assert_one_clear_error(run_command(*command), 2, "has no adapter of SFT")


@pytest.mark.parametrize("only", ["sft", "dpo"])
def test_a_failure_before_training_leaves_nothing(
    only: str, tiny_model: Path, tmp_path: Path, tuned: Path
) -> None:
    """It left tuned/sft/.unfinished.json."""
    for kind in ("sft", "preference"):
        (tmp_path / f"{kind}.jsonl").write_text('{"prompt": "no messages"}\n')
    result = run_command("finetune", tmp_path, "--only", only, "--base", tiny_model, "--out", tuned)
    assert_one_clear_error(result, 2, "row 1")
    assert not tuned.parent.exists()


def test_a_failure_keeps_what_was_there(tiny_model: Path, tmp_path: Path, tuned: Path) -> None:
    """Here a file of the user's beside the folder of the stage."""
    (tmp_path / "sft.jsonl").write_text('{"prompt": "no messages"}\n')
    command = ("finetune", tmp_path, "--only", "sft", "--base", tiny_model, "--out", tuned)
    stage = tuned / "sft"
    stage.parent.mkdir(parents=True)
    (stage.parent / "notes.txt").write_text("mine")
    assert run_command(*command).returncode == 2
    assert not stage.exists() and (stage.parent / "notes.txt").is_file()


def test_pairs_from_elsewhere_suffice(rows: Path, tmp_path: Path) -> None:
    """As those of `own-pairs` to rows that have none: the empty file was refused."""
    (tmp_path / "sft.jsonl").write_text("{}\n")
    (tmp_path / "preference.jsonl").write_text("")
    assert steps_to_train(tmp_path, [rows], None) == ("sft", "dpo")
    assert dpo.pairs_of(tmp_path, [rows]) == [rows / "preference.jsonl"]
