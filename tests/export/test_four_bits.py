"""Ways to few bits: llama.cpp's types, importance matrices, GPTQ, and adapters beside a quantized base."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export import artifacts, calibration, verify
from empathy_edge.export.bundle.card import model_card, origin_of
from empathy_edge.export.gguf import gptq, importance, lora, quantize, writer
from empathy_edge.export.gguf.grids import GRIDS
from empathy_edge.export.record import read_manifest
from empathy_edge.formats.artifact_names import GGUF_TYPES, NEEDS_IMATRIX, parse_artifact
from empathy_edge.formats.gguf_header import tensors_of
from empathy_edge.models.find import checkpoint_of, find_model, gguf_of
from empathy_edge.runs.settings import ExportSettings
from empathy_edge.runtimes import open_runtime
from tests.conftest import assert_one_clear_error, dialogue_row, run_command, write_rows

pytestmark = pytest.mark.slow


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
        name: gguf.GGMLQuantizationType(place.kind).name
        for name, place in tensors_of(tmp_path / "m.gguf").items()
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
            model.model.layers[0].input_layernorm(model.model.embed_tokens(torch.tensor(ids)))
            for ids in texts.ids
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
        rows += struct.pack("<i", len(name)) + name.encode()
        rows += struct.pack("<ii", 7, len(data)) + data.tobytes()
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


def test_what_the_fuzzer_found_in_importance_matrices_is_one_error(
    matrix: dict[str, np.ndarray], texts: calibration.Calibration, tmp_path: Path
) -> None:
    """A key that is no UTF-8, which gguf's own reader does not survive, and sums of another type."""
    importance.write_imatrix(tmp_path / "imatrix.gguf", matrix, texts)
    data = (tmp_path / "imatrix.gguf").read_bytes()
    (tmp_path / "imatrix.gguf").write_bytes(data.replace(b"general.type", b"general\xe8type", 1))
    read = importance.read_imatrix(tmp_path / "imatrix.gguf")
    np.testing.assert_allclose(read["blk.0.attn_q.weight"], matrix["blk.0.attn_q.weight"], rtol=1e-5)
    name = b"blk.0.attn_q.weight.in_sum2"
    after_name = data.index(name) + len(name)
    (dimensions,) = struct.unpack_from("<I", data, after_name)
    kind = after_name + 4 + 8 * dimensions
    (tmp_path / "imatrix.gguf").write_bytes(data[:kind] + struct.pack("<I", 26) + data[kind + 4 :])
    with pytest.raises(EmpathyEdgeError, match=r"attn_q\.weight\.in_sum2 is not in F32"):
        importance.read_imatrix(tmp_path / "imatrix.gguf")


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
        settings = {"base_sha256": base.sha256, "epochs": 2, "learning_rate": 5e-4}
        record = {"stage": ("sft", "dpo")[number], "settings": settings}
        (stage_folder / "manifest.json").write_text(json.dumps(record))
        folders.append(stage_folder / "adapter")
    return folders


