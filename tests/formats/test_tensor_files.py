"""Safetensors are read as the library reads them, and headers that lie are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats import tensor_files
from empathy_edge.formats.tensor_files import stored_tensors, write_safetensors


def test_values_are_those_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    import torch
    from safetensors.torch import load_file, save_file

    monkeypatch.setattr(tensor_files, "CHUNK_BYTES", 4 * 7 * 10)  # several chunks
    kinds = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}
    made = {name: torch.randn(33, 7).to(kind) for name, kind in kinds.items()} | {
        "scalar": torch.tensor(2.5),
        "row": torch.randn(5),
    }
    save_file(made, tmp_path / "a.safetensors")
    found = stored_tensors(tmp_path)
    for name, tensor in made.items():
        np.testing.assert_array_equal(found[name].load(), tensor.float().numpy())
    shapes = {name: item.shape for name, item in found.items()}
    write_safetensors(tmp_path / "b.safetensors", shapes, (item.chunks() for item in found.values()))
    for name, tensor in load_file(tmp_path / "b.safetensors").items():
        assert torch.equal(tensor, made[name].float())


def write(file: Path, header: object, data: bytes = b"\0" * 64) -> None:
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


LIES = [
    {"w": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}},
    {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 64]}},
    {"w": {"dtype": "F32", "shape": [-4], "data_offsets": [0, -16]}},
    {"w": {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]}},
    {"w": {"dtype": "PICKLE", "shape": [4], "data_offsets": [0, 16]}},
    {"w": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 2**82]}},
    {"w": {"dtype": "F32", "shape": "abcd", "data_offsets": [0, 16]}},
    {"w": 5},
    [],
    None,
]  # fmt: skip


@pytest.mark.parametrize("header", LIES)
def test_headers_that_lie_are_refused(header: object, tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", header)
    with pytest.raises(EmpathyEdgeError, match="header is damaged or does not fit"):
        stored_tensors(tmp_path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, 199), st.integers(0, 255))
def test_any_bytes_are_read_or_refused(tmp_path: Path, noise: bytes, place: int, byte: int) -> None:
    write(tmp_path / "a.safetensors", {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, noise)
    content = bytearray((tmp_path / "a.safetensors").read_bytes())
    content[place % len(content)] = byte
    (tmp_path / "a.safetensors").write_bytes(content)
    try:
        for tensor in stored_tensors(tmp_path).values():
            assert tensor.nbytes <= len(content)
            if tensor.dtype == "F32":
                tensor.load()
    except EmpathyEdgeError:
        pass
