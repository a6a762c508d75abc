"""Quantized checkpoints as bases: dequantized to exactly the weights that adapters on them were trained with.

bitsandbytes is compared with itself. The packers of the other formats are written here, from their
descriptions: integers in a row of bits, the lowest first.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig  # noqa: E402

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError  # noqa: E402
from empathy_edge.export.base_difference import tell_other_base  # noqa: E402
from empathy_edge.formats.grouped_weights import compressed_weights  # noqa: E402
from empathy_edge.formats.tensor_files import stored_tensors  # noqa: E402
from empathy_edge.models import from_quantized  # noqa: E402
from empathy_edge.models.find import base_of_adapter, checkpoint_of, find_model  # noqa: E402
from empathy_edge.models.from_quantized import original_name  # noqa: E402
from empathy_edge.runtimes import open_runtime  # noqa: E402
from tests.conftest import assert_one_clear_error, run_command  # noqa: E402

IDS = torch.tensor([[1, 4093, 198, 57, 5248, 3112, 30, 2, 198, 1, 520, 9531, 198]])
GROUP = 32


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))


def _load(folder: Path, dtype: Any = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)


def _logits(model: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=IDS).logits.float()


BITSANDBYTES: dict[str, tuple[dict[str, Any], Any]] = {
    "nf4": ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, torch.float32),
    "nf4, scales quantized, too": (
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
        torch.bfloat16,
    ),
    "nf4, stored as bf16": (
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_quant_storage": torch.bfloat16},
        torch.bfloat16,
    ),
    "fp4": ({"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}, torch.float16),
    "int8": ({"load_in_8bit": True}, torch.float32),
}
"""What bitsandbytes writes: its settings, and the type that it unpacks into."""


def _write_bitsandbytes(tiny_model: Path, folder: Path, kind: str) -> Path:
    pytest.importorskip("bitsandbytes")
    settings, dtype = BITSANDBYTES[kind]
    compute = {"bnb_4bit_compute_dtype": dtype} if "load_in_4bit" in settings else {}
    model = AutoModelForCausalLM.from_pretrained(
        tiny_model, quantization_config=BitsAndBytesConfig(**settings, **compute), dtype=dtype
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", BITSANDBYTES)
def test_bitsandbytes_weights_are_those_of_the_library(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    """Every tensor is equal; so are the logits of a training step, in which the library unpacks its weights.

    (Without a training step it may compute in bf16 on a CPU, and in int8 with rounded activations.)
    """
    folder = _write_bitsandbytes(tiny_model, tmp_path / "quantized", kind)
    dtype = BITSANDBYTES[kind][1]
    base = checkpoint_of(str(folder))
    found = load_file(base.path / "model.safetensors")
    expected = _load(folder, dtype).dequantize().state_dict()
    assert set(found) == set(expected) - {"lm_head.weight"}
    for name, tensor in found.items():
        assert torch.equal(tensor.to(dtype), expected[name]), name
    difference = _logits(_load(folder, dtype).train()) - _logits(_load(base.path, dtype))
    assert float(difference.abs().max()) <= (1e-4 if kind == "int8" else 0.0)
    assert "quantization_config" not in json.loads((base.path / "config.json").read_text())
    assert (base.path / "chat_template.jinja").read_text() == (folder / "chat_template.jinja").read_text()


class Packed(NamedTuple):
    """A matrix in the parts of a format, and the weights that it stands for."""

    parts: dict[str, Any]
    weight: Any


def _words(rows: Any, bits: int) -> Any:
    """Each row of integers as one row of bits, cut into 32-bit words: int32 [rows, words]."""
    packed = []
    for row in rows.tolist():
        number = sum(value << (bits * place) for place, value in enumerate(row))
        count = -(-len(row) * bits // 32)
        packed.append(torch.frombuffer(bytearray(number.to_bytes(4 * count, "little")), dtype=torch.int32))
    return torch.stack(packed)


def _integers(weight: Any, bits: int, groups: Any) -> tuple[Any, Any, Any]:
    """Integers [out, in], and scales (fp16) and zero points for each group [out, groups]."""
    count = int(groups.max()) + 1
    generator = torch.Generator().manual_seed(0)
    scales = (weight.abs().max() / 2 ** (bits - 1) * (0.5 + torch.rand(len(weight), count))).half()
    zeros = torch.randint(1, 2**bits, (len(weight), count), generator=generator)
    integers = (weight / scales[:, groups].float() + zeros[:, groups]).round().clamp(0, 2**bits - 1).long()
    return integers, scales, zeros


def _gptq(weight: Any, bits: int, *, shuffled: bool = False, offset: int = 1) -> Packed:
    groups = torch.arange(weight.shape[1]) // GROUP
    if shuffled:
        groups = groups[torch.randperm(len(groups), generator=torch.Generator().manual_seed(1))]
    integers, scales, zeros = _integers(weight, bits, groups)
    parts = {
        "qweight": _words(integers.T.T, bits).T,
        "qzeros": _words(zeros.T - offset, bits),
        "scales": scales.T,
        "g_idx": groups.int(),
    }
    return Packed(parts, (integers - zeros[:, groups]).half() * scales[:, groups])


def _awq(weight: Any, _bits: int) -> Packed:
    groups = torch.arange(weight.shape[1]) // GROUP
    integers, scales, zeros = _integers(weight, 4, groups)

    def columns(rows: Any) -> Any:
        order = [0, 2, 4, 6, 1, 3, 5, 7]  # the n-th four bits of a word hold this one of eight columns
        return _words(rows.reshape(len(rows), -1, 8)[:, :, order].reshape(len(rows), -1), 4)

    parts = {"qweight": columns(integers.T), "qzeros": columns(zeros.T), "scales": scales.T}
    return Packed(parts, (integers - zeros[:, groups]).half() * scales[:, groups])


def _compressed(weight: Any, bits: int, *, packed: bool = True) -> Packed:
    groups = torch.arange(weight.shape[1]) // GROUP
    integers, scales, zeros = _integers(weight, bits, groups)
    middle = 2 ** (bits - 1)
    parts = {"weight_scale": scales}
    if packed:
        parts |= {"weight_packed": _words(integers, bits), "weight_zero_point": _words(zeros.T, bits).T}
        parts["weight_shape"] = torch.tensor(weight.shape)
    else:
        parts |= {"weight": (integers - middle).to(torch.int8)}
        parts["weight_zero_point"] = (zeros - middle).to(torch.int8)
    return Packed(parts, (integers - zeros[:, groups]).half() * scales[:, groups])


def _gptq_settings(bits: int | str, **others: Any) -> dict[str, Any]:
    return {"quant_method": "gptq", "bits": bits, "group_size": GROUP, **others}


def _compressed_settings(bits: int, kind: str) -> dict[str, Any]:
    group = {"weights": {"num_bits": bits, "type": "int", "strategy": "group", "group_size": GROUP}}
    return {"quant_method": "compressed-tensors", "format": kind, "config_groups": {"group_0": group}}


Pack = Callable[[Any, int], Packed]
PACKED: dict[str, tuple[Pack, dict[str, Any]]] = {
    "GPTQ, 4 bits": (_gptq, _gptq_settings(4)),
    "GPTQ, 4 bits, act-order": (lambda w, b: _gptq(w, b, shuffled=True), _gptq_settings(4, desc_act=True)),
    "GPTQ v2, 4 bits": (lambda w, b: _gptq(w, b, offset=0), _gptq_settings(4, checkpoint_format="gptq_v2")),
    "GPTQ, 2 bits": (_gptq, _gptq_settings(2)),
    "GPTQ, 3 bits": (_gptq, _gptq_settings(3)),
    "GPTQ, 8 bits": (_gptq, _gptq_settings(8)),
    "AWQ, 4 bits": (_awq, {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"}),
    "compressed-tensors, 4 bits packed": (_compressed, _compressed_settings(4, "pack-quantized")),
    "compressed-tensors, int8": (
        lambda w, b: _compressed(w, b, packed=False),
        _compressed_settings(8, "int-quantized"),
    ),
}
"""Other formats: the packer, and the `quantization_config`."""


def _write_packed(tiny_model: Path, folder: Path, kind: str) -> dict[str, Any]:
    """Write the tiny model with its matrices packed; returns the weights that they stand for."""
    pack, settings = PACKED[kind]
    shutil.copytree(tiny_model, folder)
    stored: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if "_proj" in name:
            packed = pack(tensor, _bits(settings))
            weights[name] = packed.weight.float()
            module = name.removesuffix("weight")
            stored |= {f"{module}{part}": value.contiguous() for part, value in packed.parts.items()}
        else:
            stored[name] = weights[name] = tensor
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    _set_quantization(folder, settings)
    return weights


def _bits(settings: dict[str, Any]) -> int:
    groups = settings.get("config_groups", {})
    return groups["group_0"]["weights"]["num_bits"] if groups else settings["bits"]


def _set_quantization(folder: Path, settings: dict[str, Any] | None) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))


@pytest.mark.parametrize("kind", PACKED)
def test_packed_weights_are_what_their_format_says(
    kind: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("empathy_edge.formats.packed_weights.CHUNK_VALUES", 2000)
    expected = _write_packed(tiny_model, tmp_path / "quantized", kind)
    base = checkpoint_of(str(tmp_path / "quantized"))
    found = load_file(base.path / "model.safetensors")
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    assert torch.isfinite(_logits(_load(base.path))).all()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "HQQ": ({"quant_method": "hqq"}, "(hqq)"),
    "AQLM": ({"quant_method": "aqlm"}, "(aqlm)"),
    "EETQ": ({"quant_method": "eetq"}, "(eetq)"),
    "MXFP4": ({"quant_method": "mxfp4"}, "(mxfp4)"),
    "MLX": ({"group_size": 64, "bits": 4}, "(MLX)"),
    "FP8": ({"quant_method": "fp8"}, "(fp8)"),
    "GPTQ as Marlin packs it": (_gptq_settings(4, checkpoint_format="marlin"), "packing is 'marlin'"),
    "AWQ for GEMV": ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "packing is 'gemv'"),
    "compressed-tensors with floats": (_compressed_settings(8, "float-quantized"), "is float-quantized"),
}
"""Methods that are refused: the settings, and words of the message."""


@pytest.mark.parametrize("method", REFUSED)
def test_another_method_is_refused_by_name(method: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my-model-GPTQ-Int4"
    shutil.copytree(tiny_model, folder)
    settings, words = REFUSED[method]
    _set_quantization(folder, settings)
    with pytest.raises(EmpathyEdgeError, match="its weights are quantized") as refused:
        checkpoint_of(str(folder))
    assert words in str(refused.value)
    assert "Give the full-precision original (by its name: " in str(refused.value)
    assert not (tmp_path / "cache").exists()


def test_wrong_and_damaged_checkpoints_are_said(tiny_model: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(tiny_model, plain)
    _set_quantization(plain, {"quant_method": "bitsandbytes", "load_in_4bit": True})
    failed = run_command("export", plain, "--to", "gguf-f16", "--out", tmp_path / "out")
    assert_one_clear_error(failed, 2, "no tensor is packed so", "take 'quantization_config' out")
    _write_packed(tiny_model, tmp_path / "gptq", "GPTQ, 4 bits")
    file = tmp_path / "gptq" / "model.safetensors"
    whole = load_file(file)
    name = "model.layers.1.mlp.up_proj."
    for change, words in (
        ({f"{name}scales": None}, "has no 'scales' beside it"),
        ({f"{name}g_idx": whole[f"{name}g_idx"] + 7}, "do not fit each other"),
        ({f"{name}qzeros": whole[f"{name}qzeros"][:, :3].contiguous()}, "do not fit each other"),
        ({f"{name}g_idx": None, **_fewer_groups(whole, name)}, "do not fit each other"),
        ({"a.position_ids": torch.arange(4), "z.weight": torch.zeros(2, 2, dtype=torch.int8)}, "z.weight is"),
    ):
        tensors = {key: value for key, value in (whole | change).items() if value is not None}
        save_file(tensors, file, {"format": "pt"})
        with pytest.raises(EmpathyEdgeError, match=words):
            checkpoint_of(str(tmp_path / "gptq"))


def _fewer_groups(tensors: dict[str, Any], name: str) -> dict[str, Any]:
    """Half as many groups as the settings say, as a matrix with a group size of its own has."""
    return {f"{name}{part}": tensors[f"{name}{part}"][::2].contiguous() for part in ("scales", "qzeros")}


@pytest.mark.parametrize(
    "settings",
    [
        _gptq_settings("four"),
        {"quant_method": "awq", "bits": "four"},
        _compressed_settings(4, "pack-quantized") | {"config_groups": [1]},
        _compressed_settings(4, "pack-quantized") | {"config_groups": {"a": None}},
        _compressed_settings(4, "pack-quantized") | {"sparsity_config": "x"},
    ],
)
def test_damaged_settings_are_said(settings: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    _set_quantization(tmp_path / "model", settings)
    with pytest.raises(EmpathyEdgeError, match=r"quantization settings in config\.json are damaged"):
        checkpoint_of(str(tmp_path / "model"))


def test_a_last_group_that_is_smaller(tiny_model: Path, tmp_path: Path) -> None:
    """Groups of 128 in 200 columns: the second one has 72."""
    weight, scales = torch.randint(-8, 8, (4, 200)), torch.rand(4, 2)
    parts = {
        "m.weight_packed": _words(weight + 8, 4),
        "m.weight_scale": scales,
        "m.weight_shape": torch.tensor([4, 200]),
    }
    save_file({name: part.contiguous() for name, part in parts.items()}, tmp_path / "model.safetensors")
    settings = _compressed_settings(4, "pack-quantized")
    settings["config_groups"]["group_0"]["weights"]["group_size"] = 128
    (found,) = compressed_weights(stored_tensors(tmp_path), settings)
    values = np.concatenate(list(found.chunks()))
    expected = weight * torch.repeat_interleave(scales, torch.tensor([128, 72]), dim=1)
    assert np.allclose(values, expected.numpy())
    settings["config_groups"]["group_1"] = {"weights": {"num_bits": 8, "group_size": 100}}
    with pytest.raises(EmpathyEdgeError, match="do not fit each other"):  # either could be meant
        compressed_weights(stored_tensors(tmp_path), settings)


def test_a_conversion_that_was_cut_off_goes_on(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _write_packed(tiny_model, tmp_path / "quantized", "AWQ, 4 bits")
    monkeypatch.setattr(from_quantized, "SHARD_BYTES", 60_000)
    write = from_quantized.write_safetensors
    written: list[str] = []

    def cut_off(file: Path, *rest: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(file.name)
        write(file, *rest)

    monkeypatch.setattr(from_quantized, "write_safetensors", cut_off)
    with pytest.raises(KeyboardInterrupt):
        checkpoint_of(str(tmp_path / "quantized"))
    assert not list((tmp_path / "cache").rglob("config.json"))
    monkeypatch.setattr(
        from_quantized,
        "write_safetensors",
        lambda file, *rest: (written.append(file.name), write(file, *rest)),
    )
    base = checkpoint_of(str(tmp_path / "quantized"))
    files = sorted(file.name for file in base.path.glob("*.safetensors"))
    assert sorted(written) == files and len(files) > 3
    assert all(torch.equal(_load(base.path).state_dict()[name], tensor) for name, tensor in expected.items())
    assert checkpoint_of(str(tmp_path / "quantized")) == base and sorted(written) == files


def test_a_quantized_checkpoint_runs_on_its_dequantized_weights(tiny_model: Path, tmp_path: Path) -> None:
    """transformers would need the library that packed it, and often a GPU."""
    _write_packed(tiny_model, tmp_path / "quantized", "GPTQ, 4 bits")
    runtime = open_runtime(tmp_path / "quantized", threads=1)
    expected = _logits(_load(checkpoint_of(str(tmp_path / "quantized")).path))[0].numpy()
    assert abs(runtime.logits(IDS[0].tolist()) - expected).max() < 1e-4


def test_a_small_disk_is_said_before_anything_is_written(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_packed(tiny_model, tmp_path / "quantized", "AWQ, 4 bits")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    with pytest.raises(PrerequisiteError, match="Not enough disk space for the full-precision checkpoint"):
        checkpoint_of(str(tmp_path / "quantized"))


ORIGINALS = {
    "unsloth/Llama-3.2-1B-Instruct-bnb-4bit": "unsloth/Llama-3.2-1B-Instruct",
    "unsloth/Qwen3-4B-unsloth-bnb-4bit": "unsloth/Qwen3-4B",
    "Qwen/Qwen2.5-0.5B-Instruct-GPTQ-Int4": "Qwen/Qwen2.5-0.5B-Instruct",
    "TheBloke/Mistral-7B-Instruct-v0.2-AWQ": "TheBloke/Mistral-7B-Instruct-v0.2",
    "mlx-community/SmolLM2-135M-Instruct-4bit": "mlx-community/SmolLM2-135M-Instruct",
    "RedHatAI/Llama-3.2-1B-Instruct-quantized.w8a8": "RedHatAI/Llama-3.2-1B-Instruct",
    "owner/model-W4A16-G128": "owner/model",
    "meta-llama/Llama-3.2-1B-Instruct": None,
    "owner/orbit-bits": None,
    "owner/model-8B": None,
}
"""Names, and what their originals are likely called; None for names that say nothing."""


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_name_of_the_original(name: str) -> None:
    assert original_name(name) == ORIGINALS[name]


def _train_adapter(base: Path, adapter: Path) -> Any:
    """Eight steps of QLoRA with PEFT; returns the logits of the trained model in its last training step."""
    model = peft.prepare_model_for_kbit_training(_load(base), use_gradient_checkpointing=False)
    model = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    model.train()
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-2)
    for _ in range(8):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(adapter)
    return _logits(model)


def test_an_adapter_of_an_nf4_base_is_merged_into_the_weights_of_its_training(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = _write_bitsandbytes(tiny_model, tmp_path / "base-bnb-4bit", "nf4")
    adapter = tmp_path / "adapter"
    expected = _train_adapter(base, adapter)
    out = tmp_path / "exported"
    made = run_command("export", "--adapter", adapter, "--to", "gguf-f16", "--out", out, env=dict(os.environ))
    assert made.returncode == 0, made.stderr
    said = " ".join(made.stderr.split())
    assert "bitsandbytes nf4 became fp32" in said and "has other weights" not in said
    assert float((_logits(_load(out / "merged")) - expected).abs().max()) < 1e-4
    tell_other_base(find_model(str(tiny_model)), [adapter])
    said = " ".join(capsys.readouterr().err.split())
    assert f"whose weights are quantized; {tiny_model} has other weights" in said
    assert "a mean KL of 0." in said and "of the one" not in said
    tell_other_base(checkpoint_of(str(base)), [adapter])
    assert "has other weights" not in capsys.readouterr().err


def test_a_quantized_base_that_is_not_here_names_its_original(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = peft.get_peft_model(_load(tiny_model), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    model.peft_config["default"].base_model_name_or_path = "nobody/tiny-bnb-4bit"
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(PrerequisiteError, match="original, by the name nobody/tiny, has other weights"):
        base_of_adapter(tmp_path / "adapter")
    tell_other_base(find_model(str(tiny_model)), [tmp_path / "adapter"])
    assert "By its name, the full-precision original is nobody/tiny." in " ".join(
        capsys.readouterr().err.split()
    )
