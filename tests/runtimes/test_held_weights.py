"""Weights that stay as they are stored, the memory that is free, and the device."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.export import merged
from empathy_edge.models.find import find_model
from empathy_edge.runtimes import held_weights
from empathy_edge.runtimes.torch_runtime import TorchRuntime
from empathy_edge.system import device, free_memory
from tests.conftest import assert_one_clear_error, run_command

LITTLE_MB = 760
"""Free memory in MB in which the tiny model does not fit in fp32 beside the libraries."""


@pytest.fixture
def half(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model stored in bf16."""
    folder = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def _little_memory(monkeypatch: pytest.MonkeyPatch, megabytes: float) -> None:
    monkeypatch.setattr(
        free_memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=megabytes * 1e6, total=16e9)
    )


def test_answers_are_the_same_where_fp32_does_not_fit(
    half: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = list(range(50, 90))
    whole = TorchRuntime(half, threads=1)
    expected = whole.logits(ids)
    _little_memory(monkeypatch, LITTLE_MB)
    by_layer = TorchRuntime(half, threads=1)
    assert "they stay as they are stored" in capsys.readouterr().err
    assert np.array_equal(by_layer.logits(ids), expected)
    (prompt,) = [whole.encode([{"role": "user", "content": "I lost my keys."}])]
    expected_reply, reply = (item.reply(prompt, max_new_tokens=8) for item in (whole, by_layer))
    assert reply.token_ids == expected_reply.token_ids
    assert by_layer.model.lm_head.weight.dtype == torch.bfloat16


def test_an_error_leaves_the_weights_as_they_were(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _little_memory(monkeypatch, LITTLE_MB)
    runtime = TorchRuntime(half, threads=1)
    with pytest.raises((IndexError, RuntimeError)):
        runtime.model(inputs_embeds=torch.zeros(1, 2, 7))
    linear = [module for module in runtime.model.modules() if isinstance(module, torch.nn.Linear)]
    assert {module.weight.dtype for module in linear} == {torch.bfloat16}


def test_a_merge_is_proven_where_fp32_does_not_fit(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(half, dtype=torch.float32)
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "adapter")
    _little_memory(monkeypatch, LITTLE_MB)
    found = merged.make(
        base=find_model(str(half)), adapters=[tmp_path / "adapter"], out=tmp_path / "merged", tolerance=1e-3
    )
    assert found.merge_max_abs_logit_difference < 1e-3


def test_too_little_memory_for_one_layer_is_said(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _little_memory(monkeypatch, 300)
    with pytest.raises(PrerequisiteError, match=r"Not enough memory for running half: needs about 0\.7 GB"):
        TorchRuntime(half, threads=1)


def test_fp32_is_never_converted(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _little_memory(monkeypatch, 1)
    assert held_weights.held_dtype(tiny_model) is None


OTHER_FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "scaled embeddings": ("Gemma3ForCausalLM", "Gemma3TextConfig", {"hidden_size": 72, "head_dim": 36}),
    "a convolution that is read, not called": (
        "Lfm2ForCausalLM",
        "Lfm2Config",
        {"hidden_size": 64, "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    ),
    "experts": (
        "Qwen3MoeForCausalLM",
        "Qwen3MoeConfig",
        {"hidden_size": 64, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    ),
    "two embeddings": ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 64, "n_layer": 2, "n_head": 2}),
}
SHAPE = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 64}


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_other_families_compute_the_same(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    model_class, config_class, settings = OTHER_FAMILIES[family]
    shape = {} if "n_embd" in settings else SHAPE
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(vocab_size=200, **shape, **settings)
    getattr(transformers, model_class)(config).to(torch.bfloat16).save_pretrained(tmp_path)
    ids = torch.tensor([list(range(1, 30))])
    with torch.inference_mode():
        expected = held_weights.load_in_fp32(tmp_path)(input_ids=ids).logits
        _little_memory(monkeypatch, LITTLE_MB)
        held = held_weights.load_in_fp32(tmp_path)
        assert any(parameter.dtype == torch.bfloat16 for parameter in held.parameters())
        for _ in range(2):
            assert torch.equal(held(input_ids=ids).logits, expected)


def test_weights_of_two_formats_are_not_rounded(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = half / "model.safetensors"
    tensors = load_file(file)
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].float()
    save_file(tensors, file, metadata={"format": "pt"})
    _little_memory(monkeypatch, LITTLE_MB)
    assert held_weights.held_dtype(half) is None


GROUPS_V1 = {
    "memory/memory.limit_in_bytes": "9223372036854771712",
    "memory/memory.usage_in_bytes": "5000000000",
    "memory/memory.stat": "total_inactive_file 0\ntotal_active_file 0\n",
    "memory/slurm/job/memory.limit_in_bytes": "2000000000",
    "memory/slurm/job/memory.usage_in_bytes": "1500000000",
    "memory/slurm/job/memory.stat": "total_inactive_file 300000000\ntotal_active_file 100000000\n",
}
GROUPS_V2 = {
    "pod/memory.max": "1000000000",
    "pod/memory.current": "900000000",
    "pod/memory.stat": "inactive_file 200000000\nactive_file 0\n",
    "pod/container/memory.max": "max",
    "pod/container/memory.current": "900000000",
    "pod/container/memory.stat": "inactive_file 0\nactive_file 0\n",
}


@pytest.mark.parametrize(
    ("groups", "own", "free_mb"),
    [
        (GROUPS_V1, "5:memory:/slurm/job\n4:cpu:/\n", 900),
        (GROUPS_V2, "0::/pod/container\n", 300),
        ({"pod/memory.max": "1000", "pod/memory.current": "0"}, "0::/pod\n", 0.001),
        ({"pod/memory.max": "9", "pod/memory.current": "9", "pod/memory.stat": "anon 1\n"}, "0::/pod\n", 0),
        ({}, "0::/\n", 16000),
        (None, "", 16000),
    ],
)
def test_a_containers_limit_counts(
    groups: dict[str, str] | None, own: str, free_mb: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (groups or {}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    if groups is not None:
        (tmp_path / "own").write_text(own)
    monkeypatch.setattr(free_memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(free_memory, "OWN_CGROUPS", tmp_path / "own")
    _little_memory(monkeypatch, 16000)
    assert free_memory.free_memory_mb() == free_mb


def test_the_device_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv(device.CHOSEN, raising=False)
    assert device.chosen_device() == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device.chosen_device() == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.chosen_device() == "cuda"
    monkeypatch.setenv(device.CHOSEN, "cpu")
    assert device.chosen_device() == "cpu"
    monkeypatch.setenv(device.CHOSEN, "tpu")
    with pytest.raises(EmpathyEdgeError, match=r"no such device\. Choose one of: auto, cpu, cuda, mps"):
        device.chosen_device()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_here_is_said(tiny_model: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "EMPATHY_EDGE_CACHE": str(tmp_path / "cache")}
    command = ("export", tiny_model, "--to", "gguf-f16", "--device", "cuda", "--out", tmp_path / "out")
    result = run_command(*command, env=environment)
    assert_one_clear_error(result, 3, "torch finds no device 'cuda' here", "--device auto")
