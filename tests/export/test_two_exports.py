"""Two commands that write the same files at once: the second one waits, or ends with one clear error."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export import artifacts, choices
from empathy_edge.export.bundle import make as making
from empathy_edge.models import from_gguf
from empathy_edge.models.find import checkpoint_of, find_model
from empathy_edge.system.files import MARKER
from empathy_edge.system.hash_cache import sha256_file
from empathy_edge.system.locks import holding, lock_in_cache
from tests.conftest import assert_one_clear_error, run_command


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    for module in (artifacts, choices, from_gguf):
        monkeypatch.setattr(module, "say", lines.append)
    return lines


def _while_another_works(lock: Path, work: Callable[[], Any], said: list[str], before_its_end: Any) -> Any:
    """What `work` gives after it waited for another process; `before_its_end` is what that one does."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1) as second:
        with FileLock(lock):
            running: Future[Any] = second.submit(work)
            while not any("Waiting for another command" in line for line in said):
                assert not running.done(), f"did not wait: {said}"
                wait([running], timeout=0.05)
            before_its_end()
        return running.result()


def test_a_second_export_into_a_folder_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """Both wrote the same files, and one took the other's half for its own."""
    out = tmp_path / "out"
    lock_in_cache(out).parent.mkdir(parents=True, exist_ok=True)
    command = ("export", tiny_model, "--to", "gguf-f16", "--verify", "none", "--out", out)
    with FileLock(lock_in_cache(out)):
        assert_one_clear_error(run_command(*command), 2, "another export is writing there", "another --out")
    assert not out.exists()
    done = run_command(*command)
    assert done.returncode == 0, done.stderr


def test_choose_waits_for_an_export_into_its_folder(
    tiny_model: Path, exported: Path, tmp_path: Path, said: list[str]
) -> None:
    out = tmp_path / "out"
    maker = choices.ArtifactMaker(find_model(str(tiny_model)), out)

    def another_makes_it() -> None:
        shutil.copytree(exported / "gguf-f16", out / "gguf-f16")

    folder = _while_another_works(lock_in_cache(out), lambda: maker.make("gguf-f16"), said, another_makes_it)
    assert folder == out / "gguf-f16" and f"that writes into {out}" in "".join(said)


def test_a_reference_that_another_command_converts_is_waited_for(
    tiny_model: Path, exported: Path, own_cache: Path, said: list[str]
) -> None:
    reference = find_model(str(tiny_model))
    folder = own_cache / "references" / reference.identity[:32]

    def another_makes_it() -> None:
        shutil.copytree(exported / "gguf-f16", folder / "gguf-f16")

    lock = folder.with_name(f"{folder.name}.lock")
    found = _while_another_works(lock, lambda: artifacts.reference_gguf(reference), said, another_makes_it)
    assert found == folder / "gguf-f16"
    assert not any(line.startswith("  gguf-f16:") for line in said), "it was made once more"


def test_a_gguf_that_another_command_converts_is_waited_for(
    exported: Path, tiny_model: Path, own_cache: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = exported / "gguf-f16" / "model.gguf"
    folder = own_cache / "checkpoints" / sha256_file(file)[:16]
    monkeypatch.setattr(from_gguf, "_write_checkpoint", None)  # is not called
    found = _while_another_works(
        folder.with_name(f".{folder.name}.lock"),
        lambda: checkpoint_of(str(file)),
        said,
        lambda: shutil.copytree(tiny_model, folder),
    )
    assert found.path == folder


def test_a_conversion_removes_what_a_killed_one_left(exported: Path, own_cache: Path) -> None:
    file = exported / "gguf-f16" / "model.gguf"
    name = sha256_file(file)[:16]
    for left in (f".converting-{name}-abcdefgh", ".converting-another-abcdefgh"):
        (own_cache / "checkpoints" / left).mkdir(parents=True)
    checkpoint_of(str(file))
    left = [item.name for item in (own_cache / "checkpoints").iterdir() if "converting" in item.name]
    assert left == [".converting-another-abcdefgh"]


def test_a_second_bundle_into_a_folder_is_refused(exported: Path, own_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "licence.txt").write_text("x")
    out = tmp_path / "bundle"
    lock = lock_in_cache(out)
    lock.parent.mkdir(parents=True)
    with (
        FileLock(lock),
        pytest.raises(EmpathyEdgeError, match="bundle: another command is writing this bundle"),
    ):
        making.make(artifact=exported / "gguf-q8_0", out=out, licence=tmp_path / "licence.txt")
    assert not out.exists()


def test_a_lock_that_cannot_be_written_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    def busy() -> None:
        raise AssertionError

    with holding(tmp_path / "file" / "lock", busy):
        pass
    with holding(tmp_path / "lock", busy):
        pass
    with holding(tmp_path / "lock", busy):
        pass  # free again


def test_an_export_leaves_nothing_beside_its_stages(exported: Path, tiny_model: Path, tmp_path: Path) -> None:
    """In a folder that is not there yet, and in one of an earlier export."""
    shutil.copytree(exported / "gguf-f16", tmp_path / "old" / "gguf-f16")
    for out in (tmp_path / "new", tmp_path / "old"):
        done = run_command("export", tiny_model, "--to", "gguf-f16", "--out", out)
        assert done.returncode == 0, done.stderr
        assert sorted(os.listdir(out)) == ["gguf-f16", "verify"] and not list(out.rglob(MARKER))
