"""Gemma 3 as the hub has it: values that only transformers knows, and a token without a row of embeddings."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export import artifacts, merged, verify
from empathy_edge.export.config_defaults import values_by_transformers
from empathy_edge.export.gguf import families, writer
from empathy_edge.formats.gguf_header import metadata_of
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import ExportSettings
from tests.models.test_adapters import lora_config, write_adapter

IMAGE_TOKEN = "<image_soft_token>"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def as_the_hub_has_it(vocabulary: int) -> dict[str, Any]:
    """The configuration of google/gemma-3-4b-it in miniature, with the values that its text part has."""
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "initializer_range": 0.02,
        "mm_tokens_per_image": 4,
        "model_type": "gemma3",
        "text_config": {
            "hidden_size": 64,
            "initializer_range": 0.03,
            "intermediate_size": 128,
            "model_type": "gemma3_text",
            "num_hidden_layers": 7,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 16,
            "vocab_size": vocabulary,
        },
        "torch_dtype": "float32",
        "vision_config": {
            "hidden_size": 32,
            "image_size": 28,
            "intermediate_size": 64,
            "model_type": "siglip_vision_model",
            "num_attention_heads": 2,
            "num_hidden_layers": 1,
            "patch_size": 14,
        },
    }


@pytest.fixture(scope="module")
def gemma(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Gemma 3 that also sees, with the configuration as the hub has it."""
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    folder = tmp_path_factory.mktemp("gemma") / "model"
    vocabulary = json.loads((tiny_model / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    config = Gemma3Config.from_dict(as_the_hub_has_it(vocabulary))
    Gemma3ForConditionalGeneration(config).eval().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(as_the_hub_has_it(vocabulary)))
    for name in TOKENIZER:
        shutil.copyfile(tiny_model / name, folder / name)
    return folder


def with_token(base: Path, folder: Path, token: str = IMAGE_TOKEN) -> Path:
    """A copy of a model whose tokenizer has one token more than there are rows of embeddings."""
    from transformers import AutoTokenizer

    shutil.copytree(base, folder)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([token], special_tokens=True)
    tokenizer.save_pretrained(folder)
    return folder


def test_what_the_hub_leaves_out_is_transformers_default(gemma: Path, tmp_path: Path) -> None:
    """It was a KeyError; with rope_theta in the file alone, the rope's base would have been another one."""
    results = artifacts.run(
        base=find_model(str(gemma)),
        adapters=[],
        out=tmp_path,
        settings=ExportSettings(artifacts=("gguf-f32",)),
    )
    row = results.verify.artifacts[0]
    assert row.verdict == "PASS" and row.mean_kl < 1e-5
    expected = {
        "gemma3.attention.head_count": 8,
        "gemma3.attention.head_count_kv": 4,
        "gemma3.attention.key_length": 256,
        "gemma3.context_length": 131072,
        "gemma3.rope.freq_base": 1e6,
        "gemma3.rope.scaling.factor": 8.0,
    }
    assert metadata_of(tmp_path / "gguf-f32" / "model.gguf", expected) == expected


@pytest.mark.slow
def test_calibrated_artifacts_of_a_model_that_also_sees(gemma: Path, tmp_path: Path) -> None:
    """Its layers were not found."""
    settings = ExportSettings(
        artifacts=("gguf-q4_0-gptq", "gguf-q4_0-imatrix", "gguf-8mb"), calibration_dialogues=4
    )
    base = find_model(str(gemma))
    folders = artifacts.make_artifacts(gemma, tmp_path / "out", settings, base=base, adapters=[])
    verify.run(checkpoint=gemma, artifacts=folders, out=tmp_path / "verify")


def test_a_value_in_the_file_comes_before_the_default(gemma: Path, tmp_path: Path) -> None:
    config = json.loads((gemma / "config.json").read_text())
    config["text_config"] |= {"head_dim": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = families.read_config(tmp_path)
    assert (found["head_dim"], found["hidden_size"], found["num_attention_heads"]) == (32, 64, 8)
    assert found["layer_types"].count("full_attention") == 1
    assert found["architectures"] == ["Gemma3ForConditionalGeneration"]


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"model_type": None},
        {"model_type": "of_tomorrow", "hidden_size": 8},
        {"model_type": ["llama"]},
        {"model_type": "llama", "hidden_size": "many"},
        {"model_type": "llama", "num_attention_heads": 0},
        {"model_type": "llama", "rope_parameters": {"rope_type": "dynamic"}},
        {"model_type": "gemma3", "text_config": {"num_hidden_layers": "x"}},
    ],
)
def test_what_transformers_cannot_read_has_no_defaults(stored: dict[str, Any]) -> None:
    assert values_by_transformers(stored) == {}


def test_a_configuration_that_lacks_a_value_is_one_error(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((tiny_model / "config.json").read_text())
    del config["model_type"], config["rms_norm_eps"]
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(EmpathyEdgeError, match=r"config\.json lacks rms_norm_eps, and transformers has no"):
        writer.write_float(tmp_path / "model", tmp_path / "model.gguf")


def test_a_token_of_the_base_without_a_row_is_no_obstacle(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every adapter of Gemma 3 was refused: "the tokenizer has tokens up to 262144"."""
    from transformers import AutoTokenizer

    base, adapter = with_token(tiny_model, tmp_path / "model"), tmp_path / "adapter"
    write_adapter(base, lora_config(), adapter)
    AutoTokenizer.from_pretrained(base).save_pretrained(adapter)  # as trainers do
    results = artifacts.run(
        base=find_model(str(base)),
        adapters=[adapter],
        out=tmp_path / "out",
        settings=ExportSettings(artifacts=("gguf-f16",)),
    )
    assert results.verify.artifacts[0].verdict == "PASS"
    said = " ".join(capsys.readouterr().err.split())
    assert f"the GGUF leaves 1 out (the first: '{IMAGE_TOKEN}')" in said
    tokens = metadata_of(tmp_path / "out" / "gguf-f16" / "model.gguf", ["tokenizer.ggml.tokens"])
    assert IMAGE_TOKEN not in tokens["tokenizer.ggml.tokens"]


def test_a_token_that_every_prompt_has_needs_a_row(tiny_model: Path, tmp_path: Path) -> None:
    """The GGUF was written, and read it as letters; a merge ended with a traceback."""
    base, adapter = with_token(tiny_model, tmp_path / "model"), tmp_path / "adapter"
    file = base / "chat_template.jinja"
    file.write_text(IMAGE_TOKEN + file.read_text())
    with pytest.raises(EmpathyEdgeError, match=f"the chat template writes the token '{IMAGE_TOKEN}'"):
        writer.write_float(base, tmp_path / "model.gguf")
    assert not list(tmp_path.glob("*.gguf"))
    write_adapter(base, lora_config(), adapter)
    with pytest.raises(EmpathyEdgeError, match="the chat template writes the token number"):
        merged.make(base=find_model(str(base)), adapters=[adapter], out=tmp_path / "out", tolerance=1e-2)


def test_the_token_that_begins_every_text_needs_a_row(tiny_model: Path, tmp_path: Path) -> None:
    base = with_token(tiny_model, tmp_path / "model", "<begin>")
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    tokenizer["post_processor"] = {"single": [{"SpecialToken": {"id": "<begin>"}}, {"Sequence": {}}]}
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(EmpathyEdgeError, match="the tokenizer begins every text with the token '<begin>'"):
        writer.write_float(base, tmp_path / "model.gguf")
