"""Adapters that PEFT alone can merge: layer by layer in little memory, and with weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from safetensors.torch import load_file  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402

from empathy_edge.errors import EmpathyEdgeError  # noqa: E402
from empathy_edge.export import merged  # noqa: E402
from empathy_edge.models.find import find_model  # noqa: E402
from tests.models.test_adapters import CONFIGS, logits, lora_config, write_adapter  # noqa: E402


@pytest.mark.parametrize("name", ["DoRA", "IA3", "trainable tokens", "PiSSA", "norms saved"])
def test_the_change_of_any_kind_has_a_weight(name: str, tiny_model: Path, tmp_path: Path) -> None:
    """W + weight · (merged − W); these were refused."""
    adapter, base = tmp_path / "adapter", find_model(str(tiny_model))
    write_adapter(tiny_model, CONFIGS[name](), adapter)
    merged.make(base=base, adapters=[adapter], weights=[0.3], out=tmp_path / "merged", tolerance=1e-2)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    whole = dict(peft.PeftModel.from_pretrained(model, adapter).merge_and_unload().named_parameters())
    before = load_file(tiny_model / "model.safetensors")
    found = load_file(tmp_path / "merged" / "model.safetensors")
    changed = 0
    for weight_name, value in found.items():
        old = before[weight_name if weight_name in before else "model.embed_tokens.weight"]
        now = whole.get(weight_name, whole["model.embed_tokens.weight"]).detach()
        assert (value - (old + 0.3 * (now - old))).abs().max() < 1e-6
        changed += not torch.equal(value, old)
    assert changed


def test_two_adapters_of_other_kinds_are_weighed_in_their_order(tiny_model: Path, tmp_path: Path) -> None:
    """The second one's change is that of the model after the first."""
    adapters = [tmp_path / name for name in ("DoRA", "IA3")]
    for folder in adapters:
        write_adapter(tiny_model, CONFIGS[folder.name](), folder)
    base, out = find_model(str(tiny_model)), tmp_path / "merged"
    merged.make(base=base, adapters=adapters, weights=[0.5, -1], out=out, tolerance=1e-2)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    for folder, weight in zip(adapters, [0.5, -1], strict=True):
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        model = peft.PeftModel.from_pretrained(model, folder).merge_and_unload()
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.copy_(before[name] + weight * (value - before[name]))
    found = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    assert (logits(found) - logits(model)).abs().max() < 2e-3


def test_no_part_is_taken_of_what_has_none(tiny_model: Path, tmp_path: Path) -> None:
    for name, reason in (
        ("OFT", "it is of the kind OFT, which rotates"),
        ("layer replication", "it repeats layers"),
    ):
        folder = tmp_path / name
        write_adapter(tiny_model, CONFIGS[name](), folder)
        with pytest.raises(EmpathyEdgeError, match=f"cannot be merged with --weight 0.5: {reason}"):
            merged.make(
                base=find_model(str(tiny_model)),
                adapters=[folder],
                weights=[0.5],
                out=tmp_path / "merged",
                tolerance=1e-2,
            )
    assert not (tmp_path / "merged").exists()
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model.resize_token_embeddings(49160)
    write_adapter(
        tiny_model, lora_config(modules_to_save=["embed_tokens", "lm_head"]), tmp_path / "new", model
    )
    with pytest.raises(EmpathyEdgeError, match=r"embed_tokens\.weight another shape, so the base has no val"):
        merged.make(
            base=find_model(str(tiny_model)),
            adapters=[tmp_path / "new"],
            weights=[0.5],
            out=tmp_path / "merged",
            tolerance=1e-2,
        )


MEASURED_MERGE = """
import sys, threading, time
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
import peft.tuners.lora
from empathy_edge.export import merged
from empathy_edge.models.find import find_model

def anonymous_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024 / 1e6

def watch():
    while True:
        seen.append(anonymous_mb())
        time.sleep(0.005)

base, adapter, out = sys.argv[1:]
model = find_model(base)
tokenizer = AutoTokenizer.from_pretrained(base)
AutoModelForCausalLM.from_pretrained(base)
before, seen = anonymous_mb(), []
threading.Thread(target=watch, daemon=True).start()
merged.make(base=model, adapters=[Path(adapter)], out=Path(out), tolerance=1e-2)
print(max(seen) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's figures of memory")
def test_peft_merges_layer_by_layer(tiny_model: Path, tmp_path: Path) -> None:
    """It took 4.7 times the weights in fp32, now 1.2 (half of it for the embeddings and logits)."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(tiny_model, base)
    config = AutoConfig.from_pretrained(tiny_model)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 256, 8192, 8
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(base)
    write_adapter(base, CONFIGS["DoRA"](), adapter)
    weights_mb = 4 * sum(weight.numel() for weight in model.parameters()) / 1e6
    measured = subprocess.run(
        [sys.executable, "-c", MEASURED_MERGE, base, adapter, tmp_path / "merged"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert measured.returncode == 0, measured.stderr
    assert float(measured.stdout.splitlines()[-1]) < 1.6 * weights_mb
    assert not (tmp_path / "merged" / "scratch").exists()
