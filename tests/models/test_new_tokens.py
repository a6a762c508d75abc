"""Adapters with new tokens, of which PEFT stores all rows of embeddings or only the trained ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from empathy_edge.errors import EmpathyEdgeError  # noqa: E402
from empathy_edge.export import merged  # noqa: E402
from empathy_edge.models.adapter_folder import CONFIG, WEIGHTS  # noqa: E402
from empathy_edge.models.adapter_rows import module_of  # noqa: E402
from empathy_edge.models.find import find_model  # noqa: E402
from empathy_edge.models.lora import adapter_deltas  # noqa: E402
from empathy_edge.models.merging import merge_into  # noqa: E402
from tests.models.test_adapters import ALL_LINEAR, lora_config, write_adapter  # noqa: E402

CONFIGS: dict[str, Callable[[int], Any]] = {
    "trained tokens": lambda rows: lora_config(trainable_token_indices={"embed_tokens": [1, rows, rows + 1]}),
    "trained tokens, as a list": lambda rows: lora_config(trainable_token_indices=[rows, rows + 1]),
    "trained tokens without LoRA": lambda rows: peft.TrainableTokensConfig(token_indices=[rows, rows + 1]),
    "LoRA of embeddings": lambda _: lora_config(target_modules=[*ALL_LINEAR, "embed_tokens"]),
}
"""What trains tokens that the base does not have: `rows` are those of the base."""


def _rows(base: Path) -> int:
    return int(json.loads((base / "config.json").read_text())["vocab_size"])


def _grown(base: Path) -> Any:
    """The base with two rows more, as every user of PEFT makes it before an adapter is loaded."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.resize_token_embeddings(_rows(base) + 2, mean_resizing=False)
    return model


def _logits(model: Any, rows: int) -> Any:
    with torch.inference_mode():
        return model.eval()(input_ids=torch.tensor([[1, rows, 198, 520, rows + 1, 9531]])).logits


def _keep_only(adapter: Path, is_kept: Callable[[str], bool]) -> None:
    tensors = load_file(adapter / WEIGHTS)
    save_file({name: value for name, value in tensors.items() if is_kept(name)}, adapter / WEIGHTS)


def _without_whole_matrices(adapter: Path) -> None:
    """As PEFT saves it where it does not find the base's configuration."""
    _keep_only(adapter, lambda name: "base_layer" not in name and not name.startswith("base_model.model.lm_"))


@pytest.mark.parametrize("name", CONFIGS)
def test_new_tokens_are_merged_as_peft_does_it(name: str, tiny_model: Path, tmp_path: Path) -> None:
    """It was an IndexError, or a size mismatch."""
    rows, adapter, out = _rows(tiny_model), tmp_path / "adapter", tmp_path / "merged"
    write_adapter(tiny_model, CONFIGS[name](rows), adapter, _grown(tiny_model))
    assert any("base_layer" in tensor for tensor in load_file(adapter / WEIGHTS))
    merged.make(base=find_model(str(tiny_model)), adapters=[adapter], out=out, tolerance=1e-2)
    expected = _logits(peft.PeftModel.from_pretrained(_grown(tiny_model), adapter), rows)
    written = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    assert written.config.vocab_size == rows + 2
    assert (_logits(written, rows) - expected).abs().max() < 2e-3
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    assert (_logits(merge_into(model, [adapter]), rows) - expected).abs().max() < 2e-3


@pytest.mark.parametrize("name", ["trained tokens", "trained tokens, as a list"])
def test_the_rows_of_all_new_tokens_are_enough(name: str, tiny_model: Path, tmp_path: Path) -> None:
    rows, adapter, out = _rows(tiny_model), tmp_path / "adapter", tmp_path / "merged"
    write_adapter(tiny_model, CONFIGS[name](rows), adapter, _grown(tiny_model))
    _without_whole_matrices(adapter)
    merged.make(base=find_model(str(tiny_model)), adapters=[adapter], out=out, tolerance=1e-2)
    expected = _logits(peft.PeftModel.from_pretrained(_grown(tiny_model), adapter), rows)
    written = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    assert (_logits(written, rows) - expected).abs().max() < 2e-3


