"""Each family's tiny model gives the same logits in llama.cpp as in torch: tensors, rope, windows, norms."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export import artifacts, weight_range
from empathy_edge.export.artifacts import make_artifacts
from empathy_edge.export.gguf import writer
from empathy_edge.formats.tensor_files import stored_tensors
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import ExportSettings

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
    "pad_token_id": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 2.0],
    "long_factor": [2.0] * 8,
    "original_max_position_embeddings": 512,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", {"tie_word_embeddings": True}),
    "llama, biases": (
        "LlamaForCausalLM",
        "LlamaConfig",
        {"attention_bias": True, "tie_word_embeddings": False},
    ),
    "llama 3": ("LlamaForCausalLM", "LlamaConfig", {"rope_parameters": LLAMA3}),
    "llama, linear rope": ("LlamaForCausalLM", "LlamaConfig", {"rope_parameters": LINEAR}),
    "mistral": ("MistralForCausalLM", "MistralConfig", {"head_dim": 32, "sliding_window": 128}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {}),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {"head_dim": 32}),
    # Seven layers: six with a window of 16, shorter than the text, and one without. Weights are smaller,
    # since llama.cpp looks GELU up in a table of half-precision values: at logits of deviation 0.8 that alone
    # makes differences of 0.003.
    "gemma 3": (
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        {
            "num_hidden_layers": 7,
            "head_dim": 32,
            "sliding_window": 16,
            "query_pre_attn_scalar": 32,
            "initializer_range": 0.03,
        },
    ),
    "phi 3": ("Phi3ForCausalLM", "Phi3Config", {"sliding_window": 200}),
    "smollm 3": ("SmolLM3ForCausalLM", "SmolLM3Config", {"num_hidden_layers": 5}),
    "granite": (
        "GraniteForCausalLM",
        "GraniteConfig",
        {
            "attention_multiplier": 0.3,
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.5,
            "logits_scaling": 2.0,
        },
    ),
    "phi 3, long": (
        "Phi3ForCausalLM",
        "Phi3Config",
        {
            "max_position_embeddings": 1024,
            "rope_parameters": LONGROPE,
            "original_max_position_embeddings": 512,
        },
    ),
}


def make(case: str, like: Path, folder: Path) -> Any:
    """A tiny model of random weights, saved in `folder` with the tokenizer of the checkpoint `like`."""
    import torch
    import transformers

    architecture, kind, changes = CASES[case]
    vocabulary = json.loads((like / "config.json").read_text())["vocab_size"]
    config = getattr(transformers, kind)(**{**SHAPE, "vocab_size": vocabulary, **changes})
    torch.manual_seed(0)
    model = getattr(transformers, architecture)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:  # which start as zeros and ones
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(like / name, folder / name)
    return model


def logits(file: Path, ids: list[int]) -> np.ndarray:
    """llama.cpp's, with its cache in full precision."""
    import llama_cpp

    from empathy_edge.system.quiet import quiet_stderr

    with quiet_stderr():
        llama = llama_cpp.Llama(
            str(file),
            n_ctx=128,
            n_threads=1,
            logits_all=True,
            verbose=False,
            type_k=0,
            type_v=0,
            flash_attn=False,
        )
    llama.eval(ids)
    found = np.array(llama.scores[: len(ids)])
    llama.close()
    return found


@pytest.mark.parametrize("case", CASES)
def test_llama_cpp_says_what_torch_says(case: str, tiny_model: Path, tmp_path: Path) -> None:
    import torch

    model = make(case, tiny_model, tmp_path / "model")
    ids = torch.randint(3, 4000, (1, 64), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = model(input_ids=ids).logits[0].numpy()
    assert wanted.std() > 0.2
    for kind, tolerance in (("f32", 1e-3), ("f16", 1e-2)):
        writer.write_float(tmp_path / "model", tmp_path / f"{kind}.gguf", kind)
        difference = np.abs(logits(tmp_path / f"{kind}.gguf", ids[0].tolist()) - wanted).max()
        assert difference <= tolerance, f"{kind}: {difference}"


def test_shards_and_half_precision_are_the_same_file(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    for name, size in (("one", "1GB"), ("shards", "2MB")):
        model.save_pretrained(tmp_path / name, max_shard_size=size)
        for item in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copyfile(tiny_model / item, tmp_path / name / item)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    found = {}
    for name in ("one", "shards"):
        writer.write_float(tmp_path / name, tmp_path / f"{name}.gguf", "f32")
        found[name] = logits(tmp_path / f"{name}.gguf", list(range(5, 25)))
    np.testing.assert_array_equal(found["one"], found["shards"])
    first = min((tmp_path / "shards").glob("*.safetensors"))
    first.unlink()
    with pytest.raises(EmpathyEdgeError, match=f"the shard {first.name} is missing"):
        writer.write_float(tmp_path / "shards", tmp_path / "again.gguf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "our own GGUF writer does not know MambaForCausalLM"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4}},
            "does not know the rope scaling 'dynamic'",
        ),
        (
            {"architectures": ["SmolLM3ForCausalLM"], "no_rope_layers": [1, 0]},
            "leaves the rope out of other layers than every 4th",
        ),
        ({"query_pre_attn_scalar": 5}, "query_pre_attn_scalar 5 is not head_dim"),
    ],
)
def test_what_cannot_be_written_is_refused(
    change: dict[str, Any], message: str, tiny_model: Path, tmp_path: Path
) -> None:
    source = tmp_path / "model"
    shutil.copytree(tiny_model, source)
    config = json.loads((source / "config.json").read_text()) | change
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(EmpathyEdgeError, match=message):
        writer.write_float(source, tmp_path / "model.gguf")
    assert not list(tmp_path.glob("model.*"))


