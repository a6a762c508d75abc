"""Ways to few bits: llama.cpp's types, importance matrices, and a base that ships as it is with its adapters beside it."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from empathy_edge.export import calibration, stage, verify
from empathy_edge.export.gguf import importance, lora, quantize, writer

from empathy_edge.artifact_names import GGUF_TYPES, NEEDS_IMATRIX, parse_artifact
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.gguf_header import tensor_types
from empathy_edge.models import checkpoint_of, find_model, gguf_of
from empathy_edge.recipe import ExportSettings
from empathy_edge.runtimes import open_runtime
from tests.conftest import assert_one_clear_error, dialogue_row, run_command, write_rows


@pytest.fixture(scope="session")
def f16(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("f16") / "model.gguf"
    writer.write_float(tiny_model, file)
    return file


@pytest.fixture(scope="session")
def texts(tiny_model: Path) -> calibration.Calibration:
    return calibration.calibration_texts(tiny_model, None, 6)


@pytest.fixture(scope="session")
def matrix(tiny_model: Path, texts: calibration.Calibration) -> dict[str, np.ndarray]:
    return importance.collect(tiny_model, texts)


def test_every_type_by_name(f16: Path, matrix: dict[str, np.ndarray], tmp_path: Path) -> None:
    sizes = {}
    for kind in GGUF_TYPES:
        weighed = matrix if kind in NEEDS_IMATRIX else None
        file = tmp_path / f"{kind}.gguf"
        estimated = quantize.quantize(f16, file, kind, threads=1, importance=weighed, only_estimate=True)
        assert not file.exists()
        assert quantize.quantize(f16, file, kind, threads=1, importance=weighed) == pytest.approx(estimated)
        sizes[kind] = file.stat().st_size
        if "_k" in kind or kind.startswith(("iq3", "iq2", "iq1", "tq")):
            assert "rows of 64, 128, which 256 does not divide" in str(quantize.fallback_note(file, kind))
    assert sizes["q4_0"] < sizes["q5_0"] < sizes["q8_0"] and sizes["q4_0"] < sizes["q4_1"]
    assert quantize.fallback_note(tmp_path / "q4_0.gguf", "q4_0") is None


def test_a_tensor_gets_the_type_it_is_given(f16: Path, tmp_path: Path) -> None:
    import gguf

    quantize.quantize(
        f16, tmp_path / "m.gguf", "q4_0", threads=1, types={"token_embd": "q8_0", r"blk\.1\.ffn": "q5_1"}
    )
    types = {
        name: gguf.GGMLQuantizationType(kind).name for name, (kind, _) in tensor_types(tmp_path / "m.gguf").items()
    }
    assert types["token_embd.weight"] == "Q8_0"
    assert types["blk.1.ffn_up.weight"] == "Q5_1" and types["blk.0.ffn_up.weight"] == "Q4_0"
    with pytest.raises(EmpathyEdgeError, match="token_embd=q9: there is no such tensor type"):
        quantize.quantize(f16, tmp_path / "n.gguf", "q4_0", threads=1, types={"token_embd": "q9"})


def test_importance_is_the_mean_square_of_the_inputs(
    tiny_model: Path, texts: calibration.Calibration, matrix: dict[str, np.ndarray]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    assert len(matrix) == 2 * 7
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.inference_mode():
        normed = [
            model.model.layers[0].input_layernorm(model.model.embed_tokens(torch.tensor(ids))) for ids in texts.ids
        ]
    wanted = torch.cat(normed).square().mean(0).numpy()
    np.testing.assert_allclose(matrix["blk.0.attn_q.weight"], wanted, rtol=1e-4)


def test_an_importance_matrix_survives_its_file(
    matrix: dict[str, np.ndarray], texts: calibration.Calibration, f16: Path, tmp_path: Path
) -> None:
    importance.write_imatrix(tmp_path / "imatrix.gguf", matrix, texts)
    read = importance.read_imatrix(tmp_path / "imatrix.gguf")
    rows = b""
    for name, values in matrix.items():
        data = (values * 7).astype("<f4")
        rows += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 7, len(data)) + data.tobytes()
    (tmp_path / "old.dat").write_bytes(struct.pack("<i", len(matrix)) + rows)
    older = importance.read_imatrix(tmp_path / "old.dat")
    for name, values in matrix.items():
        np.testing.assert_allclose(read[name], values, rtol=1e-5)
        np.testing.assert_allclose(older[name], values, rtol=1e-5)
    for name, weighed in (("plain", None), ("weighed", read)):
        quantize.quantize(f16, tmp_path / f"{name}.gguf", "q4_0", threads=1, importance=weighed)
    assert (tmp_path / "plain.gguf").read_bytes() != (tmp_path / "weighed.gguf").read_bytes()
    (tmp_path / "cut.dat").write_bytes((tmp_path / "old.dat").read_bytes()[:-5])
    with pytest.raises(
        EmpathyEdgeError, match=r"cut\.dat: is no importance matrix of llama\.cpp's \(it ends in the middle"
    ):
        importance.read_imatrix(tmp_path / "cut.dat")


def test_calibration_never_sees_the_test_split(tiny_model: Path, tmp_path: Path) -> None:
    rows = [
        dialogue_row(id=f"d{n}", utterance=f"Number {n} of mine.", split="train" if n < 3 else "test")
        for n in range(6)
    ]
    file = write_rows(tmp_path / "d.jsonl", *rows)
    texts = calibration.calibration_texts(tiny_model, file, 10)
    assert len(texts.ids) == 3
    only_test = write_rows(tmp_path / "t.jsonl", *rows[3:])
    with pytest.raises(EmpathyEdgeError, match="no dialogue of the training split"):
        calibration.calibration_texts(tiny_model, only_test, 10)


@pytest.fixture(scope="session")
def deployed(f16: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in four bits, as it might ship."""
    file = tmp_path_factory.mktemp("deployed") / "base-q4_0.gguf"
    quantize.quantize(f16, file, "q4_0", threads=1)
    return file