def test_two_adapters_with_the_same_new_tokens(tiny_model: Path, tmp_path: Path) -> None:
    """The second one, trained after the first, finds the rows there."""
    rows, out = _rows(tiny_model), tmp_path / "merged"
    adapters = [tmp_path / "first", tmp_path / "second"]
    write_adapter(tiny_model, CONFIGS["trained tokens"](rows), adapters[0], _grown(tiny_model))
    once = peft.PeftModel.from_pretrained(_grown(tiny_model), adapters[0]).merge_and_unload()
    write_adapter(tiny_model, CONFIGS["trained tokens"](rows), adapters[1], once)
    merged.make(base=find_model(str(tiny_model)), adapters=adapters, out=out, tolerance=1e-2)
    once = peft.PeftModel.from_pretrained(_grown(tiny_model), adapters[0]).merge_and_unload()
    expected = _logits(peft.PeftModel.from_pretrained(once, adapters[1]), rows)
    written = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    assert (_logits(written, rows) - expected).abs().max() < 2e-3


def test_rows_that_the_file_lacks_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    rows = _rows(tiny_model)
    for number, (config, option) in enumerate(
        (
            (lora_config(trainable_token_indices=[1, rows + 1]), "trainable_token_indices"),
            (CONFIGS["LoRA of embeddings"](rows), "target_modules: a LoRA of embeddings"),
        )
    ):
        adapter = tmp_path / f"adapter-{number}"
        write_adapter(tiny_model, config, adapter, _grown(tiny_model))
        _without_whole_matrices(adapter)
        with pytest.raises(EmpathyEdgeError, match=rf"lacks those of .*embed_tokens \({CONFIG}, {option}\)"):
            merged.make(
                base=find_model(str(tiny_model)),
                adapters=[adapter],
                out=tmp_path / f"out-{number}",
                tolerance=1e-2,
            )


def test_a_token_beyond_all_rows_is_one_error(tiny_model: Path, tmp_path: Path) -> None:
    """Of the option alone, without its tensor, PEFT's error was a traceback; a plain merge left it out."""
    adapter = tmp_path / "adapter"
    write_adapter(tiny_model, lora_config(), adapter)
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps(config | {"trainable_token_indices": [10**6]}))
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    with pytest.raises(EmpathyEdgeError, match="PEFT cannot load this adapter on this base"):
        merge_into(model, [adapter])
    with pytest.raises(EmpathyEdgeError, match="uses trainable_token_indices, so it is no plain LoRA"):
        adapter_deltas(adapter)


@pytest.mark.parametrize("name", CONFIGS)
def test_new_rows_have_no_part(name: str, tiny_model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    write_adapter(tiny_model, CONFIGS[name](_rows(tiny_model)), adapter, _grown(tiny_model))
    with pytest.raises(EmpathyEdgeError, match=r"embed_tokens\.weight another shape, so the base has no val"):
        merged.make(
            base=find_model(str(tiny_model)),
            adapters=[adapter],
            weights=[0.5],
            out=tmp_path / "merged",
            tolerance=1e-2,
        )


@pytest.mark.parametrize(
    ("tensor", "module"),
    [
        ("model.embed_tokens.weight", "model.embed_tokens"),
        ("model.embed_tokens.base_layer.weight", "model.embed_tokens"),
        ("model.embed_tokens.token_adapter.base_layer.weight", "model.embed_tokens"),
        ("model.embed_tokens.token_adapter.trainable_tokens_delta", "model.embed_tokens"),
        ("model.embed_tokens.trainable_tokens_delta", "model.embed_tokens"),
        ("model.embed_tokens.lora_embedding_A", "model.embed_tokens"),
        ("lm_head.weight", "lm_head"),
        ("model.layers.0.mlp.up_proj.lora_A.weight", "model.layers.0.mlp.up_proj.lora_A"),
        ("model.embed_tokens.lora_embedding_B", "model.embed_tokens.lora_embedding_B"),
    ],
)
def test_the_module_of_a_tensor(tensor: str, module: str) -> None:
    assert module_of(f"base_model.model.{tensor}") == module
