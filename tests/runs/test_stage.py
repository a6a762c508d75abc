"""A run's folders: skipped when nothing changed, resumed when cut off, never overwritten unasked."""

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.runs.pipeline import command_to_chat
from empathy_edge.runs.run_folder import RunFolder
from empathy_edge.runs.stage import (
    SCRATCH_OF_EXPORTS,
    Results,
    _files_of_stage,
    _matches,
    locked,
    open_stage,
    results_of,
)
from empathy_edge.system import hash_cache
from empathy_edge.system.files import MANIFEST, MARKER, write_atomically
from empathy_edge.system.machine import require_space
from tests.conftest import assert_one_clear_error, dialogue_row, run_command, write_rows

FILES = ("cake.txt", "half.txt", "crumbs/*")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.txt"
    path.write_text("one")
    return path


class Baked(Results):
    """What a stage of these tests finds."""

    layers: int


def _made(folder: Path, data: Path, **settings: object) -> None:
    stage = open_stage(folder, "bake", settings=settings, inputs={"data": data}, files=FILES)
    (folder / "cake.txt").write_text("cake")
    stage.finish(Baked(layers=3))


def test_done_stage_is_skipped_even_when_its_input_moved(tmp_path: Path, data: Path) -> None:
    _made(tmp_path / "out", data, heat=180)
    moved = data.rename(tmp_path / "elsewhere.txt")
    again = open_stage(tmp_path / "out", "bake", settings={"heat": 180}, inputs={"data": moved}, files=FILES)
    assert again.done and again.results(Baked) == results_of(tmp_path / "out", Baked) == Baked(layers=3)
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["outputs"]["cake.txt"]["bytes"] == 4
    assert manifest["versions"]["numpy"] and manifest["machine"]["cores"]
    assert str(tmp_path) not in json.dumps(manifest)


def test_what_a_stage_could_not_delete_is_no_output(tmp_path: Path, data: Path) -> None:
    files = (*FILES, "scratch/*")
    stage = open_stage(tmp_path / "out", "bake", settings={}, inputs={"data": data}, files=files)
    (tmp_path / "out" / "cake.txt").write_text("cake")
    scratch = tmp_path / "out" / "scratch"
    scratch.mkdir()
    (scratch / ".nfs0001").write_text("mapped")
    stage.finish(Baked(layers=3))
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert list(manifest["outputs"]) == ["cake.txt"]
    again = {"settings": {"heat": 200}, "inputs": {"data": data}, "files": files, "update": True}
    (scratch / "mine.txt").write_text("mine")
    with pytest.raises(EmpathyEdgeError, match=r"mine\.txt: lies in a folder that is to be made again"):
        open_stage(tmp_path / "out", "bake", **again)
    (scratch / "mine.txt").unlink()
    assert not open_stage(tmp_path / "out", "bake", **again).done and not scratch.exists()
    _made(tmp_path / "other", data)
    assert open_stage(tmp_path / "other", "bake", settings={}, inputs={"data": data}, files=FILES).done


def test_changed_settings_need_update(tmp_path: Path, data: Path) -> None:
    _made(tmp_path / "out", data, heat=180)
    with pytest.raises(EmpathyEdgeError, match=r"heat: 180 then, 200 now(.|\n)*--update"):
        open_stage(tmp_path / "out", "bake", settings={"heat": 200}, inputs={"data": data}, files=FILES)
    assert (tmp_path / "out" / "cake.txt").exists()
    stage = open_stage(
        tmp_path / "out", "bake", settings={"heat": 200}, inputs={"data": data}, files=FILES, update=True
    )
    assert not stage.done and not (tmp_path / "out" / "cake.txt").exists()


def test_changed_input_is_named(tmp_path: Path, data: Path) -> None:
    _made(tmp_path / "out", data)
    data.write_text("two")
    with pytest.raises(EmpathyEdgeError, match=r"inputs \(data changed\)"):
        open_stage(tmp_path / "out", "bake", settings={}, inputs={"data": data}, files=FILES)


