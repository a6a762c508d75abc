"""Bundles for the apps that people have: each gets its files, and what it cannot open is refused."""

import json
import shutil
from importlib import resources
from pathlib import Path

import pytest

from empathy_edge.commands.export import BUNDLE_APPS
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.bundle import check as checking
from empathy_edge.export.bundle import make as making
from empathy_edge.export.bundle.apps import APPS, chosen_apps
from empathy_edge.export.record import ArtifactRecord
from empathy_edge.system.files import read_json
from tests.conftest import assert_one_clear_error, run_command
from tests.export.test_bundle import manifest_again


def record(form: str, adapter: str | None = None) -> ArtifactRecord:
    return ArtifactRecord(
        name="tiny", format=form, quantization="q8_0", file="model.x", sha256="", size_mb=1, adapter=adapter
    )


@pytest.fixture(scope="module")
def bundle(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for every app that opens GGUF, by the real command line."""
    out = tmp_path_factory.mktemp("apps") / "tiny"
    licence = out.parent / "licence.txt"
    licence.write_text("x")
    apps = [name for name, app in APPS.items() if app.format == "gguf"]
    chosen = [part for name in apps for part in ("--for", name)]
    made = run_command(
        "export", "bundle", exported / "gguf-q8_0", *chosen, "--license", licence, "--out", out, "--zip"
    )
    assert made.returncode == 0, made.stderr
    return out


def test_every_app_has_steps_and_an_option() -> None:
    assert set(BUNDLE_APPS) == set(APPS)
    for name in APPS:
        assert (resources.files("empathy_edge.export.bundle") / f"{name}.md").is_file(), name


def test_each_app_gets_its_files(bundle: Path) -> None:
    steps = (bundle / "README.md").read_text()
    for title in ("llama.cpp", "Ollama", "LM Studio", "PocketPal (Android, iOS)"):
        assert f"# gguf-q8_0: how to run it with {title}" in steps
    assert "llama-server -m model.gguf --jinja -c 512 -n 160" in steps
    assert "Stop words: `<|im_end|>`" in steps
    assert not [name for name in ("name", "file", "stop", "context", "lora") if f"{{{name}}}" in steps]
    generation = read_json(bundle / "generation.json")
    preset = read_json(bundle / "gguf-q8_0.preset.json")
    fields = {item["key"]: item["value"] for item in preset["operation"]["fields"]}
    assert fields["llm.prediction.systemPrompt"] == generation["system_prompt"]
    assert fields["llm.prediction.stopStrings"] == generation["stop"] == ["<|im_end|>"]
    assert preset["load"]["fields"] == [{"key": "llm.load.contextLength", "value": 512}]
    for form in (bundle, bundle.with_name("tiny.zip")):
        assert checking.check(form).files == 10


def test_a_bundle_for_other_apps_is_another_bundle(bundle: Path, exported: Path, tmp_path: Path) -> None:
    """Made again with --update, the files of the earlier apps are gone."""
    out = tmp_path / "tiny"
    shutil.copytree(bundle, out)
    command = {"artifact": exported / "gguf-q8_0", "out": out, "licence": bundle.parent / "licence.txt"}
    with pytest.raises(EmpathyEdgeError, match="--update"):
        making.make(**command, apps=["lm-studio"])
    making.make(**command, apps=["lm-studio"], update=True)
    assert not (out / "Modelfile").exists() and (out / "gguf-q8_0.preset.json").is_file()
    assert checking.check(out).files == 9


def test_an_app_that_cannot_open_the_format_is_refused(exported: Path, tmp_path: Path) -> None:
    made = run_command(
        "export", "bundle", exported / "gguf-q8_0", "--for", "executorch", "--out", tmp_path / "out"
    )
    assert_one_clear_error(
        made, 2, "ExecuTorch cannot open gguf-q8_0", "it opens executorch", "--for llama-cpp, --for ollama"
    )
    assert not (tmp_path / "out").exists()
    made = run_command(
        "export", "bundle", exported / "gguf-q8_0", "--for", "kobold", "--out", tmp_path / "out"
    )
    assert made.returncode == 2 and "'ollama'" in made.stderr


def test_which_apps_open_what() -> None:
    assert chosen_apps(record("gguf"), []) == ["llama-cpp"]
    assert chosen_apps(record("onnx-genai"), []) == ["onnxruntime-genai"]
    assert chosen_apps(record("litertlm"), ["litert-lm"]) == ["litert-lm"]
    assert chosen_apps(record("gguf", "adapter.gguf"), ["ollama", "ollama"]) == ["ollama"]
    for app in ("lm-studio", "pocketpal"):
        with pytest.raises(EmpathyEdgeError, match="takes no adapter beside a model"):
            chosen_apps(record("gguf", "adapter.gguf"), [app])
    with pytest.raises(EmpathyEdgeError, match="no app is known here"):
        chosen_apps(record("mlx"), [])


def test_a_modelfile_that_leads_out_of_the_bundle_is_a_fault(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    text = (copy / "Modelfile").read_text()
    (copy / "Modelfile").write_text(text.replace("FROM ./model.gguf", "FROM ../model.gguf"))
    manifest_again(copy)
    found = run_command("export", "check", copy)
    assert_one_clear_error(found, 1, "1 fault", "Modelfile: FROM names '../model.gguf'")


def test_an_adapter_is_in_the_modelfile(exported: Path, tmp_path: Path) -> None:
    """Ollama lays a LoRA on by ADAPTER; the record of an artifact with one says its file."""
    artifact = tmp_path / "gguf-lora-f16"
    shutil.copytree(exported / "gguf-f16", artifact)
    shutil.copyfile(artifact / "model.gguf", artifact / "adapter.gguf")
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["artifact"] |= {"name": "gguf-lora-f16", "method": "lora", "adapter": "adapter.gguf"}
    manifest["outputs"]["adapter.gguf"] = manifest["outputs"]["model.gguf"]
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "licence.txt").write_text("x")
    making.make(
        artifact=artifact,
        out=tmp_path / "out",
        apps=["ollama", "llama-cpp"],
        licence=tmp_path / "licence.txt",
    )
    lines = (tmp_path / "out" / "Modelfile").read_text().splitlines()
    assert lines[:2] == ["FROM ./model.gguf", "ADAPTER ./adapter.gguf"]
    assert (
        "llama-server -m model.gguf --lora adapter.gguf --jinja" in (tmp_path / "out/README.md").read_text()
    )
    assert checking.check(tmp_path / "out").artifact.adapter == "adapter.gguf"
