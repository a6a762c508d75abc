"""A checkpoint as GGUF: metadata, tokenizer and tensors, written tensor by tensor.

The layout is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; names and constants come from the
package `gguf`. Architectures: Llama (SmolLM2 among them) with a byte-level BPE tokenizer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.chat_format import read_template, turn_end
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.run import read_json

SUPPORTED = ("LlamaForCausalLM",)

QUANTIZATIONS = {
    "q8_0": "LLAMA_FTYPE_MOSTLY_Q8_0",
    "q4_0": "LLAMA_FTYPE_MOSTLY_Q4_0",
    "q4_k_m": "LLAMA_FTYPE_MOSTLY_Q4_K_M",
}
"""Our name → llama.cpp's file type."""


def write_f16(checkpoint: Path, file: Path) -> None:
    """Write `checkpoint` (a folder of safetensors) as an F16 GGUF; norms stay in F32.

    Raises:
        EmpathyEdgeError: an architecture, tokenizer or rope scaling that is not supported.
    """
    require_extra("gguf", "gguf", "Writing a GGUF file")
    import gguf

    config = read_json(checkpoint / "config.json")
    architecture = (config.get("architectures") or ["unknown"])[0]
    if architecture not in SUPPORTED:
        raise EmpathyEdgeError(
            f"{checkpoint}: cannot write {architecture} as GGUF yet; supported: {', '.join(SUPPORTED)}."
        )
    temporary = file.with_suffix(".tmp")
    writer = gguf.GGUFWriter(temporary, "llama")
    try:
        _write_config(writer, checkpoint, config)
        _write_tokenizer(writer, checkpoint, config)
        tensors = list(_tensors(checkpoint, config))
        for name, shape, kind, _ in tensors:
            dtype = np.dtype(kind)
            writer.add_tensor_info(name, shape, dtype, int(np.prod(shape)) * dtype.itemsize)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, _, kind, load in tensors:
            writer.write_tensor_data(load().astype(kind))
        writer.close()
        os.replace(temporary, file)
    except BaseException:
        writer.close()
        temporary.unlink(missing_ok=True)
        raise


def quantize(source: Path, file: Path, quantization: str, threads: int) -> None:
    """Quantize an F16 GGUF with llama.cpp (`llama_model_quantize`)."""
    require_extra("llama_cpp", "gguf", "Quantizing a GGUF file")
    import llama_cpp

    from empathy_edge.runtimes.llama_cpp_runtime import quiet_stderr

    temporary = file.with_suffix(".tmp")
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, QUANTIZATIONS[quantization])
    parameters.nthread = threads
    try:
        with quiet_stderr():
            status = llama_cpp.llama_model_quantize(str(source).encode(), str(temporary).encode(), parameters)
        if status != 0:
            raise EmpathyEdgeError(f"{source}: llama.cpp could not quantize it to {quantization} (code {status}).")
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _write_config(writer: Any, checkpoint: Path, config: dict[str, Any]) -> None:
    import gguf

    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 10000.0)}
    if rope.get("rope_type", "default") != "default":
        raise EmpathyEdgeError(f"{checkpoint}: rope scaling '{rope['rope_type']}' is not supported yet.")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(checkpoint.resolve().parent.name + "-" + checkpoint.name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def _write_tokenizer(writer: Any, checkpoint: Path, config: dict[str, Any]) -> None:
    import gguf

    tokenizer = read_json(checkpoint / "tokenizer.json")
    model = tokenizer["model"]
    if model.get("type") != "BPE":
        raise EmpathyEdgeError(
            f"{checkpoint}: the tokenizer is {model.get('type')}; only byte-level BPE is supported."
        )
    tokens = {index: piece for piece, index in model["vocab"].items()}
    kinds = dict.fromkeys(tokens, gguf.TokenType.NORMAL)
    for item in tokenizer.get("added_tokens", []):
        tokens[item["id"]] = item["content"]
        kinds[item["id"]] = gguf.TokenType.CONTROL if item["special"] else gguf.TokenType.USER_DEFINED
    ids = range(config["vocab_size"])
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    template = read_template(checkpoint)
    by_text = {text: index for index, text in tokens.items()}
    stop = by_text[turn_end(template)]
    settings = read_json(checkpoint / "tokenizer_config.json")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(checkpoint, tokenizer))
    writer.add_token_list([tokens.get(index, f"[PAD{index}]") for index in ids])
    writer.add_token_types([kinds.get(index, gguf.TokenType.UNUSED) for index in ids])
    writer.add_token_merges(merges)
    for role in ("bos", "unk", "pad"):
        text = settings.get(f"{role}_token")
        text = text["content"] if isinstance(text, dict) else text
        if text in by_text:
            getattr(writer, f"add_{role}_token_id")(by_text[text])
    writer.add_eos_token_id(stop)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(template)


def _pre_tokenizer(checkpoint: Path, tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name of the rule that splits text before BPE."""
    steps = (tokenizer.get("pre_tokenizer") or {}).get("pretokenizers", [])
    kinds = [step.get("type") for step in steps]
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and steps[1].get("use_regex", True):
        return "smollm"
    raise EmpathyEdgeError(
        f"{checkpoint}: the tokenizer's pre-tokenizer ({', '.join(map(str, kinds)) or 'none'}) is not supported yet; "
        "supported: SmolLM's (digits one by one, then byte-level)."
    )


def _tensors(checkpoint: Path, config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...], str, Any]]:
    """Each tensor's GGUF name, shape, dtype, and a function that reads it from the disk."""
    import gguf
    from safetensors import safe_open

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = config["num_attention_heads"]
    permuted = {"q_proj.weight": heads, "k_proj.weight": config.get("num_key_value_heads") or heads}
    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 - not a dict
                if key == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue
                name = names.get_name(key, try_suffixes=(".weight", ".bias"))
                if name is None:
                    raise EmpathyEdgeError(f"{file}: no GGUF name for the tensor {key}.")
                shape = tuple(opened.get_slice(key).get_shape())
                rows = next((count for suffix, count in permuted.items() if key.endswith(suffix)), None)
                kind = "float16" if len(shape) > 1 else "float32"
                yield name, shape, kind, _loader(file, key, rows)


def _loader(file: Path, key: str, heads: int | None) -> Any:
    from safetensors import safe_open

    def load() -> np.ndarray:
        with safe_open(file, framework="pt") as opened:
            tensor = opened.get_tensor(key).float().numpy()
        return tensor if heads is None else interleave_rope(tensor, heads)

    return load


def interleave_rope(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder a query or key matrix from Hugging Face's split-half rope to llama.cpp's interleaved one."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