def test_update_does_not_delete_what_others_put_there(tmp_path: Path, data: Path) -> None:
    _made(tmp_path / "out", data, heat=180)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(EmpathyEdgeError, match=r"notes\.txt"):
        open_stage(
            tmp_path / "out", "bake", settings={"heat": 200}, inputs={"data": data}, files=FILES, update=True
        )
    assert (tmp_path / "out" / "cake.txt").exists()


@pytest.mark.parametrize("is_complete", [True, False])
def test_what_the_user_puts_there_while_a_stage_runs_is_not_the_stages(
    is_complete: bool, tmp_path: Path, data: Path
) -> None:
    """The manifest listed every file of the folder, and a later --update deleted all that it listed."""
    out, notes = tmp_path / "out", tmp_path / "out" / "notes.txt"
    again = {"inputs": {"data": data}, "files": FILES}
    stage = open_stage(out, "bake", settings={}, **again)
    write_atomically(out / "cake.txt", "cake")
    if is_complete:
        write_atomically(notes, "mine")
    stage.finish(is_complete=is_complete)
    if not is_complete:
        write_atomically(notes, "mine")
        stage = open_stage(out, "bake", settings={}, **again)
        assert stage.resumed
        stage.finish()
    manifest = json.loads((out / MANIFEST).read_text())
    assert list(manifest["outputs"]) == ["cake.txt"] and "left" not in manifest
    with pytest.raises(EmpathyEdgeError, match=r"notes\.txt: lies in a folder that is to be made again"):
        open_stage(out, "bake", settings={"heat": 200}, **again, update=True)
    assert notes.read_text() == "mine" and (out / "cake.txt").exists()
    notes.unlink()
    assert not open_stage(out, "bake", settings={"heat": 200}, **again, update=True).done


def test_what_the_user_puts_there_while_a_stage_runs_is_no_input_of_the_next(
    tmp_path: Path, data: Path
) -> None:
    stage = open_stage(tmp_path / "cake", "bake", settings={}, inputs={"data": data}, files=FILES)
    write_atomically(tmp_path / "cake" / "cake.txt", "cake")
    write_atomically(tmp_path / "cake" / "notes.txt", "mine")
    stage.finish()
    inputs = {"cake": tmp_path / "cake"}
    open_stage(tmp_path / "out", "eat", settings={}, inputs=inputs, files=()).finish()
    (tmp_path / "cake" / "notes.txt").unlink()
    assert open_stage(tmp_path / "out", "eat", settings={}, inputs=inputs, files=()).done


def test_what_the_user_keeps_stays_where_a_stage_fails(tmp_path: Path, data: Path) -> None:
    """The folder `scratch` was deleted, whether the stage keeps one or not."""
    stage = open_stage(tmp_path / "out", "bake", settings={}, inputs={"data": data}, files=FILES)
    with pytest.raises(EmpathyEdgeError, match="no flour"), stage.nothing_left_of_a_failure():
        write_atomically(tmp_path / "out" / "scratch" / "notes.txt", "mine")
        raise EmpathyEdgeError("no flour")
    assert (tmp_path / "out" / "scratch" / "notes.txt").read_text() == "mine"


def test_a_models_folder_has_the_files_of_its_tokenizer(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    files = ("model*", "*.json", "merges.txt", "tokenizer.model", *SCRATCH_OF_EXPORTS)
    stage = open_stage(out, "export", settings={}, inputs={"data": data}, files=files)
    ours = ["merges.txt", "model.gguf", "tokenizer.json", "tokenizer.model"]
    for name in (*ours, "notes.txt", ".building-x1/out/model.onnx"):
        write_atomically(out / name, "x")
    stage.finish(artifact={"sha256": "x"})
    manifest = json.loads((out / MANIFEST).read_text())
    assert list(manifest["outputs"]) == ours and manifest["left"] == [".building-x1/out/model.onnx"]


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        ("cake.txt", True),
        ("crumbs/1.txt", True),
        ("crumbs/deep/1.txt", True),
        (".cake.txt.77.tmp", True),
        ("crumbs/.1.txt.77.tmp", True),
        (f".{MANIFEST}.77.tmp", True),
        (f"samples/.{MARKER}.77.tmp", True),
        ("notes.txt", False),
        ("mine/cake.txt", False),
        (".notes.txt.77.tmp", False),
        (".cake.txt.tmp", False),
        ("cake.txt.77.tmp", False),
    ],
)
def test_which_files_are_the_stages(name: str, is_ours: bool) -> None:
    assert _matches(name, FILES) is is_ours


