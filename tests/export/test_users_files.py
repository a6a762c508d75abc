"""`--out .`: an export writes its own files, and leaves those of the user as they are."""

import os
import zipfile
from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export import artifact_files, artifacts
from empathy_edge.export.bundle import check as checking
from empathy_edge.export.bundle import make as making
from empathy_edge.export.gguf import quantize, writer
from empathy_edge.export.gguf.importance import read_imatrix
from empathy_edge.formats.tensor_files import write_safetensors
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import ExportSettings

MINE = "the user's own"


def test_an_importance_matrix_of_the_users_stays(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both files were written over."""
    for name in ("imatrix.gguf", "imatrix.tmp"):
        (tmp_path / name).write_text(MINE)
    base = find_model(str(tiny_model))
    for name in ("gguf-q4_0-imatrix", "gguf-q5_0-imatrix"):
        settings = ExportSettings(artifacts=(name,), calibration_dialogues=4)
        artifacts.make_artifacts(tiny_model, tmp_path, settings, base=base, adapters=[])
        monkeypatch.setattr(artifact_files, "collect", None)  # the matrix of the first one is taken again
    assert (tmp_path / "imatrix.gguf").read_text() == (tmp_path / "imatrix.tmp").read_text() == MINE
    assert "blk.0.attn_q.weight" in read_imatrix(next(tmp_path.glob("imatrix-*/imatrix.gguf")))


def test_a_folder_of_the_users_is_not_written_into(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "imatrix").mkdir()
    (tmp_path / "imatrix" / "imatrix.gguf").write_text(MINE)
    settings = ExportSettings(artifacts=("gguf-q4_0-imatrix",))
    base = find_model(str(tiny_model))
    with pytest.raises(EmpathyEdgeError, match=r"did not make \(imatrix\.gguf\)"):
        artifacts.make_artifacts(tiny_model, tmp_path, settings, base=base, adapters=[])
    assert (tmp_path / "imatrix" / "imatrix.gguf").read_text() == MINE


def test_files_beside_what_is_written_stay(tiny_model: Path, f16: Path, tmp_path: Path) -> None:
    """Each file was written as NAME.tmp first, whoever had one of that name."""
    for name in ("model.tmp", "small.tmp", "tensors.tmp"):
        (tmp_path / name).write_text(MINE)
    writer.write_float(tiny_model, tmp_path / "model.gguf")
    quantize.quantize(f16, tmp_path / "small.gguf", "q8_0", threads=1)
    write_safetensors(tmp_path / "tensors.safetensors", {}, [])
    assert {(tmp_path / name).read_text() for name in ("model.tmp", "small.tmp", "tensors.tmp")} == {MINE}
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_files_beside_a_bundles_zip_stay(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "licence.txt").write_text("x")
    for name in ("b.tmp", ".b.zip.mine.tmp"):
        (tmp_path / name).write_text(MINE)
    (tmp_path / ".b.zip.77.tmp").write_text("of a killed process")
    arguments = {"artifact": exported / "gguf-q8_0", "licence": tmp_path / "licence.txt", "as_zip": True}
    making.make(out=tmp_path / "b", **arguments)
    assert (tmp_path / "b.tmp").read_text() == (tmp_path / ".b.zip.mine.tmp").read_text() == MINE
    assert not (tmp_path / ".b.zip.77.tmp").exists()
    assert checking.check(tmp_path / "b.zip").artifact.name == "gguf-q8_0"
    making.make(out=tmp_path / "b", update=True, **arguments)


def test_a_zip_of_the_users_is_not_replaced(exported: Path, tmp_path: Path) -> None:
    """`--update` is for what was made here."""
    (tmp_path / "licence.txt").write_text("x")
    arguments = {"artifact": exported / "gguf-q8_0", "licence": tmp_path / "licence.txt", "as_zip": True}
    for name in ("photos", "text"):
        file = tmp_path / f"{name}.zip"
        if name == "photos":
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("photos/cat.jpg", MINE)
        else:
            file.write_text(MINE)
        before = file.read_bytes()
        with pytest.raises(EmpathyEdgeError, match="exists already"):
            making.make(out=tmp_path / name, **arguments)
        with pytest.raises(EmpathyEdgeError, match="is no bundle that was made here"):
            making.make(out=tmp_path / name, update=True, **arguments)
        assert file.read_bytes() == before and not (tmp_path / name).exists()


def test_a_bundle_in_the_working_folder(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--out . --zip` was a traceback: `.` has no name."""
    (tmp_path / "licence.txt").write_text("x")
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path / "tiny")
    making.make(artifact=exported / "gguf-q8_0", out=Path(), licence=tmp_path / "licence.txt", as_zip=True)
    assert checking.check(tmp_path / "tiny.zip").artifact.name == "gguf-q8_0"
