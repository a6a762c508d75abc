"""Adapters as users bring them: what PEFT can merge is merged right, the rest is refused with the reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from empathy_edge.errors import EmpathyEdgeError, VerdictFailed  # noqa: E402
from empathy_edge.export import merged  # noqa: E402
from empathy_edge.models.adapter_folder import CONFIG, adapters_of, base_of, read_adapter  # noqa: E402
from empathy_edge.models.find import find_model  # noqa: E402
from empathy_edge.models.merging import merge_into  # noqa: E402
from empathy_edge.system.files import MANIFEST, MARKER, sha256_path, write_json  # noqa: E402
from tests.conftest import assert_one_clear_error, run_command  # noqa: E402

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = [[1, 4093, 198, 57, 5248, 3112, 30, 2, 198, 1, 520, 9531, 198]]


def lora_config(**options: Any) -> Any:
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ALL_LINEAR, **options})


CONFIGS: dict[str, Callable[[], Any]] = {
    "LoRA": lora_config,
    "rsLoRA": lambda: lora_config(use_rslora=True),
    "layers_to_transform": lambda: lora_config(layers_to_transform=[1]),
    "rank_pattern": lambda: lora_config(rank_pattern={"q_proj": 8, "layers.1.mlp.up_proj": 2}),
    "alpha_pattern": lambda: lora_config(alpha_pattern={"k_proj": 32, "layers.0.mlp.down_proj": 1}),
    "alpha_pattern by expression": lambda: lora_config(alpha_pattern={r".*\.1\.mlp\..*": 32}),
    "DoRA": lambda: lora_config(use_dora=True),
    "bias": lambda: lora_config(bias="lora_only"),
    "modules_to_save": lambda: lora_config(modules_to_save=["lm_head"]),
    "embeddings saved": lambda: lora_config(modules_to_save=["embed_tokens"]),
    "embeddings by LoRA": lambda: lora_config(target_modules=[*ALL_LINEAR, "embed_tokens"]),
    "norms saved": lambda: lora_config(modules_to_save=["input_layernorm", "norm"]),
    "trainable tokens": lambda: lora_config(trainable_token_indices={"embed_tokens": [1, 2, 520]}),
    "PiSSA": lambda: lora_config(init_lora_weights="pissa"),
    "layer replication": lambda: lora_config(layer_replication=[[0, 2], [1, 2]]),
    "IA3": lambda: peft.IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
    "LoHa": lambda: peft.LoHaConfig(r=4, target_modules=ALL_LINEAR),
    "LoKr": lambda: peft.LoKrConfig(r=4, target_modules=ALL_LINEAR),
    "OFT": lambda: peft.OFTConfig(oft_block_size=8, r=0, target_modules=["q_proj", "v_proj"]),
    "BOFT": lambda: peft.BOFTConfig(boft_block_size=8, target_modules=["q_proj"]),
    "VeRA": lambda: peft.VeraConfig(r=4, target_modules=["q_proj", "o_proj"]),
    "AdaLoRA": lambda: peft.AdaLoraConfig(target_modules=ALL_LINEAR, total_step=10),
    "only norms": lambda: peft.LNTuningConfig(target_modules=["input_layernorm", "norm"]),
}


def write_adapter(base: Path, config: Any, folder: Path, model: Any = None) -> None:
    """An adapter whose weights all matter, as training would leave them."""
    torch.manual_seed(1)
    model = model or AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    wrapped = peft.get_peft_model(model, config)
    with torch.no_grad():
        for weight in wrapped.parameters():
            if weight.requires_grad:
                spread = 0.2 * float(weight.std()) if weight.numel() > 1 and weight.std() > 0 else 0.05
                weight += spread * torch.randn_like(weight)
    wrapped.save_pretrained(folder)


def logits(model: Any) -> Any:
    with torch.inference_mode():
        return model.eval()(input_ids=torch.tensor(IDS)).logits


def _by_peft_alone(base: Path, adapter: Path) -> Any:
    """What users of PEFT get, without our code."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return logits(peft.PeftModel.from_pretrained(model, adapter))