@pytest.mark.slow
def test_stages_declare_all_that_they_write(finished_run: Path) -> None:
    """What a stage does not declare is taken for the user's, and is in no manifest."""
    manifests = sorted(finished_run.rglob(MANIFEST))
    assert len(manifests) > 10
    for file in manifests:
        written = {path.relative_to(file.parent).as_posix() for path in _files_of_stage(file.parent)}
        assert written == set(json.loads(file.read_text())["outputs"]), file


def test_cut_off_stage_is_resumed(tmp_path: Path, data: Path) -> None:
    open_stage(tmp_path / "out", "bake", settings={}, inputs={"data": data}, files=FILES)
    (tmp_path / "out" / "half.txt").write_text("half")
    stage = open_stage(tmp_path / "out", "bake", settings={}, inputs={"data": data}, files=FILES)
    assert stage.resumed and not stage.done and (tmp_path / "out" / "half.txt").exists()
    assert (tmp_path / "out" / MARKER).exists()


@pytest.mark.parametrize("text", ["eaten away", "kace"])
def test_damaged_output_is_noticed(text: str, tmp_path: Path, data: Path) -> None:
    """The review's B7: a file that was replaced by one of the same size was not noticed."""
    _made(tmp_path / "out", data)
    (tmp_path / "out" / "cake.txt").write_text(text)
    with pytest.raises(EmpathyEdgeError, match="missing or has changed"):
        open_stage(tmp_path / "out", "bake", settings={}, inputs={"data": data}, files=FILES)


def test_an_input_folder_is_hashed_as_it_is_now(tmp_path: Path, data: Path) -> None:
    """The review's B7: the hash of a stage's folder was that of its manifest, whatever the files were."""
    _made(tmp_path / "cake", data)
    inputs = {"cake": tmp_path / "cake"}
    open_stage(tmp_path / "out", "eat", settings={}, inputs=inputs, files=()).finish()
    (tmp_path / "cake" / "cake.txt").write_text("kace")
    with pytest.raises(EmpathyEdgeError, match=r"inputs \(cake changed\)"):
        open_stage(tmp_path / "out", "eat", settings={}, inputs=inputs, files=())


def test_a_stage_that_failed_does_not_block_the_corrected_command(tmp_path: Path, data: Path) -> None:
    """The review's B7: the marker of the failed stage was taken for a result with other settings."""
    open_stage(tmp_path / "out", "bake", settings={"heat": 9}, inputs={"data": data}, files=FILES)
    _made(tmp_path / "out", data, heat=180)


def test_clearing_an_unfinished_stage_keeps_what_it_did_not_write(tmp_path: Path, data: Path) -> None:
    """The review's B7: everything in the folder was deleted, the user's files too."""
    open_stage(tmp_path / "out", "bake", settings={"heat": 9}, inputs={"data": data}, files=FILES)
    for name in ("crumbs/1.txt", "half.txt", ".cake.txt.77.tmp", "notes.txt"):
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("x")
    again = {"settings": {"heat": 180}, "inputs": {"data": data}, "files": FILES}
    with pytest.raises(EmpathyEdgeError, match="--update"):
        open_stage(tmp_path / "out", "bake", **again)
    with pytest.raises(EmpathyEdgeError, match=r"notes\.txt: lies in a folder"):
        open_stage(tmp_path / "out", "bake", **again, update=True)
    assert (tmp_path / "out" / "half.txt").exists()
    (tmp_path / "out" / "notes.txt").unlink()
    open_stage(tmp_path / "out", "bake", **again, update=True)
    assert [item.name for item in (tmp_path / "out").iterdir()] == [MARKER]


