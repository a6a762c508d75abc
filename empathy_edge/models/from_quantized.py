"""From a quantized checkpoint to a full-precision one, with the weights that adapters were trained on.

It goes tensor by tensor, without torch and without the library that packed them.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.formats.bitsandbytes_weights import bitsandbytes_weights
from empathy_edge.formats.grouped_weights import (
    COMPRESSED_FORMATS,
    GPTQ_FORMATS,
    awq_weights,
    compressed_weights,
    gptq_weights,
)
from empathy_edge.formats.packed_weights import PackedWeight
from empathy_edge.formats.tensor_files import StoredTensor, stored_tensors, write_safetensors
from empathy_edge.models.from_gguf import SOURCE
from empathy_edge.system.files import MANIFEST, own_file, read_json_object, write_json
from empathy_edge.system.locks import holding
from empathy_edge.system.machine import require_space

METHODS = ("bitsandbytes nf4", "bitsandbytes fp4", "bitsandbytes int8", "GPTQ", "AWQ", "compressed-tensors")
"""What is dequantized."""

SHARD_BYTES = 2 * 10**9
"""Of a file of the full-precision checkpoint; a conversion that is cut off goes on after the last one."""

_CONFIG = "config.json"
_INDEX = "model.safetensors.index.json"
_NOT_COPIED = (_CONFIG, _INDEX, SOURCE, MANIFEST, "quantize_config.json", "quant_config.json")
_COPIED = (".json", ".jinja", ".model", ".txt")

_QUANTIZED_NAME = re.compile(
    r"[-_.](?:unsloth[-_])?(?:bnb[-_])?(?:4|8)-?bits?\b.*$|[-_.](?:bnb|gptq|awq|nf4|fp4|int4|int8|w4a16|w8a16|w8a8|"
    r"fp8|hqq|mlx|quantized)\b.*$",
    re.IGNORECASE,
)
"""What names of quantized checkpoints end with, after the name of the original."""


@dataclass(frozen=True)
class Quantization:
    """How a checkpoint's weights are quantized.

    Attributes:
        method: as its library is called, with the kind: `bitsandbytes nf4`, `GPTQ, 4 bits`.
        settings: its `quantization_config`.
    """

    method: str
    settings: dict[str, Any]

    @property
    def rounds_activations(self) -> bool:
        """Whether a training on it rounds activations as well, which no weights can hold."""
        return "int8" in self.method or self.settings.get("format") == "int-quantized"


def quantization_of(folder: Path) -> Quantization | None:
    """How a checkpoint's configuration says that its weights are quantized; None where they are not."""
    config = read_json_object(folder / _CONFIG)
    keys = ("quantization_config", "compression_config", "quantization")
    settings = next((config[key] for key in keys if isinstance(config.get(key), dict)), None)
    if settings is None:
        return None
    method = str(settings.get("quant_method", "MLX" if "group_size" in settings else "an unknown method"))
    if method == "bitsandbytes":
        kind = settings.get("bnb_4bit_quant_type", "fp4") if settings.get("load_in_4bit") else "int8"
        return Quantization(f"bitsandbytes {kind}", settings)
    if method in ("gptq", "awq"):
        return Quantization(
            f"{method.upper()}, {settings.get('bits') or settings.get('w_bit')} bits", settings
        )
    return Quantization(method, settings)


def original_name(name: str) -> str | None:
    """The likely name of a quantized checkpoint's full-precision original; None where its name says none.

    >>> original_name("unsloth/Llama-3.2-1B-Instruct-unsloth-bnb-4bit")
    'unsloth/Llama-3.2-1B-Instruct'
    >>> original_name("Qwen/Qwen2.5-0.5B-Instruct-GPTQ-Int4")
    'Qwen/Qwen2.5-0.5B-Instruct'
    """
    found = _QUANTIZED_NAME.sub("", name.rstrip("/"))
    return found if found not in ("", name.rstrip("/")) else None