@pytest.fixture(scope="session")
def beside(deployed: Path, adapters: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of base + adapter."""
    out = tmp_path_factory.mktemp("beside")
    settings = ExportSettings(artifacts=("gguf-lora-f16", "gguf-q4_0"), verify_prompts=1)
    artifacts.run(base=checkpoint_of(str(deployed)), adapters=adapters, out=out, settings=settings)
    return out


def test_base_and_adapter_say_what_the_merged_checkpoint_says(beside: Path, deployed: Path) -> None:
    rows = {row["artifact"]: row for row in json.loads((beside / "verify" / "verify.json").read_text())}
    assert rows["gguf-lora-f16"]["stop_ids_equal"] and rows["gguf-lora-f16"]["verdict"] == "PASS"
    assert rows["gguf-lora-f16"]["mean_kl"] < 0.02 * rows["gguf-q4_0"]["mean_kl"]
    artifact = json.loads((beside / "gguf-lora-f16" / "manifest.json").read_text())["artifact"]
    assert artifact["rank"] == 10 and artifact["sha256"] == find_model(str(deployed)).sha256
    assert open_runtime(beside / "gguf-lora-f16").reply([5, 6, 7], max_new_tokens=4).token_ids


def test_the_card_tells_how_adapters_from_outside_the_run_were_trained(beside: Path) -> None:
    folder = beside / "gguf-lora-f16"
    text = model_card(folder, read_manifest(folder), origin_of(folder))
    assert "Method: SFT with LoRA of rank 4, 2 epochs at 0.0005, then DPO with LoRA of rank 6" in text
    assert "laid beside the base as it is" in text


def test_the_sum_of_two_adapters_is_exact(deployed: Path, adapters: list[Path], tmp_path: Path) -> None:
    import gguf

    from empathy_edge.models.lora import adapter_deltas

    base = checkpoint_of(str(deployed))
    assert lora.write_lora(base.path, adapters, tmp_path / "a.gguf") == 10
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    name = "model.layers.1.mlp.down_proj.weight"
    wanted = sum(
        scale * (up @ down) for down, up, scale in (adapter_deltas(adapter)[name] for adapter in adapters)
    )
    found = (
        tensors["blk.1.ffn_down.weight.lora_b"].astype(np.float32) @ tensors["blk.1.ffn_down.weight.lora_a"]
    )
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())


def test_another_base_under_an_adapter_is_refused(
    beside: Path, adapters: list[Path], tiny_model: Path, f16: Path, tmp_path: Path
) -> None:
    other = checkpoint_of(str(f16))
    settings = ExportSettings(artifacts=("gguf-lora-f16",))
    with pytest.raises(EmpathyEdgeError, match="was trained on another base"):
        artifacts.run(base=other, adapters=adapters, out=tmp_path / "out", settings=settings)
    with pytest.raises(
        EmpathyEdgeError, match=r"is no GGUF\. To train on, and ship, a base as it is deployed"
    ):
        gguf_of(find_model(str(tiny_model)))
    with pytest.raises(EmpathyEdgeError, match="gguf-lora-f16 needs adapters"):
        artifacts.run(base=other, adapters=[], out=tmp_path / "none", settings=settings)
    with pytest.raises(EmpathyEdgeError, match=r"is no GGUF\."):
        artifacts.run(
            base=find_model(str(tiny_model)), adapters=adapters, out=tmp_path / "none", settings=settings
        )
    assert not (tmp_path / "none").exists()  # refused before the merge
    copy = tmp_path / "copy"
    shutil.copytree(beside / "gguf-lora-f16", copy)
    shutil.copyfile(f16, copy / "model.gguf")
    with pytest.raises(EmpathyEdgeError, match=r"is not the base that adapter\.gguf was trained on"):
        open_runtime(copy)


def test_four_bits_of_onnx_are_those_of_gguf(tiny_model: Path, tmp_path: Path) -> None:
    """Weights that GPTQ rounded for GGUF give the same logits in ONNX, which has the same grid."""
    settings = ExportSettings(
        artifacts=("onnx-int4-gptq", "onnx-int4", "gguf-q4_0-gptq"), calibration_dialogues=6
    )
    base = find_model(str(tiny_model))
    folders = artifacts.make_artifacts(tiny_model, tmp_path / "out", settings, base=base, adapters=[])
    verify.run(checkpoint=tiny_model, artifacts=folders, out=tmp_path / "verify", prompts=2)
    logits = {}
    for folder in folders:
        runtime = open_runtime(folder, threads=1, all_logits=True)
        logits[folder.name] = runtime.logits(list(range(300, 340)))
        runtime.close()
    gguf = logits["gguf-q4_0-gptq"]
    far = {name: float(np.abs(found - gguf).mean() / gguf.std()) for name, found in logits.items()}
    # The rest is due to activations, which each runtime rounds in its own way.
    assert far["onnx-int4-gptq"] < 0.3 * far["onnx-int4"], far


def test_adapters_beside_a_four_bit_base_in_onnx(
    f16: Path, deployed: Path, adapters: list[Path], tmp_path: Path
) -> None:
    settings = ExportSettings(artifacts=("onnx-lora-int4",), verify_prompts=2)
    base = checkpoint_of(str(deployed))
    results = artifacts.run(base=base, adapters=adapters, out=tmp_path / "out", settings=settings)
    (row,) = results.verify.artifacts
    assert row.mean_kl < 0.01 and row.bounds.mean_kl == 0.03
    with pytest.raises(EmpathyEdgeError, match="weight is F16, and ONNX would round it once more"):
        artifacts.run(
            base=checkpoint_of(str(f16)), adapters=adapters, out=tmp_path / "none", settings=settings
        )
    assert not (tmp_path / "none").exists()


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
    assert_one_clear_error(result, 2, "artifacts: no such artifact: gguf-q4", "gguf-TYPE-gptq")


def test_verify_compares_an_importance_weighed_artifact(
    tiny_model: Path, matrix: dict[str, np.ndarray], texts: calibration.Calibration, tmp_path: Path
) -> None:
    importance.write_imatrix(tmp_path / "imatrix.gguf", matrix, texts)
    settings = ExportSettings(artifacts=("gguf-iq2_xs-imatrix",), imatrix=str(tmp_path / "imatrix.gguf"))
    (folder,) = artifacts.make_artifacts(
        tiny_model, tmp_path / "out", settings, base=find_model(str(tiny_model)), adapters=[]
    )
    results = verify.run(checkpoint=tiny_model, artifacts=[folder], out=tmp_path / "verify", prompts=1)
    assert results.artifacts[0].golden_ids_equal
    assert "256 does not divide" in json.loads((folder / "manifest.json").read_text())["artifact"]["note"]


@pytest.mark.parametrize("kind", GRIDS)
def test_a_grid_packs_as_llama_cpp_reads(kind: str) -> None:
    import gguf
    import torch

    grid = GRIDS[kind]
    weights = torch.randn(24, 3, 32, generator=torch.Generator().manual_seed(0))
    scales, offsets = zip(*(grid.fit(weights[:, block], torch.ones(32)) for block in range(3)), strict=True)
    scale, offset = torch.cat(scales, 1)[..., None], torch.cat(offsets, 1)[..., None]
    codes = grid.encode(weights, scale, offset)
    halves = [item[..., 0].numpy().astype(np.float16) for item in (scale, offset)]
    packed = grid.pack(codes.numpy().astype(np.uint8), *halves)
    number = gguf.GGMLQuantizationType[kind.upper()]
    read = gguf.quants.dequantize(packed, number)
    np.testing.assert_array_equal(read, grid.decode(codes, scale, offset).numpy().reshape(24, 96))
    flat = weights.numpy().reshape(24, 96)
    # gguf reads IQ4_NL and cannot write it.
    known = gguf.GGMLQuantizationType.Q4_0 if kind == "iq4_nl" else number
    theirs = gguf.quants.dequantize(gguf.quants.quantize(flat, known), known)
    assert np.square(read - flat).mean() < np.square(theirs - flat).mean()


def test_compensation_and_budget_are_written_as_plain_files(tiny_model: Path, tmp_path: Path) -> None:
    settings = ExportSettings(artifacts=("gguf-q4_0", "gguf-q4_0-gptq", "gguf-5mb"), calibration_dialogues=6)
    base = find_model(str(tiny_model))
    folders = artifacts.make_artifacts(tiny_model, tmp_path / "out", settings, base=base, adapters=[])
    files = {folder.name: folder / "model.gguf" for folder in folders}
    types = {name: [place.kind for place in tensors_of(file).values()] for name, file in files.items()}
    sizes = {name: file.stat().st_size for name, file in files.items()}
    assert sizes["gguf-q4_0"] == sizes["gguf-q4_0-gptq"] and types["gguf-q4_0"] == types["gguf-q4_0-gptq"]
    assert files["gguf-q4_0"].read_bytes() != files["gguf-q4_0-gptq"].read_bytes()
    assert sizes["gguf-5mb"] <= 5e6 and len(set(types["gguf-5mb"])) > 2
    results = verify.run(checkpoint=tiny_model, artifacts=folders, out=tmp_path / "verify", prompts=1)
    kl = {row.artifact: row.mean_kl for row in results.artifacts}
    assert kl["gguf-5mb"] < kl["gguf-q4_0"]
    assert kl["gguf-q4_0-gptq"] < 1.5 * kl["gguf-q4_0"]  # not broken
    too_small = ExportSettings(artifacts=("gguf-2mb",), calibration_dialogues=6)
    with pytest.raises(EmpathyEdgeError, match="gguf-2mb: four bits for everything take"):
        artifacts.make_artifacts(tiny_model, tmp_path / "out", too_small, base=base, adapters=[])


@pytest.mark.parametrize("kind", ["q4_0", "q4_1", "iq4_nl"])
def test_compensation_errs_where_the_inputs_are_not(kind: str) -> None:
    import torch

    chance = torch.Generator().manual_seed(0)
    causes = torch.randn(2000, 16, generator=chance)
    inputs = causes @ torch.randn(16, 96, generator=chance)  # 96 channels, 16 causes
    inputs += 0.1 * torch.randn(inputs.shape, generator=chance)
    weights, grid = torch.randn(40, 96, generator=chance), GRIDS[kind]

    def error(hessian: gptq.Hessian) -> float:
        rounded = gptq.weights_of(gptq.round_matrix(weights, hessian, grid), grid)
        return float((inputs @ (rounded - weights).T).square().mean())

    independent = torch.eye(96)
    nearest = error(gptq.hessian_of(independent, independent, 0.0))
    compensated = error(gptq.hessian_of(inputs, inputs, 1.0))
    assert compensated < 0.3 * nearest


def test_compensation_aims_at_what_the_unrounded_model_gives() -> None:
    """Where earlier rounding has changed the inputs, the weights change so that the outputs are as before."""
    import torch

    chance = torch.Generator().manual_seed(0)
    before = torch.randn(2000, 64, generator=chance)
    now = before @ (torch.eye(64) + 0.02 * torch.randn(64, 64, generator=chance))
    weights, grid = torch.randn(40, 64, generator=chance), GRIDS["q8_0"]
    errors = []
    for correction in (0.0, 1.0):
        hessian = gptq.hessian_of(now, before, correction)
        rounded = gptq.weights_of(gptq.round_matrix(weights, hessian, grid), grid)
        errors.append(float((now @ rounded.T - before @ weights.T).square().mean()))
    assert errors[1] < 0.1 * errors[0]


def test_compensation_without_inputs_that_differ_is_plain_rounding_to_the_grid() -> None:
    """Where columns are independent there is nothing to compensate, and each weight gets its nearest code."""
    import torch

    weights = torch.randn(8, 64, generator=torch.Generator().manual_seed(1))
    hessian = gptq.hessian_of(torch.eye(64) * 3, torch.eye(64) * 3, correction=1.0)
    codes, scales, offsets = gptq.round_matrix(weights, hessian, GRIDS["q4_0"])
    scale, offset = (item.repeat_interleave(32, 1) for item in (scales, offsets))
    torch.testing.assert_close(codes, GRIDS["q4_0"].encode(weights, scale, offset))


@pytest.fixture(scope="module")
def first_layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real model's first two layers of 30: real weights and activations, little work."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("few") / "smollm2-2-layers"
    source = checkpoint_of("smollm2-135m").path
    model = AutoModelForCausalLM.from_pretrained(source, num_hidden_layers=2)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


@pytest.mark.timeout(1500)
def test_compensation_keeps_more_of_real_weights(first_layers: Path, tmp_path: Path) -> None:
    base = find_model(str(first_layers))
    settings = ExportSettings(
        artifacts=("gguf-q4_0", "gguf-q4_0-gptq"), verify_prompts=4, calibration_dialogues=12
    )
    results = artifacts.run(base=base, adapters=[], out=tmp_path / "out", settings=settings)
    kl = {row.artifact: row.mean_kl for row in results.verify.artifacts}
    assert kl["gguf-q4_0-gptq"] < 0.6 * kl["gguf-q4_0"]
    sizes = {name: (tmp_path / "out" / name / "model.gguf").stat().st_size for name in kl}
    assert sizes["gguf-q4_0"] == sizes["gguf-q4_0-gptq"]