def test_nothing_stays_of_a_process_that_was_killed_while_it_wrote(tmp_path: Path, data: Path) -> None:
    again = {"settings": {}, "inputs": {"data": data}, "files": FILES}
    open_stage(tmp_path / "out", "bake", **again)
    for name in (".cake.txt.77.tmp", "crumbs/.1.txt.77.tmp"):
        write_atomically(tmp_path / "out" / name, "half")
    stage = open_stage(tmp_path / "out", "bake", **again)
    assert stage.resumed
    write_atomically(tmp_path / "out" / "cake.txt", "cake")
    (tmp_path / "out" / ".mine.tmp").write_text("the user's")
    stage.finish()
    assert [file.name for file in (tmp_path / "out").rglob("*.tmp")] == [".mine.tmp"]


@pytest.mark.slow
def test_a_refused_run_leaves_the_record_of_the_former_one(tmp_path: Path, tiny_recipe: Path) -> None:
    """The review's B7: `run.json` showed settings that had made nothing."""
    out = tmp_path / "run"
    assert run_command("run", tiny_recipe, "--out", out, "--until", "distill").returncode == 0
    before = (out / "run.json").read_text()
    other = tmp_path / "other.yaml"
    other.write_text(tiny_recipe.read_text().replace("max_pairs: 12", "max_pairs: 7"))
    assert other.read_text() != tiny_recipe.read_text()
    result = run_command("run", other, "--out", out, "--until", "distill")
    assert_one_clear_error(result, 2, "max_pairs", "--update")
    with locked(out):
        assert run_command("run", other, "--out", out, "--until", "distill", "--update").returncode == 2
    assert (out / "run.json").read_text() == before


def test_hashes_of_large_files_are_kept_and_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "weights"
    file.write_bytes(b"1" * hash_cache.MIN_BYTES)
    old = time.time() - 60
    os.utime(file, (old, old))
    first = hash_cache.sha256_file(file)
    assert hash_cache.sha256_file(file) == first == hashlib.sha256(file.read_bytes()).hexdigest()
    with sqlite3.connect(tmp_path / "cache" / "hashes.sqlite") as database:
        database.execute("UPDATE hashes SET sha256 = 'kept'")
    assert hash_cache.sha256_file(file) == "kept"
    monkeypatch.setattr(hash_cache, "_reads_again", True)  # --verify-inputs
    assert hash_cache.sha256_file(file) == first
    monkeypatch.setattr(hash_cache, "_reads_again", False)
    file.unlink()
    file.write_bytes(b"2" * hash_cache.MIN_BYTES)
    os.utime(file, (old, old))
    assert hash_cache.sha256_file(file) not in ("kept", first)
    (tmp_path / "cache" / "hashes.sqlite").write_bytes(b"no database")
    assert len(hash_cache.sha256_file(file)) == 64


def test_foreign_folders_are_refused(tmp_path: Path, data: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    with pytest.raises(EmpathyEdgeError, match=r"did not make \(cat\.jpg\)"):
        open_stage(tmp_path / "photos", "bake", settings={}, inputs={"data": data}, files=FILES)
    _made(tmp_path / "out", data)
    with pytest.raises(EmpathyEdgeError, match="belongs to bake, not to fry"):
        open_stage(tmp_path / "out", "fry", settings={}, inputs={"data": data}, files=FILES)


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


@pytest.mark.parametrize(
    ("verdicts", "chosen"),
    [
        (("PASS", "PASS", "UNDECIDED"), "gguf-q8_0"),
        (("PASS", "UNDECIDED", "FAIL"), "gguf-f16"),
        (("FAIL", "UNDECIDED", "UNDECIDED"), "gguf-q8_0"),
    ],
)
def test_a_run_ends_with_the_artifact_to_talk_to(
    tmp_path: Path, verdicts: tuple[str, ...], chosen: str
) -> None:
    folder = RunFolder(tmp_path)
    names, bounds, sizes = ("gguf-f16", "gguf-q8_0", "gguf-q4_0"), (0.0, 0.3, 0.1), (16, 8, 4)
    artifacts = []
    for name, verdict, bound, size in zip(names, verdicts, bounds, sizes, strict=True):
        artifacts.append({"artifact": name, "verdict": verdict, "win_rate_low": bound})
        write_atomically(folder.artifact(name) / "model.gguf", "x" * size)
    write_atomically(folder.check / "check.json", json.dumps({"artifacts": artifacts}))
    assert command_to_chat(folder) == f"empathy-edge chat {folder.artifact(chosen)}"
