"""Families that our own writer does not know, through llama.cpp's script; and files that crash llama.cpp."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.export.gguf import converter, writer
from empathy_edge.export.gguf.converter import fetch_converter, run_converter
from empathy_edge.formats.gguf_header import tensors_of
from tests.conftest import assert_one_clear_error, run_command
from tests.export.test_families import CASES, SHAPE, logits, make

pytestmark = pytest.mark.slow

ONLY_BY_SCRIPT: dict[str, tuple[str, str, dict[str, Any]]] = {
    "OLMo 2": ("Olmo2ForCausalLM", "Olmo2Config", {}),
    "OLMo 3": ("Olmo3ForCausalLM", "Olmo3Config", {}),
    "LFM2": (
        "Lfm2ForCausalLM",
        "Lfm2Config",
        {"layer_types": ["conv", "full_attention", "conv"], "block_auto_adjust_ff_dim": False},
    ),
    "Qwen 3.5": (
        "Qwen3_5ForCausalLM",
        "Qwen3_5TextConfig",
        {
            "num_hidden_layers": 4,
            "head_dim": 32,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 32,
        },
    ),
    "EXAONE 4": ("Exaone4ForCausalLM", "Exaone4Config", {}),
    "Hunyuan": ("HunYuanDenseV1ForCausalLM", "HunYuanDenseV1Config", {"head_dim": 16}),
}
"""Our name of a family → transformers' classes, and what its tiny model has beside SHAPE."""


@pytest.fixture(scope="session")
def script() -> Path:
    """llama.cpp's script, as users get it."""
    try:
        return fetch_converter()
    except PrerequisiteError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("family", ONLY_BY_SCRIPT)
def test_a_family_by_llama_cpps_script_says_what_torch_says(
    family: str, script: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setitem(CASES, family, ONLY_BY_SCRIPT[family])
    model = make(family, tiny_model, tmp_path / "model")
    with pytest.raises(EmpathyEdgeError, match="our own GGUF writer does not know"):
        writer.write_float(tmp_path / "model", tmp_path / "ours.gguf", "f32")
    run_converter(script, tmp_path / "model", tmp_path / "model.gguf", "f32")
    ids = torch.randint(3, 4000, (1, 64), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = model(input_ids=ids).logits[0].numpy()
    assert wanted.std() > 0.2
    assert np.abs(logits(tmp_path / "model.gguf", ids[0].tolist()) - wanted).max() < 1e-3
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("case", ["llama", "qwen3", "smollm 3", "granite"])
def test_our_writer_writes_the_tensors_of_llama_cpps_script(
    case: str, script: Path, tiny_model: Path, tmp_path: Path
) -> None:
    make(case, tiny_model, tmp_path / "model")
    writer.write_float(tmp_path / "model", tmp_path / "ours.gguf", "f16")
    run_converter(script, tmp_path / "model", tmp_path / "theirs.gguf", "f16")
    ours, theirs = tensors_of(tmp_path / "ours.gguf"), tensors_of(tmp_path / "theirs.gguf")
    assert set(ours) == set(theirs)
    for name in ours:
        assert ours[name].kind == theirs[name].kind, name
        assert _content(tmp_path / "ours.gguf", ours[name]) == _content(
            tmp_path / "theirs.gguf", theirs[name]
        )


def _content(file: Path, place: Any) -> bytes:
    with open(file, "rb") as handle:
        handle.seek(place.begin)
        return handle.read(place.nbytes)


def test_export_takes_the_script_by_itself(
    script: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder with code of its own, which must not run, to a verified Q8_0."""
    monkeypatch.setitem(CASES, "OLMo 2", ONLY_BY_SCRIPT["OLMo 2"])
    make("OLMo 2", tiny_model, tmp_path / "model")
    (tmp_path / "model" / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass T: pass\n")
    for name in ("config.json", "tokenizer_config.json"):
        file = tmp_path / "model" / name
        changed = json.loads(file.read_text()) | {"auto_map": {"AutoTokenizer": ["evil.T", "evil.T"]}}
        file.write_text(json.dumps(changed))
    made = run_command("export", tmp_path / "model", "--to", "gguf-q8_0", "--out", tmp_path / "out")
    assert made.returncode == 0, made.stderr
    assert "llama.cpp's own script converts it" in made.stderr + made.stdout
    assert not (tmp_path / "ran").exists()


def test_a_model_that_nobody_can_convert_is_one_clear_error(
    script: Path, tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": ["NewForCausalLM"]}))
    failed = run_command("export", tmp_path / "model", "--to", "gguf-q8_0", "--out", tmp_path / "out")
    assert_one_clear_error(failed, 2, "cannot convert NewForCausalLM")
    onnx = run_command("export", tmp_path / "model", "--to", "onnx-int4", "--out", tmp_path / "onnx")
    assert_one_clear_error(onnx, 2, "builder cannot make NewForCausalLM", "--to onnx-portable-int8")


def test_offline_the_script_is_named_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(PrerequisiteError, match="is not on this machine, and pip cannot get"):
        fetch_converter()
    assert list((tmp_path / "converters").iterdir()) == []


def test_the_script_is_looked_for_before_a_merge(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": ["NewForCausalLM"]}))
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "0"}
    environment = {**os.environ, **nowhere, "PIP_CONFIG_FILE": os.devnull}
    environment["EMPATHY_EDGE_CACHE"] = str(tmp_path / "cache")
    adapter = ("--adapter", tmp_path / "no-adapter")  # looked at by the merge
    command = ("export", tmp_path / "model", *adapter, "--to", "gguf-q8_0", "--out", tmp_path / "out")
    failed = run_command(*command, env=environment)
    assert_one_clear_error(failed, 3, "is not on this machine, and pip cannot get")
    assert not (tmp_path / "out").exists()


def test_another_archive_is_not_run(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path))
    monkeypatch.setattr(converter, "SHA256", "0" * 64)
    with pytest.raises(EmpathyEdgeError, match="it is not run"):
        fetch_converter()


def test_a_file_that_crashes_llama_cpp_is_one_clear_error(
    script: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """An LFM2 without a layer of attention: llama.cpp aborts, which ended `chat` with a native backtrace."""
    import transformers

    vocabulary = json.loads((tiny_model / "config.json").read_text())["vocab_size"]
    config = transformers.Lfm2Config(
        **{**SHAPE, "vocab_size": vocabulary, "layer_types": ["conv"] * 3, "block_auto_adjust_ff_dim": False}
    )
    transformers.Lfm2ForCausalLM(config).save_pretrained(tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tiny_model / name, tmp_path / "model" / name)
    run_converter(script, tmp_path / "model", tmp_path / "model.gguf", "f16")
    failed = run_command("chat", tmp_path / "model.gguf", input="hello\n")
    assert_one_clear_error(failed, 2, "model.gguf: llama.cpp crashes when it opens this file")
    assert sys.executable not in failed.stderr