@pytest.fixture(scope="session")
def adapters(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters of different ranks that matter, made for the deployed base."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = checkpoint_of(str(deployed))
    folders = []
    for number, rank in enumerate((4, 6)):
        torch.manual_seed(number)
        model = AutoModelForCausalLM.from_pretrained(base.path)
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", init_lora_weights=False)
        stage_folder = tmp_path_factory.mktemp(f"step{number}")
        get_peft_model(model, config).save_pretrained(stage_folder / "adapter")
        (stage_folder / "manifest.json").write_text(json.dumps({"settings": {"base_sha256": base.sha256}}))
        folders.append(stage_folder / "adapter")
    return folders


@pytest.fixture(scope="session")
def beside(deployed: Path, adapters: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of base + adapter."""
    out = tmp_path_factory.mktemp("beside")
    settings = ExportSettings(artifacts=("gguf-lora-f16", "gguf-q4_0"), verify_prompts=1)
    stage.run(base=checkpoint_of(str(deployed)), adapters=adapters, out=out, settings=settings)
    return out


def test_base_and_adapter_say_what_the_merged_checkpoint_says(beside: Path, deployed: Path) -> None:
    rows = {row["artifact"]: row for row in json.loads((beside / "verify" / "verify.json").read_text())}
    assert rows["gguf-lora-f16"]["mean_kl"] < 0.02 * rows["gguf-q4_0"]["mean_kl"]
    artifact = json.loads((beside / "gguf-lora-f16" / "manifest.json").read_text())["artifact"]
    assert artifact["rank"] == 10 and artifact["sha256"] == find_model(str(deployed)).sha256
    assert open_runtime(beside / "gguf-lora-f16").reply([5, 6, 7], max_new_tokens=4).token_ids


def test_the_sum_of_two_adapters_is_exact(deployed: Path, adapters: list[Path], tmp_path: Path) -> None:
    import gguf

    from empathy_edge.lora import adapter_deltas

    base = checkpoint_of(str(deployed))
    assert lora.write_lora(base.path, adapters, tmp_path / "a.gguf") == 10
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    name = "model.layers.1.mlp.down_proj.weight"
    wanted = sum(scale * (up @ down) for down, up, scale in (adapter_deltas(adapter)[name] for adapter in adapters))
    found = tensors["blk.1.ffn_down.weight.lora_b"].astype(np.float32) @ tensors["blk.1.ffn_down.weight.lora_a"]
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())


def test_another_base_under_an_adapter_is_refused(
    beside: Path, adapters: list[Path], tiny_model: Path, f16: Path, tmp_path: Path
) -> None:
    other = checkpoint_of(str(f16))
    settings = ExportSettings(artifacts=("gguf-lora-f16",))
    with pytest.raises(EmpathyEdgeError, match="was trained on another base"):
        stage.run(base=other, adapters=adapters, out=tmp_path / "out", settings=settings)
    with pytest.raises(EmpathyEdgeError, match=r"is no GGUF\. To train on, and ship, a base as it is deployed"):
        gguf_of(find_model(str(tiny_model)))
    copy = tmp_path / "copy"
    shutil.copytree(beside / "gguf-lora-f16", copy)
    shutil.copyfile(f16, copy / "model.gguf")
    with pytest.raises(EmpathyEdgeError, match=r"is not the base that adapter\.gguf was trained on"):
        open_runtime(copy)


def test_names_of_artifacts(tiny_model: Path, tmp_path: Path) -> None:
    assert parse_artifact("gguf-q4_k_m").quantization == "q4_k_m"
    assert parse_artifact("gguf-q4_0-gptq").method == "gptq"
    assert parse_artifact("gguf-95mb").budget_mb == 95
    for name in (
        "gguf-q4",
        "gguf-q4_k_m-gptq",
        "gguf-iq2_xs",
        "onnx-int3",
        "gguf-lora-q4_0",
        "gguf-f16-imatrix",
        "../x",
    ):
        with pytest.raises(EmpathyEdgeError, match=r"no such artifact|needs an importance matrix"):
            parse_artifact(name)
    result = run_command("export", "--base", tiny_model, "--to", "gguf-q4", "--out", tmp_path / "out")
    assert_one_clear_error(result, 2, "no such artifact: gguf-q4", "gguf-TYPE-gptq")


def test_verify_compares_an_importance_weighed_artifact(
    tiny_model: Path, matrix: dict[str, np.ndarray], texts: calibration.Calibration, tmp_path: Path
) -> None:
    importance.write_imatrix(tmp_path / "imatrix.gguf", matrix, texts)
    settings = ExportSettings(artifacts=("gguf-iq2_xs-imatrix",), imatrix=str(tmp_path / "imatrix.gguf"))
    (folder,) = stage.make_artifacts(
        tiny_model, tmp_path / "out", settings, base=find_model(str(tiny_model)), adapters=[]
    )
    manifest = verify.run(checkpoint=tiny_model, artifacts=[folder], out=tmp_path / "verify", prompts=1)
    assert manifest["results"]["artifacts"][0]["golden_ids_equal"]
    assert "256 does not divide" in json.loads((folder / "manifest.json").read_text())["artifact"]["note"]
