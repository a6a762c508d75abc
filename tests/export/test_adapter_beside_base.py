"""Adapters beside a quantized base: GGUF and ONNX."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export import artifacts
from empathy_edge.export.bundle.card import model_card, origin_of
from empathy_edge.export.gguf import lora_file, quantize
from empathy_edge.export.record import read_manifest
from empathy_edge.models.find import checkpoint_of, find_model, gguf_of
from empathy_edge.runs.settings import ExportSettings
from empathy_edge.runtimes import open_runtime
from empathy_edge.runtimes.base import Sampling

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def deployed(f16: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in four bits, as it might ship."""
    file = tmp_path_factory.mktemp("deployed") / "base-q4_0.gguf"
    quantize.quantize(f16, file, "q4_0", threads=1)
    return file


@pytest.fixture(scope="session")
def adapters(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters of different ranks that matter, made for the deployed base."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = checkpoint_of(str(deployed))
    folders = []
    for number, rank in enumerate((4, 6)):
        torch.manual_seed(number)
        model = AutoModelForCausalLM.from_pretrained(base.path)
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", init_lora_weights=False)
        stage_folder = tmp_path_factory.mktemp(f"step{number}")
        get_peft_model(model, config).save_pretrained(stage_folder / "adapter")
        settings = {"base_sha256": base.sha256, "epochs": 2, "learning_rate": 5e-4}
        record = {"stage": ("sft", "dpo")[number], "settings": settings}
        (stage_folder / "manifest.json").write_text(json.dumps(record))
        folders.append(stage_folder / "adapter")
    return folders


@pytest.fixture(scope="session")
def beside(deployed: Path, adapters: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of base + adapter."""
    out = tmp_path_factory.mktemp("beside")
    settings = ExportSettings(artifacts=("gguf-lora-f16", "gguf-q4_0"))
    artifacts.run(base=checkpoint_of(str(deployed)), adapters=adapters, out=out, settings=settings)
    return out


def test_base_and_adapter_say_what_the_merged_checkpoint_says(beside: Path, deployed: Path) -> None:
    rows = {row["artifact"]: row for row in json.loads((beside / "verify" / "verify.json").read_text())}
    assert rows["gguf-lora-f16"]["stop_ids_equal"] and rows["gguf-lora-f16"]["verdict"] == "PASS"
    assert rows["gguf-lora-f16"]["mean_kl"] < 0.02 * rows["gguf-q4_0"]["mean_kl"]
    artifact = json.loads((beside / "gguf-lora-f16" / "manifest.json").read_text())["artifact"]
    assert artifact["rank"] == 10 and artifact["sha256"] == find_model(str(deployed)).sha256
    assert open_runtime(beside / "gguf-lora-f16").reply([5, 6, 7], max_new_tokens=4).token_ids


def test_the_card_tells_how_adapters_from_outside_the_run_were_trained(beside: Path) -> None:
    folder = beside / "gguf-lora-f16"
    text = model_card(folder, read_manifest(folder), origin_of(folder))
    assert "Method: SFT with LoRA of rank 4, 2 epochs at 0.0005, then DPO with LoRA of rank 6" in text
    assert "laid beside the base as it is" in text


def test_the_sum_of_two_adapters_is_exact(deployed: Path, adapters: list[Path], tmp_path: Path) -> None:
    import gguf

    from empathy_edge.models.lora import adapter_deltas

    base = checkpoint_of(str(deployed))
    assert lora_file.write_lora(base.path, adapters, tmp_path / "a.gguf") == 10
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    name = "model.layers.1.mlp.down_proj.weight"
    wanted = sum(
        scale * (up @ down) for down, up, scale in (adapter_deltas(adapter)[name] for adapter in adapters)
    )
    found = (
        tensors["blk.1.ffn_down.weight.lora_b"].astype(np.float32) @ tensors["blk.1.ffn_down.weight.lora_a"]
    )
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())


def test_another_base_under_an_adapter_is_refused(
    beside: Path, adapters: list[Path], tiny_model: Path, f16: Path, tmp_path: Path
) -> None:
    other = checkpoint_of(str(f16))
    settings = ExportSettings(artifacts=("gguf-lora-f16",))
    with pytest.raises(EmpathyEdgeError, match="was trained on another base"):
        artifacts.run(base=other, adapters=adapters, out=tmp_path / "out", settings=settings)
    with pytest.raises(
        EmpathyEdgeError, match=r"is no GGUF\. To train on, and ship, a base as it is deployed"
    ):
        gguf_of(find_model(str(tiny_model)))
    with pytest.raises(EmpathyEdgeError, match="gguf-lora-f16 needs adapters"):
        artifacts.run(base=other, adapters=[], out=tmp_path / "none", settings=settings)
    with pytest.raises(EmpathyEdgeError, match=r"is no GGUF\."):
        artifacts.run(
            base=find_model(str(tiny_model)), adapters=adapters, out=tmp_path / "none", settings=settings
        )
    assert not (tmp_path / "none").exists()  # refused before the merge
    copy = tmp_path / "copy"
    shutil.copytree(beside / "gguf-lora-f16", copy)
    shutil.copyfile(f16, copy / "model.gguf")
    with pytest.raises(EmpathyEdgeError, match=r"is not the base that adapter\.gguf was trained on"):
        open_runtime(copy)


def test_adapters_beside_a_four_bit_base_in_onnx(
    f16: Path, deployed: Path, adapters: list[Path], tmp_path: Path
) -> None:
    settings = ExportSettings(artifacts=("onnx-lora-int4",))
    base = checkpoint_of(str(deployed))
    results = artifacts.run(base=base, adapters=adapters, out=tmp_path / "out", settings=settings)
    (row,) = results.verify.artifacts
    assert row.mean_kl < 0.01 and row.bounds.mean_kl == 0.03
    with pytest.raises(EmpathyEdgeError, match="weight is F16, and ONNX would round it once more"):
        artifacts.run(
            base=checkpoint_of(str(f16)), adapters=adapters, out=tmp_path / "none", settings=settings
        )
    assert not (tmp_path / "none").exists()


def test_a_joint_adapter_adds_what_its_adapters_add(tmp_path: Path) -> None:
    """The first adapter's own scales, ranks and layers were applied once more."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    from empathy_edge.export.onnx.q4_0_grid import write_joint_adapter

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 64}
    config = LlamaConfig(**shape, num_attention_heads=4, num_key_value_heads=4)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")

    def base() -> LlamaForCausalLM:
        return LlamaForCausalLM.from_pretrained(tmp_path / "base")

    def changes(adapter: Path) -> dict[str, torch.Tensor]:
        """By PEFT alone."""
        modules = PeftModel.from_pretrained(base(), adapter).named_modules()
        return {
            name: module.get_delta_weight("default")
            for name, module in modules
            if hasattr(module, "lora_A") and module.lora_A
        }

    linear = ["q_proj", "v_proj", "up_proj"]
    own_scales = {"alpha_pattern": {"q_proj": 32}, "rank_pattern": {"v_proj": 2}, "layers_to_transform": [0]}
    settings = (
        {"r": 4, "lora_alpha": 8, **own_scales},
        {"r": 6, "lora_alpha": 6, "exclude_modules": ["q_proj"]},
    )
    expected: dict[str, torch.Tensor] = {}
    for number, chosen in enumerate(settings):
        adapter = LoraConfig(target_modules=linear, init_lora_weights=False, **chosen)
        get_peft_model(base(), adapter).save_pretrained(tmp_path / f"adapter-{number}")
        for name, change in changes(tmp_path / f"adapter-{number}").items():
            expected[name] = expected.get(name, 0) + change
    (tmp_path / "joint").mkdir()
    options = write_joint_adapter([tmp_path / "adapter-0", tmp_path / "adapter-1"], tmp_path / "joint")
    found = changes(tmp_path / "joint")
    assert found.keys() == expected.keys() and len(found) == 5
    for name, change in expected.items():
        torch.testing.assert_close(found[name], change)
    assert str(options["nodes_to_exclude"]).count("/lora_A/MatMul") == 5


def test_replies_drawn_at_once_are_the_adapters(beside: Path) -> None:
    runtime = open_runtime(beside / "gguf-lora-f16", context=256)
    prompt = runtime.encode([{"role": "user", "content": "My dog died this morning."}])
    (reply,) = runtime.draw([prompt], 1, Sampling(0.0, 0, 12, ignore_stop=False))
    expected = runtime.log_probs([*prompt, *reply.token_ids], len(prompt))
    assert reply.log_probs == pytest.approx(list(expected), abs=0.05)
