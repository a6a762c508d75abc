"""From a GGUF file to a checkpoint folder: its dequantized weights in fp32, and its tokenizer."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from empathy_edge.console import quiet_libraries, say
from empathy_edge.errors import PrerequisiteError, require_extra
from empathy_edge.system.files import write_json
from empathy_edge.system.locks import holding
from empathy_edge.system.machine import require_memory, require_space

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SOURCE = "source.json"
"""In a converted checkpoint: the name and sha256 of the file it was made from."""

CHECKPOINT_MB_PER_GGUF_MB = 14
"""Enough for types down to Q2_K: from 2.6 bits per weight to 32."""


def convert_gguf(file: Path, folder: Path, *, name: str, sha256: str) -> None:
    """Write a GGUF's weights and tokenizer as a checkpoint folder, whole or not at all.

    While another command converts the same file, this one waits, and takes what that one made.

    Args:
        file: the GGUF.
        folder: where the checkpoint goes, in the model cache; an unfinished one there is replaced.
        name: the model's name, for messages.
        sha256: of `file`, written into the checkpoint.

    Raises:
        PrerequisiteError: transformers is missing, the disk is too small, or the cache cannot be written.
    """
    require_extra("transformers", "train", f"Converting {file.name} to a checkpoint")

    def wait() -> None:
        say(f"Waiting for another command that converts {file.name} to a checkpoint …")

    with holding(folder.with_name(f".{folder.name}.lock"), wait):
        if not (folder / "config.json").is_file():
            _convert(file, folder, name, sha256)


def _convert(file: Path, folder: Path, name: str, sha256: str) -> None:
    """As `convert_gguf`, while no other command does the same."""
    needed_mb = CHECKPOINT_MB_PER_GGUF_MB * file.stat().st_size / 1e6 + 100
    require_space(folder, needed_mb, f"the checkpoint of {name}")
    _require_memory(file, name)
    temporary = _temporary_folder(folder)
    try:
        say(f"Converting {file.name} to a checkpoint (once; kept in the model cache) …")
        _write_checkpoint(file, temporary)
        write_json(temporary / SOURCE, {"file": file.name, "sha256": sha256})
        if folder.exists():
            shutil.rmtree(folder)  # an unfinished copy in our own cache
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _require_memory(file: Path, name: str) -> None:
    """Refuse a GGUF whose weights do not fit into memory: transformers holds them in fp32, about twice."""
    import gguf

    weights = sum(int(tensor.n_elements) for tensor in gguf.GGUFReader(file).tensors)
    needed_mb = 8 * weights / 1e6 + 500
    require_memory(needed_mb, needed_mb, f"converting {name}", "give the model as safetensors")


def _temporary_folder(folder: Path) -> Path:
    """A new folder beside `folder`; those of processes that were killed on their way there are removed."""
    prefix = f".converting-{folder.name}-"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    except OSError as error:
        raise PrerequisiteError(
            f"The model cache cannot be written: {folder.parent} ({error.strerror}).",
            "Point EMPATHY_EDGE_CACHE at a folder that can be written.",
        ) from None


def _write_checkpoint(file: Path, folder: Path) -> None:
    quiet_libraries()
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    # transformers 5 refuses to save a model that is marked as quantized.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer = tokenizer_from_gguf(file)
    end = tokenizer.convert_tokens_to_ids(tokenizer.eos_token)
    model.config.eos_token_id = end
    model.generation_config.eos_token_id = end
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tokenizer_from_gguf(file: Path) -> PreTrainedTokenizerBase:
    """A GGUF's tokenizer: SmolLM's is built from the metadata in 0.3 s; transformers takes 15 to 30 s."""
    import gguf
    from transformers import AutoTokenizer

    fields = gguf.GGUFReader(file).fields
    if "tokenizer.ggml.pre" in fields and fields["tokenizer.ggml.pre"].contents() == "smollm":
        return _smollm_tokenizer({name: field.contents() for name, field in fields.items()})
    return AutoTokenizer.from_pretrained(
        file.parent, gguf_file=file.name, local_files_only=True, trust_remote_code=False
    )


def _smollm_tokenizer(metadata: dict[str, Any]) -> PreTrainedTokenizerBase:
    """SmolLM's byte-level BPE tokenizer, from a GGUF's metadata."""
    import gguf
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    tokens = metadata["tokenizer.ggml.tokens"]
    kinds = metadata["tokenizer.ggml.token_type"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()

    def of_kind(kind: gguf.TokenType) -> list[str]:
        return [token for token, found in zip(tokens, kinds, strict=True) if found == kind.value]

    control_tokens, own_tokens = of_kind(gguf.TokenType.CONTROL), of_kind(gguf.TokenType.USER_DEFINED)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in control_tokens]
    )
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in own_tokens])

    def special(role: str) -> str | None:
        index = metadata.get(f"tokenizer.ggml.{role}_token_id")
        return None if index is None else str(tokens[index])

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=special("bos"),
        eos_token=special("eos"),
        unk_token=special("unknown"),
        pad_token=special("padding"),
        clean_up_tokenization_spaces=False,
        chat_template=metadata.get("tokenizer.chat_template"),
        model_max_length=metadata[f"{metadata['general.architecture']}.context_length"],
    )