def dequantize_checkpoint(
    source: Path, folder: Path, *, name: str, sha256: str, quantization: Quantization
) -> None:
    """Write a quantized checkpoint's weights in fp32, with its tokenizer, as a checkpoint folder.

    A folder that is there is whole. A conversion that was cut off goes on where it stopped.

    Args:
        source: the quantized checkpoint.
        folder: where the other goes, in the model cache.
        name: the model's name, for messages.
        sha256: of the quantized weights, written into the checkpoint.
        quantization: how it is quantized.

    Raises:
        EmpathyEdgeError: its method is not known here, or its parts are damaged.
        PrerequisiteError: the disk is too small, or the cache cannot be written.
    """
    require_known(name, quantization)
    tensors = stored_tensors(source)
    packed = packed_weights(name, tensors, quantization)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PrerequisiteError(
            f"The model cache cannot be written: {folder.parent} ({error.strerror}).",
            "Point EMPATHY_EDGE_CACHE at a folder that can be written.",
        ) from None

    def wait() -> None:
        say(f"Waiting for another command that dequantizes {name} …")

    with holding(folder.with_name(f".{folder.name}.lock"), wait):
        if (folder / _CONFIG).is_file():
            return  # another process has made it meanwhile
        say(f"Dequantizing {name}: {len(packed)} matrices, once; kept in the model cache …")
        unfinished.mkdir(exist_ok=True)
        _write_weights(tensors, packed, unfinished, name)
        _copy_files(source, unfinished)
        write_json(unfinished / SOURCE, {"file": name, "sha256": sha256, "method": quantization.method})
        if folder.exists():
            shutil.rmtree(folder)  # an unfinished copy in our own cache
        unfinished.rename(folder)


def require_known(name: str, quantization: Quantization) -> None:
    """Refuse a method whose weights are not unpacked here.

    Raises:
        EmpathyEdgeError: names the method, what is known, and what to give instead.
    """
    try:
        reason = _why_not(quantization)
    except (AttributeError, TypeError, KeyError, ValueError):
        raise EmpathyEdgeError(
            f"{name}: the quantization settings in {_CONFIG} are damaged; get the file again."
        ) from None
    if reason:
        original = original_name(name)
        by_name = f" (by its name: {original})" if original else ""
        raise EmpathyEdgeError(
            f"{name}: its weights are quantized ({quantization.method}), and are not dequantized here: "
            f"{reason}.\n  Give the full-precision original{by_name}:\n"
            "  empathy-edge export ORIGINAL --adapter ADAPTER …"
        )


def _why_not(quantization: Quantization) -> str | None:
    """Why weights are not unpacked here; None where they are."""
    settings = quantization.settings
    method = quantization.method.partition(",")[0]
    if method == "GPTQ":
        return _why_not_gptq(settings)
    if method == "AWQ":
        version = str(settings.get("version", "gemm")).lower()
        if version not in ("gemm", "ipex") or int(settings.get("bits") or settings.get("w_bit") or 4) != 4:
            return f"its packing is '{version}', {settings.get('bits')} bits; 'gemm' with 4 bits is read"
        return None
    if method == "compressed-tensors":
        return _why_not_compressed(settings)
    return None if method in METHODS else f"weights of these are read: {', '.join(METHODS)}"


def _why_not_gptq(settings: Mapping[str, Any]) -> str | None:
    kind = settings.get("checkpoint_format") or settings.get("format") or "gptq"
    int(settings.get("bits", 4))  # a ValueError where it is no number
    if kind not in GPTQ_FORMATS:
        return f"its packing is '{kind}'; {' and '.join(GPTQ_FORMATS)} are read"
    if settings.get("pack_dtype", "int32") != "int32" or settings.get("planar"):
        return "its packing is not the usual one of 32-bit words"
    return None


def _why_not_compressed(settings: Mapping[str, Any]) -> str | None:
    schemes = (settings.get("config_groups") or {}).values()
    formats = {str(scheme.get("format") or settings.get("format")) for scheme in schemes}
    unknown = formats - set(COMPRESSED_FORMATS)
    if unknown or not formats:
        found = ", ".join(sorted(unknown)) or "not said"
        return f"its format is {found}; {' and '.join(COMPRESSED_FORMATS)} are read"
    sparse = (settings.get("sparsity_config") or {}).get("format", "dense")
    if sparse != "dense" or (settings.get("transform_config") or {}).get("config_groups"):
        return "it is sparse, or its weights are rotated"
    return None


