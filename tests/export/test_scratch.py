"""What a killed export leaves in its folder is removed by the next one, and is no part of the artifact."""

import json
from pathlib import Path

import pytest

from empathy_edge.export import artifacts, scratch
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import ExportSettings
from empathy_edge.system.files import MANIFEST, MARKER
from tests.models.test_adapters import lora_config, write_adapter

FOLDERS = {
    # a folder's name: whether an export made it for itself
    ".building-a1b2c3d4": True,
    ".converting-k_3vq0zz": True,
    ".exporting-abcdefgh": True,
    ".packing-00000000": True,
    ".parts-x1y2z3w4": True,
    ".source-_a_b_c_d": True,
    ".source-abc": False,
    ".source-abcdefghi": False,
    ".source-ABCDEFGH": False,
    "source-abcdefgh": False,
    ".source": False,
    ".git": False,
    "scratch": False,
}
FILES = {
    ".model.gguf.77.tmp": True,
    ".model-00001-of-00002.safetensors.4194304.tmp": True,
    ".manifest.json.1.tmp": True,
    "model.tmp": False,
    ".model.tmp": False,
    ".model.gguf.tmp": False,
    "model.gguf.77.tmp": False,
    ".model.gguf.77.tmp.bak": False,
}


@pytest.mark.parametrize("name", FOLDERS)
def test_which_folders_are_ours(name: str, tmp_path: Path) -> None:
    (tmp_path / name / "model").mkdir(parents=True)
    (tmp_path / name / "model" / "config.json").write_text("{}")
    scratch.remove_scratch(tmp_path)
    assert (tmp_path / name).exists() is not FOLDERS[name]


@pytest.mark.parametrize("name", FILES)
def test_which_files_are_ours(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("half")
    scratch.remove_scratch(tmp_path)
    assert (tmp_path / name).exists() is not FILES[name]


def test_what_a_manifest_lists_and_what_links_lead_to_stays(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "artifact", tmp_path / "elsewhere"
    for place in (folder / ".source-abcdefgh", folder / ".source-aaaaaaaa", elsewhere):
        place.mkdir(parents=True)
        (place / "weights").write_text("weights")
    (folder / ".source-aaaaaaaa" / "linked").symlink_to(elsewhere)
    (folder / ".parts-abcdefgh").symlink_to(elsewhere)
    scratch.remove_scratch(folder, [".source-abcdefgh/weights", "model.gguf"])
    assert sorted(item.name for item in folder.iterdir()) == [".parts-abcdefgh", ".source-abcdefgh"]
    assert (elsewhere / "weights").read_text() == "weights"


def _leave_scratch(folder: Path) -> None:
    for name in (".source-abcdefgh/model/config.json", ".building-12345678/out/model.onnx"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("{}")
    (folder / ".model.gguf.77.tmp").write_text("half")


def test_an_artifact_has_nothing_of_the_killed_process_before_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scratch folders were listed in the manifest, and so bundled."""

    def killed(_: object, folder: Path, *__: object) -> None:
        _leave_scratch(folder)
        raise KeyboardInterrupt

    settings, base = ExportSettings(artifacts=("gguf-f16",)), find_model(str(tiny_model))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(artifacts, "write_files", killed)
        artifacts.make_artifacts(tiny_model, tmp_path, settings, base=base, adapters=[])
    folder = tmp_path / "gguf-f16"
    assert (folder / MARKER).is_file() and (folder / ".source-abcdefgh").is_dir()
    for _ in range(2):  # the second time it is finished already
        artifacts.make_artifacts(tiny_model, tmp_path, settings, base=base, adapters=[])
        manifest = json.loads((folder / MANIFEST).read_text())
        assert not [name for name in (*manifest["outputs"], *manifest.get("left", ())) if name[0] == "."]
        assert not [item.name for item in folder.iterdir() if item.name.startswith(".")]
        _leave_scratch(folder)


def test_an_artifact_that_was_cut_off_is_made_with_other_settings(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--update` refused the folder: "was not made by empathy-edge"."""
    settings, base = ExportSettings(artifacts=("gguf-f16",)), find_model(str(tiny_model))

    def killed(_: object, folder: Path, *__: object) -> None:
        _leave_scratch(folder)
        (folder / "merges.txt").write_text("of the builder")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(artifacts, "write_files", killed)
        artifacts.make_artifacts(tiny_model, tmp_path, settings, base=base, adapters=[])
    marker = tmp_path / "gguf-f16" / MARKER
    marker.write_text(marker.read_text().replace('"fingerprint": "', '"fingerprint": "another'))
    artifacts.make_artifacts(tiny_model, tmp_path, settings, base=base, adapters=[], update=True)
    assert not [item.name for item in (tmp_path / "gguf-f16").iterdir() if item.name.startswith(".")]


def test_a_merge_has_nothing_of_the_killed_process_before_it(tiny_model: Path, tmp_path: Path) -> None:
    from empathy_edge.export import merged

    adapter, out = tmp_path / "adapter", tmp_path / "merged"
    write_adapter(tiny_model, lora_config(), adapter)
    base = find_model(str(tiny_model))
    merged.make(base=base, adapters=[adapter], out=out, tolerance=1e-2)
    (out / ".model.safetensors.77.tmp").write_text("half")
    merged.make(base=base, adapters=[adapter], out=out, tolerance=1e-2)
    assert not list(out.glob("*.tmp"))