@pytest.fixture(scope="module")
def biased_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with biases, for which adapters can hold others."""
    folder = tmp_path_factory.mktemp("biased") / "model"
    shutil.copytree(tiny_model, folder)
    config = AutoConfig.from_pretrained(tiny_model)
    config.attention_bias = config.mlp_bias = True
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(load_file(tiny_model / "model.safetensors"), strict=False)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(".bias"):
                weight.normal_()
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_what_peft_merges_is_merged(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Most of these kinds were refused, or failed after the merge with a wrong reason."""
    base: Path = request.getfixturevalue("biased_model" if name == "bias" else "tiny_model")
    adapter, out = tmp_path / "adapter", tmp_path / "merged"
    write_adapter(base, CONFIGS[name](), adapter)
    merged.make(base=find_model(str(base)), adapters=[adapter], out=out, tolerance=1e-2)
    expected = _by_peft_alone(base, adapter)
    found = logits(AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = logits(model)
    assert (found - expected).abs().max() < 2e-3 < (found - before).abs().max()
    assert (logits(merge_into(model, [adapter])) - expected).abs().max() < 2e-3


def test_new_tokens_come_with_the_adapters_own_tokenizer(tiny_model: Path, tmp_path: Path) -> None:
    """Trainers save the grown tokenizer beside the adapter, and the embeddings with all their rows."""
    adapter, out = tmp_path / "adapter", tmp_path / "merged"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["<|mood|>", "grandparentship"])
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model.resize_token_embeddings(len(tokenizer))
    write_adapter(tiny_model, lora_config(modules_to_save=["embed_tokens", "lm_head"]), adapter, model)
    tokenizer.save_pretrained(adapter)
    merged.make(base=find_model(str(tiny_model)), adapters=[adapter], out=out, tolerance=1e-2)
    written = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    assert written.config.vocab_size == len(tokenizer) == len(AutoTokenizer.from_pretrained(out))
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    base.resize_token_embeddings(len(tokenizer))
    assert (logits(written) - logits(peft.PeftModel.from_pretrained(base, adapter))).abs().max() < 2e-3


def _renamed(adapter: Path, folder: Path, rename: Callable[[str], str]) -> Path:
    shutil.copytree(adapter, folder)
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({rename(name): value for name, value in tensors.items()}, folder / "adapter_model.safetensors")
    return folder


PREFIXES: dict[str, Callable[[str], str]] = {
    "torch.compile": lambda name: name.replace(
        "base_model.model.model.", "base_model.model.model._orig_mod."
    ),
    "FSDP": lambda name: "_fsdp_wrapped_module." + name.replace(".mlp.", "._fsdp_wrapped_module.mlp."),
    "DDP": lambda name: f"module.{name}",
    "checkpointing": lambda name: name.replace(".mlp.", "._checkpoint_wrapped_module.mlp."),
    "state dict": lambda name: name.replace(".weight", ".default.weight"),
    "without PEFT's prefix": lambda name: name.removeprefix("base_model.model."),
}


@pytest.mark.parametrize("method", ["LoRA", "DoRA"])
def test_prefixes_of_other_trainers_are_known(method: str, tiny_model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    write_adapter(tiny_model, CONFIGS[method](), adapter)
    expected = _by_peft_alone(tiny_model, adapter)
    for number, rename in enumerate(PREFIXES.values()):
        renamed = _renamed(adapter, tmp_path / f"renamed-{number}", rename)
        model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        assert (logits(merge_into(model, [renamed])) - expected).abs().max() < 2e-3


def test_several_adapters_are_merged_with_weights(tiny_model: Path, tmp_path: Path) -> None:
    base = find_model(str(tiny_model))
    for number, name in enumerate(("LoRA", "alpha_pattern")):
        write_adapter(tiny_model, CONFIGS[name](), tmp_path / f"adapter-{number}")
    adapters = [tmp_path / "adapter-0", tmp_path / "adapter-1"]
    merged.make(base=base, adapters=adapters, weights=[0.25, -0.5], out=tmp_path / "merged", tolerance=1e-2)
    parts = [load_file(folder / "adapter_model.safetensors") for folder in adapters]
    name = "model.layers.0.mlp.down_proj"
    changes = [
        part[f"base_model.model.{name}.lora_B.weight"] @ part[f"base_model.model.{name}.lora_A.weight"]
        for part in parts
    ]
    weight = load_file(tiny_model / "model.safetensors")[f"{name}.weight"]
    expected = weight + 0.25 * (8 / 4) * changes[0] - 0.5 * (1 / 4) * changes[1]
    found = load_file(tmp_path / "merged" / "model.safetensors")[f"{name}.weight"]
    assert (found - expected).abs().max() < 1e-6


def test_lora_and_dora_are_merged_in_their_order(tiny_model: Path, tmp_path: Path) -> None:
    """The second was trained on the first one's result."""
    first, second, out = tmp_path / "first", tmp_path / "second", tmp_path / "merged"
    write_adapter(tiny_model, lora_config(), first)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    trained_on = peft.PeftModel.from_pretrained(model, first).merge_and_unload()
    write_adapter(tiny_model, lora_config(use_dora=True), second, trained_on)
    base = find_model(str(tiny_model))
    merged.make(base=base, adapters=[first, second], out=out, tolerance=1e-2)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    once = peft.PeftModel.from_pretrained(model, first).merge_and_unload()
    expected = logits(peft.PeftModel.from_pretrained(once, second))
    found = logits(AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32))
    assert (found - expected).abs().max() < 2e-3


