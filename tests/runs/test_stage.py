"""A run's folders: skipped when nothing changed, resumed when cut off, never overwritten unasked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.runs.stage import MARKER, Results, locked, open_stage, results_of
from empathy_edge.system.files import MANIFEST, write_atomically
from empathy_edge.system.machine import require_space
from tests.conftest import assert_one_clear_error, dialogue_row, run_command, write_rows


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.txt"
    path.write_text("one")
    return path


class Baked(Results):
    """What a stage of these tests finds."""

    layers: int


def _made(folder: Path, data: Path, **settings: object) -> None:
    stage = open_stage(folder, "bake", settings=settings, inputs={"data": data})
    (folder / "cake.txt").write_text("cake")
    stage.finish(Baked(layers=3))


def test_done_stage_is_skipped_even_when_its_input_moved(tmp_path: Path, data: Path) -> None:
    _made(tmp_path / "out", data, heat=180)
    moved = data.rename(tmp_path / "elsewhere.txt")
    again = open_stage(tmp_path / "out", "bake", settings={"heat": 180}, inputs={"data": moved})
    assert again.done and again.results(Baked) == results_of(tmp_path / "out", Baked) == Baked(layers=3)
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["outputs"]["cake.txt"]["bytes"] == 4
    assert manifest["versions"]["numpy"] and manifest["machine"]["cores"]
    assert str(tmp_path) not in json.dumps(manifest)


def test_changed_settings_need_update(tmp_path: Path, data: Path) -> None:
    _made(tmp_path / "out", data, heat=180)
    with pytest.raises(EmpathyEdgeError, match=r"heat: 180 then, 200 now(.|\n)*--update"):
        open_stage(tmp_path / "out", "bake", settings={"heat": 200}, inputs={"data": data})
    assert (tmp_path / "out" / "cake.txt").exists()
    stage = open_stage(tmp_path / "out", "bake", settings={"heat": 200}, inputs={"data": data}, update=True)
    assert not stage.done and not (tmp_path / "out" / "cake.txt").exists()


def test_changed_input_is_named(tmp_path: Path, data: Path) -> None:
    _made(tmp_path / "out", data)
    data.write_text("two")
    with pytest.raises(EmpathyEdgeError, match=r"inputs \(data changed\)"):
        open_stage(tmp_path / "out", "bake", settings={}, inputs={"data": data})


def test_update_does_not_delete_what_others_put_there(tmp_path: Path, data: Path) -> None:
    _made(tmp_path / "out", data, heat=180)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(EmpathyEdgeError, match=r"notes\.txt"):
        open_stage(tmp_path / "out", "bake", settings={"heat": 200}, inputs={"data": data}, update=True)
    assert (tmp_path / "out" / "cake.txt").exists()


def test_cut_off_stage_is_resumed(tmp_path: Path, data: Path) -> None:
    open_stage(tmp_path / "out", "bake", settings={}, inputs={"data": data})
    (tmp_path / "out" / "half.txt").write_text("half")
    stage = open_stage(tmp_path / "out", "bake", settings={}, inputs={"data": data})
    assert stage.resumed and not stage.done and (tmp_path / "out" / "half.txt").exists()
    assert (tmp_path / "out" / MARKER).exists()


def test_damaged_output_is_noticed(tmp_path: Path, data: Path) -> None:
    _made(tmp_path / "out", data)
    (tmp_path / "out" / "cake.txt").write_text("eaten away")
    with pytest.raises(EmpathyEdgeError, match="missing or has changed"):
        open_stage(tmp_path / "out", "bake", settings={}, inputs={"data": data})


def test_foreign_folders_are_refused(tmp_path: Path, data: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    with pytest.raises(EmpathyEdgeError, match=r"did not make \(cat\.jpg\)"):
        open_stage(tmp_path / "photos", "bake", settings={}, inputs={"data": data})
    _made(tmp_path / "out", data)
    with pytest.raises(EmpathyEdgeError, match="belongs to bake, not to fry"):
        open_stage(tmp_path / "out", "fry", settings={}, inputs={"data": data})


def test_run_folder_of_another_recipe(tmp_path: Path, tiny_recipe: Path) -> None:
    out = tmp_path / "run"
    assert run_command("run", tiny_recipe, "--out", out, "--until", "distill").returncode == 0
    other = tmp_path / "other.yaml"
    other.write_text(tiny_recipe.read_text().replace("name: tiny", "name: other"))
    before = sorted(out.rglob("*"))
    assert_one_clear_error(run_command("run", other, "--out", out), 2, "'tiny'", "'other'")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.txt").write_text("x")
    assert_one_clear_error(run_command("run", tiny_recipe, "--out", tmp_path / "docs"), 2, "not touched")
    assert sorted(out.rglob("*")) == before


def test_two_processes_do_not_share_a_run(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        script = (
            "import sys, pathlib; from empathy_edge.runs.stage import locked; "
            "locked(pathlib.Path(sys.argv[1])).__enter__()"
        )
        command = [sys.executable, "-c", script, str(tmp_path / "run")]
        other = subprocess.run(command, capture_output=True, text=True)
    assert other.returncode != 0 and "another empathy-edge process" in other.stderr


def test_atomic_write_leaves_the_old_file_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.json"]


def test_space_is_checked_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="Not enough disk space for a cake"):
        require_space(tmp_path / "not" / "there", 1e12, "a cake")


@pytest.fixture
def small_disk(tmp_path: Path):
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk_is_one_clear_error(small_disk: Path, tmp_path: Path) -> None:
    rows = [dialogue_row(id=f"d{number}", utterance="word " * 200) for number in range(200)]
    rows += [
        dialogue_row(id=f"s{number}", responses=[{"source": "editor", "text": "Oh.", "rating": 3}])
        for number in range(9)
    ]
    data = write_rows(tmp_path / "rows.jsonl", *rows)
    arguments = ["distill", "--data", data, "--reference", "first-draft", "--model", "editor", "--out"]
    assert_one_clear_error(
        run_command(*arguments, small_disk / "out"), 3, "disk is full", "run the same command again"
    )
    assert not list(small_disk.rglob("*.tmp")) and not (small_disk / "out" / MANIFEST).exists()
    assert_one_clear_error(
        run_command("run", "quickstart", "--out", small_disk / "run"), 3, "Not enough disk space"
    )


def test_results_of_another_kind_are_one_clear_error(tmp_path: Path, data: Path) -> None:
    class Other(Results):
        """What another version of the stage found."""

        slices: int

    _made(tmp_path / "out", data, heat=180)
    with pytest.raises(EmpathyEdgeError, match=r"another version of empathy-edge; make the stage again"):
        results_of(tmp_path / "out", Other)
