"""QLoRA: what loading, merging and training take, and where the weights are put."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from empathy_edge.finetune import memory_needed
from empathy_edge.finetune.memory_needed import (
    LIBRARIES_MB,
    check_memory,
    fp32_weights_mb,
    memory_needed_mb,
    space_needed_mb,
)
from empathy_edge.runs.settings import DpoSettings
from empathy_edge.runtimes import torch_loading
from empathy_edge.runtimes.precision import gpu_precision
from empathy_edge.system import machine

NF4 = DpoSettings(weights="nf4", micro_batch_size=1)


def test_the_merge_before_dpo_is_counted(tiny_model: Path) -> None:
    """Estimates were of the four bits alone; the base is merged in fp32, and written, first."""
    fp32_mb = fp32_weights_mb(tiny_model)
    assert fp32_mb == pytest.approx((tiny_model / "model.safetensors").stat().st_size / 1e6)
    alone, train_mb = memory_needed_mb(tiny_model, NF4, "cpu")
    merged, same = memory_needed_mb(tiny_model, NF4, "cpu", merges=True)
    assert (alone, merged) == (fp32_mb / 2, fp32_mb) and train_mb == same > alone
    assert space_needed_mb([], fp32_mb) == 200 + fp32_mb


def test_on_a_gpu_its_own_memory_has_to_hold_the_training(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = DpoSettings()
    load_mb, train_mb = memory_needed_mb(tiny_model, settings, "cuda")
    assert load_mb == fp32_weights_mb(tiny_model) and train_mb > load_mb
    monkeypatch.setattr(memory_needed, "chosen_device", lambda: "cuda")
    monkeypatch.setattr(memory_needed, "free_on", lambda device: 1.0)
    enough = SimpleNamespace(available=(LIBRARIES_MB + load_mb + 1) * 1e6, total=16e9)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: enough)
    check_memory(tiny_model, settings, tmp_path, update=False)
    assert "of memory of the GPU, 0.0 GB are free" in " ".join(capsys.readouterr().err.split())


def test_a_gpu_without_bf16_computes_in_fp32() -> None:
    """In fp16 the gradients were not scaled."""
    assert torch_loading._trainable(gpu_precision("nf4", has_bf16=False)).compute == "fp32"
    for kept in (gpu_precision("nf4", has_bf16=True), gpu_precision("auto", has_bf16=False)):
        assert torch_loading._trainable(kept) == kept


@pytest.mark.parametrize(("device", "place"), [("cpu", "cpu"), ("cuda", "cuda:1")])
def test_weights_are_put_on_the_device_that_was_chosen(
    device: str, place: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--device cpu` they were on the GPU, and those of every process on the first one."""
    pytest.importorskip("bitsandbytes")
    given: dict[str, Any] = {}
    monkeypatch.setattr(
        torch_loading.AutoModelForCausalLM, "from_pretrained", lambda folder, **options: given.update(options)
    )
    monkeypatch.setattr(torch_loading, "chosen_device", lambda: device)
    monkeypatch.setenv("LOCAL_RANK", "1")
    torch_loading._load_nf4(tiny_model, [], tmp_path / "scratch", torch.float32)
    assert given["device_map"] == {"": place}