def _change_config(adapter: Path, **changes: Any) -> None:
    _change_json(adapter / "adapter_config.json", **changes)


def _change_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "X-LoRA": ({"peft_type": "XLORA"}, "XLORA mixes its adapters for every token"),
    "prompt tuning": ({"peft_type": "PROMPT_TUNING"}, "puts learned vectors before the prompt"),
    "prefix tuning": ({"peft_type": "PREFIX_TUNING"}, "before every layer's keys and values"),
    "aLoRA": ({"alora_invocation_tokens": [1, 2]}, "only after certain tokens"),
    "unknown": ({"peft_type": "NEW_THING"}, "knows no 'NEW_THING'"),
    "Megatron": ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "Megatron"),
    "another rank": ({"r": 3}, "says the rank r is 3"),
    "randomized start": (
        {"init_lora_weights": "pissa_niter_4"},
        "changed the base, and that",
    ),
    "an option of tomorrow": ({"use_newthing": True}, "does not know; update peft|the option 'use_newthing'"),
    "no number as alpha": ({"lora_alpha": "16"}, "needs a number lora_alpha .found: '16'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_weights_can_stand_for_is_refused(name: str, tiny_model: Path, tmp_path: Path) -> None:
    changes, message = REFUSED[name]
    write_adapter(tiny_model, lora_config(), tmp_path / "adapter")
    _change_config(tmp_path / "adapter", **changes)
    with pytest.raises(EmpathyEdgeError, match=message):
        merged.make(
            base=find_model(str(tiny_model)),
            adapters=[tmp_path / "adapter"],
            out=tmp_path / "merged",
            tolerance=1e-2,
        )


def test_pickled_weights_are_refused_with_the_way_out(tiny_model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    write_adapter(tiny_model, lora_config(), adapter)
    tensors = load_file(adapter / "adapter_model.safetensors")
    torch.save(tensors, adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    with pytest.raises(EmpathyEdgeError, match="weights_only=True") as refused:
        merge_into(model, [adapter])
    lines = str(refused.value).splitlines()[1:]
    exec("\n".join(line.strip() for line in lines).replace('"adapter', f'"{adapter}/adapter'), {})
    assert logits(merge_into(model, [adapter])) is not None


def test_export_finds_the_base_that_the_adapter_names(tiny_model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    write_adapter(tiny_model, lora_config(), adapter)
    made = run_command("export", "--adapter", adapter, "--to", "gguf-f16", "--out", tmp_path / "exported")
    assert made.returncode == 0, made.stderr
    assert "gguf-f16" in made.stdout and (tmp_path / "exported" / "merged" / "config.json").is_file()
    for named, code, message in (
        ("", 2, "does not say on which model it was trained"),
        (str(tmp_path / "gone"), 2, "gone, which cannot be read here"),
        ("nobody/nothing-at-all", 3, "was trained on nobody/nothing-at-all"),
    ):
        _change_config(adapter, base_model_name_or_path=named)
        failed = run_command("export", "--adapter", adapter, "--out", tmp_path / "other")
        assert_one_clear_error(failed, code, message)


def test_export_bundle_is_no_model(tmp_path: Path) -> None:
    """`export MODEL` and `export bundle ARTIFACT` are told apart by the first word."""
    shown = run_command("export", "bundle", "--help")
    assert shown.returncode == 0 and "ARTIFACT" in shown.stdout and "--license" in shown.stdout
    assert_one_clear_error(
        run_command("export", "--out", tmp_path / "out"), 2, "give a MODEL or an --adapter"
    )
    counted = run_command("export", "m", "--adapter", "a", "--weight", "1", "--weight", "2", "--out", "o")
    assert_one_clear_error(counted, 2, "but 2 --weight. Give one for each adapter")


def _change_tensor(adapter: Path, change: Callable[[Any], None]) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def test_a_merge_without_numbers_fails_its_proof(tiny_model: Path, tmp_path: Path) -> None:
    """max(0.0, nan) is 0.0 in Python: such merges passed with a difference of 0."""
    adapter = tmp_path / "adapter"
    write_adapter(tiny_model, lora_config(), adapter)
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"
    _change_tensor(adapter, lambda tensors: tensors[name].fill_(float("nan")))
    with pytest.raises(VerdictFailed, match="NaN or infinite"):
        merged.make(
            base=find_model(str(tiny_model)), adapters=[adapter], out=tmp_path / "out", tolerance=1e-2
        )


def test_tokens_without_rows_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    write_adapter(tiny_model, lora_config(), adapter)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["<|mood|>"])
    tokenizer.save_pretrained(adapter)
    with pytest.raises(EmpathyEdgeError, match="rows of embeddings"):
        merged.make(
            base=find_model(str(tiny_model)), adapters=[adapter], out=tmp_path / "out", tolerance=1e-2
        )


def test_what_stands_beside_an_adapter_is_not_taken_for_ours(tiny_model: Path, tmp_path: Path) -> None:
    """Somebody's manifest.json in the folder above; a link in the adapter's folder to a file elsewhere."""
    adapter = tmp_path / "adapter"
    write_adapter(tiny_model, lora_config(), adapter)
    base = find_model(str(tiny_model))
    for number, manifest in enumerate((["a"], {"stage": 3, "settings": {"base_sha256": "x", "base": "y"}})):
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        made = merged.make(base=base, adapters=[adapter], out=tmp_path / f"out-{number}", tolerance=1e-2)
        assert made.trained[0].step is None
        assert base_of(adapter) == str(tiny_model)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(adapter)
    (tmp_path / "secret").write_text("key")
    (adapter / "merges.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(EmpathyEdgeError, match="a link to a file outside its folder"):
        merged.make(base=base, adapters=[adapter], out=tmp_path / "out", tolerance=1e-2)


def test_a_models_own_code_is_not_run(tiny_model: Path, exported: Path, tmp_path: Path) -> None:
    """transformers would ask on stdin, which is the conversation; a child would import from this folder."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    code = {"auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}, "model_type": "evil"}
    _change_json(model / "config.json", **code)
    failed = run_command("chat", model, input="y\nhello\n")
    assert_one_clear_error(failed, 2, "brings Python code of its own")
    (tmp_path / "llama_cpp.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    command = [sys.executable, "-P", "-m", "empathy_edge", "chat", str(exported / "gguf-f16")]
    environment = {**os.environ, "EMPATHY_EDGE_CACHE": str(tmp_path / "cache")}  # opened for the first time
    subprocess.run(command, cwd=tmp_path, env=environment, input="hello\n", text=True, capture_output=True)
    assert (tmp_path / "cache" / "opened").is_dir() and not (tmp_path / "ran").exists()


def test_a_folder_of_finetune_stands_for_its_adapters(tmp_path: Path) -> None:
    tuned, other = tmp_path / "tuned", tmp_path / "other"
    write_json(other / CONFIG, {})
    for step in ("sft", "dpo"):
        write_json(tuned / step / "adapter" / CONFIG, {"step": step})
        write_json(tuned / step / MANIFEST, {"stage": step, "inputs": {}, "outputs": [f"adapter/{CONFIG}"]})
    both = [tuned / "sft" / "adapter", tuned / "dpo" / "adapter"]
    assert adapters_of([tuned / "sft" / "adapter", other]) == [both[0], other]
    with pytest.raises(EmpathyEdgeError, match="without an SFT adapter"):
        adapters_of([tuned])
    now = {"sft": {"sha256": sha256_path(tuned / "sft")}}
    write_json(tuned / "dpo" / MANIFEST, {"stage": "dpo", "inputs": now})
    assert adapters_of([other, tuned]) == [other, *both]
    write_json(tuned / "sft" / "adapter" / CONFIG, {"step": "sft, again"})
    with pytest.raises(EmpathyEdgeError, match="after another SFT adapter"):
        adapters_of([tuned])
    (tuned / "dpo" / MANIFEST).rename(tuned / "dpo" / MARKER)
    with pytest.raises(EmpathyEdgeError, match="was cut off"):
        adapters_of([tuned])


def test_an_adapter_whose_training_has_not_ended_is_refused(tmp_path: Path) -> None:
    adapter = tmp_path / "sft" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / CONFIG).write_text("{}")
    (adapter.parent / MARKER).write_text("{}")
    with pytest.raises(EmpathyEdgeError, match="training was cut off, or is still running"):
        read_adapter(adapter)
