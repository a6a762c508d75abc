"""The packed forward pass gives what the plain one gives: log-probabilities, gradients, TRL's figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from empathy_edge.finetune.fused_lora import fuse_lora
from empathy_edge.runtimes.packed import can_pack, lay_out, pack_batches

ROWS = [
    [*range(10, 30), *range(100, 117)],  # two rows with one beginning: the responses of a pair
    [*range(10, 30), *range(200, 209)],
    [*range(10, 22), *range(300, 331)],  # shares the first 12
    [*range(400, 425)],  # shares nothing
    [*range(10, 30)],  # is another row's beginning, whole
]
STARTS = (18, 18, 14, 3, 12)


def padded() -> dict[str, torch.Tensor]:
    length = max(map(len, ROWS))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in ROWS])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ROWS])
    labels = ids.masked_fill(mask == 0, -100)
    for row, start in zip(labels, STARTS, strict=True):
        row[:start] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def tuned(checkpoint: Path, lean: bool) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    add_fused_lm_head(model.get_base_model(), outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    if lean:
        assert can_pack(model.get_base_model())
        pack_batches(model.get_base_model())
        fuse_lora(model)
    return model


def test_what_rows_share_is_laid_out_once() -> None:
    batch = padded()
    layout = lay_out(batch["input_ids"], batch["attention_mask"])
    assert len(layout.ids) == 20 + 17 + 9 + 31 + 25 == sum(layout.segments)
    places = layout.gather.view(batch["input_ids"].shape)
    for number, row in enumerate(ROWS):
        assert layout.ids[places[number, : len(row)]].tolist() == row
        assert layout.positions[places[number, : len(row)]].tolist() == list(range(len(row)))


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_lean_forward_and_backward_equal_the_plain_ones(
    family: str, tiny_model: Path, tmp_path: Path
) -> None:
    checkpoint = tiny_model
    if family == "qwen2":  # has biases on q, k and v
        from transformers import Qwen2Config, Qwen2ForCausalLM

        config = Qwen2Config(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=500,
            initializer_range=0.2,
        )
        checkpoint = tmp_path / "qwen2"
        Qwen2ForCausalLM(config).save_pretrained(checkpoint)
    plain, plain_grads = outputs_and_gradients(tuned(checkpoint, lean=False))
    lean, lean_grads = outputs_and_gradients(tuned(checkpoint, lean=True))
    exact, exact_grads = in_float64(tuned(checkpoint, lean=False))
    assert torch.equal(plain.is_top1, lean.is_top1) and torch.equal(plain.label_mask, lean.label_mask)
    for name in ("log_probs", "mean_logits"):
        assert_as_exact(getattr(lean, name), getattr(plain, name), exact[name], name)
    # The lean entropy is the difference of two numbers several times as large; it is only logged.
    assert (lean.entropy - exact["entropy"]).norm() <= 1e-4 * exact["entropy"].norm()
    for name, wanted in exact_grads.items():
        assert_as_exact(lean_grads[name], plain_grads[name], wanted, name)


def outputs_and_gradients(model: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """TRL's record, and the gradients of a weighted sum of its log-probabilities."""
    output = model(**padded(), fused_lm_head=True)
    (output.log_probs * torch.arange(1, 6)[:, None]).sum().backward()
    return output, {name: item.grad for name, item in model.named_parameters() if item.requires_grad}


def in_float64(model: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The same from the whole logits, as the definitions say, in double precision."""
    batch = padded()
    labels = batch.pop("labels")[:, 1:]
    logits = model.double()(**batch).logits[:, :-1]
    log_softmax = torch.log_softmax(logits, -1)
    mask = labels != -100
    values = {
        "log_probs": log_softmax.gather(-1, labels.clamp(min=0)[..., None])[..., 0],
        "entropy": -(log_softmax.exp() * log_softmax).sum(-1),
        "mean_logits": logits.mean(-1),
    }
    values = {name: item.masked_fill(~mask, 0.0) for name, item in values.items()}
    (values["log_probs"] * torch.arange(1, 6)[:, None]).sum().backward()
    return values, {name: item.grad for name, item in model.named_parameters() if item.requires_grad}


def assert_as_exact(lean: torch.Tensor, plain: torch.Tensor, exact: torch.Tensor, name: str) -> None:
    """How far fp32 is from the exact value depends on the instruction set, which decides the order of sums.

    So the plain forward's own error is the measure: the lean one's may be at most four times as large.
    """
    far = (lean.double() - exact).norm()
    near = (plain.double() - exact).norm()
    assert far <= 4 * near + 1e-6 * exact.norm(), (
        f"{name}: {far:.2e}, plain {near:.2e}, of {exact.norm():.2e}"
    )
    assert far <= 1e-2 * exact.norm(), name


def test_without_its_adapter_the_lean_model_is_the_base(tiny_model: Path) -> None:
    """DPO takes the reference's log-probabilities from the same model with its adapter switched off."""
    model = tuned(tiny_model, lean=True)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    add_fused_lm_head(base)
    with torch.no_grad(), model.disable_adapter():
        assert torch.allclose(
            model(**padded(), fused_lm_head=True).log_probs,
            base(**padded(), fused_lm_head=True).log_probs,
            atol=2e-4,
        )


def test_generation_is_the_plain_one(tiny_model: Path) -> None:
    texts = []
    for lean in (False, True):
        model = tuned(tiny_model, lean)
        if lean:
            model(**padded(), fused_lm_head=True)
        ids = torch.tensor([ROWS[0]])
        texts.append(model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8,
                                    do_sample=False).tolist())  # fmt: skip
    assert texts[0] == texts[1]