def test_weights_beyond_f16_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = tmp_path / "model"
    shutil.copytree(tiny_model, source)
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e5
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(EmpathyEdgeError, match="beyond F16's range"):
        writer.write_float(source, tmp_path / "model.gguf")
    writer.write_float(source, tmp_path / "model.gguf", "bf16")


def test_the_language_model_inside_a_vision_model_is_written(tiny_model: Path, tmp_path: Path) -> None:
    """Gemma 3 of 4B and more is published with a part that sees; phones get the text part."""
    import torch
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    vocabulary = json.loads((tiny_model / "config.json").read_text())["vocab_size"]
    text = Gemma3TextConfig(**{**SHAPE, "vocab_size": vocabulary, **CASES["gemma 3"][2]})
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    torch.manual_seed(0)
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    model = Gemma3ForConditionalGeneration(config).eval()
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tiny_model / name, folder / name)
    results = artifacts.run(
        base=find_model(str(folder)),
        adapters=[],
        out=tmp_path / "exported",
        settings=ExportSettings(artifacts=("gguf-f32",)),
    )
    row = results.verify.artifacts[0]
    assert row.verdict == "PASS" and row.mean_kl < 1e-5 and row.greedy_same == 4


def test_stored_rope_frequencies_are_left_out(tiny_model: Path, f16: Path, tmp_path: Path) -> None:
    """As Llama 2 has them; llama.cpp did not open the file."""
    from safetensors.torch import load_file, save_file

    source = tmp_path / "model"
    shutil.copytree(tiny_model, source)
    tensors = load_file(source / "model.safetensors")
    for layer in range(2):
        name = f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"
        tensors[name] = tensors["model.norm.weight"][:8].clone()
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    writer.write_float(source, tmp_path / "model.gguf")
    ids = list(range(300, 320))
    np.testing.assert_array_equal(logits(tmp_path / "model.gguf", ids), logits(f16, ids))


def test_weights_beyond_f16_are_quantized_from_f32(tiny_model: Path, tmp_path: Path) -> None:
    """Q8_0 needs no F16, and was refused with a message that named no tensor."""
    from safetensors.torch import load_file, save_file

    source = tmp_path / "model"
    shutil.copytree(tiny_model, source)
    name = "model.layers.0.mlp.up_proj.weight"
    tensors = load_file(source / "model.safetensors")
    tensors[name][0, 0] = -1e5
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    base, out = find_model(str(source)), tmp_path / "out"
    with pytest.raises(
        EmpathyEdgeError, match=rf"gguf-f16: {name} has the weight -100000, .*F16 holds at most"
    ):
        make_artifacts(source, out, ExportSettings(artifacts=("gguf-f16",)), base=base, adapters=[])
    make_artifacts(source, out, ExportSettings(artifacts=("gguf-q8_0",)), base=base, adapters=[])
    assert sorted(folder.name for folder in out.iterdir()) == ["gguf-f32", "gguf-q8_0"]
    for value, word in ((float("nan"), "NaN"), (float("-inf"), "infinite")):
        tensors[name][3, 3] = value
        save_file(tensors, source / "model.safetensors", {"format": "pt"})
        with pytest.raises(EmpathyEdgeError, match=f"a weight of {name} is {word}"):
            make_artifacts(source, out, ExportSettings(artifacts=("gguf-q8_0",)), base=base, adapters=[])


def test_the_largest_weight_is_read_once(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    found = weight_range.largest_weight(tiny_model)
    with monkeypatch.context() as patch:
        patch.setattr(weight_range, "stored_tensors", None)
        assert weight_range.largest_weight(tiny_model) == found
    shutil.copytree(tiny_model, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    with open(file, "r+b") as handle:
        handle.seek(stored_tensors(tmp_path / "model")["model.embed_tokens.weight"].begin)
        handle.write(struct.pack("<f", 5000.0))
    assert weight_range.largest_weight(tmp_path / "model").value == 5000.0