def packed_weights(
    name: str, tensors: Mapping[str, StoredTensor], quantization: Quantization
) -> list[PackedWeight]:
    """Every packed matrix of a checkpoint whose method is known.

    Raises:
        EmpathyEdgeError: it has none, or the parts of one are damaged.
    """
    method = quantization.method.partition(",")[0]
    if method == "GPTQ":
        packed = gptq_weights(tensors, quantization.settings)
    elif method == "AWQ":
        packed = awq_weights(tensors)
    elif method == "compressed-tensors":
        packed = compressed_weights(tensors, quantization.settings)
    else:
        packed = bitsandbytes_weights(tensors)
    used = {part for weight in packed for part in weight.parts}
    loose = [tensor for tensor in tensors.values() if tensor.name not in used and not tensor.is_float]
    wrong = next((tensor for tensor in loose if not packed or tensor.name.endswith("weight")), None)
    if wrong:
        raise EmpathyEdgeError(
            f"{wrong.file}: {wrong.name} is stored as {wrong.dtype}, not as {quantization.method} "
            "packs it; get the checkpoint again."
        )
    if not packed:
        raise EmpathyEdgeError(
            f"{name}: {_CONFIG} says that its weights are quantized ({quantization.method}), but no tensor "
            "is packed so.\n  Where they are in full precision, take 'quantization_config' out of the file; "
            "else give the original:\n  empathy-edge export ORIGINAL --adapter ADAPTER …"
        )
    return packed


def _write_weights(
    tensors: Mapping[str, StoredTensor], packed: Iterable[PackedWeight], folder: Path, name: str
) -> None:
    """Write every matrix and every other floating-point tensor in fp32, in files of about SHARD_BYTES."""
    used = {part for weight in packed for part in weight.parts}
    by_place = {weight.stored_in: weight for weight in packed}
    weights: dict[str, PackedWeight | StoredTensor] = {}
    for tensor in tensors.values():
        if tensor.name in by_place:
            weights[by_place[tensor.name].name] = by_place[tensor.name]
        elif tensor.name not in used and tensor.is_float:
            weights[tensor.name] = tensor
    shards = _shards(weights)
    files = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    files = files if len(shards) > 1 else ["model.safetensors"]
    missing = [shard for file, shard in zip(files, shards, strict=True) if not (folder / file).is_file()]
    needed = sum(_nbytes(weights[each]) for shard in missing for each in shard)
    require_space(folder, 1.01 * needed / 1e6 + 100, f"the full-precision checkpoint of {name}")
    for file, shard in zip(files, shards, strict=True):
        if not (folder / file).is_file():
            shapes = {each: weights[each].shape for each in shard}
            write_safetensors(folder / file, shapes, (weights[each].chunks() for each in shard))
    if len(shards) > 1:
        places = {each: file for file, shard in zip(files, shards, strict=True) for each in shard}
        size = sum(_nbytes(weight) for weight in weights.values())
        write_json(folder / _INDEX, {"metadata": {"total_size": size}, "weight_map": places})


def _shards(weights: Mapping[str, PackedWeight | StoredTensor]) -> list[list[str]]:
    """The names of the tensors of each file."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, weight in weights.items():
        if shards[-1] and size + _nbytes(weight) > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += _nbytes(weight)
    return shards


def _nbytes(weight: PackedWeight | StoredTensor) -> int:
    """In fp32."""
    return np.dtype(np.float32).itemsize * math.prod(weight.shape)


def _copy_files(source: Path, folder: Path) -> None:
    """Copy the tokenizer, the template and the settings, and write the configuration without quantization."""
    for file in sorted(source.iterdir()):
        if file.suffix in _COPIED and file.name not in _NOT_COPIED and file.is_file():
            shutil.copyfile(own_file(file), folder / file.name)
    config = read_json_object(source / _CONFIG)
    for key in ("quantization_config", "compression_config", "torch_dtype"):
        config.pop(key, None)
    write_json(folder / _CONFIG, config | {"dtype": "float32"})
