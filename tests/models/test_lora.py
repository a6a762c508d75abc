"""Adapters: what is not understood is refused, everywhere an adapter is read."""

import json
from pathlib import Path

import numpy as np
import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.models.lora import adapter_deltas, join

safetensors = pytest.importorskip("safetensors.numpy")

LAYER = "base_model.model.model.layers.0.mlp.up_proj"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    tensors = {f"{LAYER}.lora_A.weight": np.ones((2, 4)), f"{LAYER}.lora_B.weight": np.ones((6, 2))}
    safetensors.save_file(
        {name: value.astype(np.float32) for name, value in tensors.items()}, _file(tmp_path)
    )
    return tmp_path


def _file(adapter: Path) -> Path:
    return adapter / "adapter_model.safetensors"


def test_a_plain_adapter_is_read(adapter: Path) -> None:
    assert set(adapter_deltas(adapter)) == {"model.layers.0.mlp.up_proj.weight"}


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.lm_head.weight",  # modules_to_save
        "base_model.model.model.embed_tokens.lora_embedding_A",
        f"{LAYER}.lora_magnitude_vector",  # DoRA
        f"{LAYER}.bias",
        "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight",  # without its A
    ],
)
def test_a_tensor_that_is_not_used_is_an_error(name: str, adapter: Path) -> None:
    """The review's C1: four of five tensors were left out without a word."""
    safetensors.save_file(
        {**safetensors.load_file(_file(adapter)), name: np.ones((6, 2), np.float32)}, _file(adapter)
    )
    for read in (adapter_deltas, lambda folder: join([folder])):
        with pytest.raises(EmpathyEdgeError, match=f"{name}"):
            read(adapter)
