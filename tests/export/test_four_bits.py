"""Ways to few bits: llama.cpp's types, importance matrices, and the same grid in ONNX."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export import artifacts, calibration, verify
from empathy_edge.export.fidelity import Fidelity
from empathy_edge.export.fidelity_bounds import bounds_of
from empathy_edge.export.gguf import importance, quantize
from empathy_edge.export.record import ArtifactRecord
from empathy_edge.formats.artifact_names import GGUF_TYPES, NEEDS_IMATRIX, parse_artifact
from empathy_edge.formats.gguf_header import tensors_of
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import ExportSettings
from empathy_edge.runtimes import open_runtime
from tests.conftest import assert_one_clear_error, dialogue_row, run_command, write_rows

pytestmark = pytest.mark.slow


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


def test_four_bits_of_onnx_are_those_of_gguf(tiny_model: Path, tmp_path: Path) -> None:
    """Weights that GPTQ rounded for GGUF give the same logits in ONNX, which has the same grid."""
    settings = ExportSettings(
        artifacts=("onnx-int4-gptq", "onnx-int4", "gguf-q4_0-gptq"), calibration_dialogues=6
    )
    base = find_model(str(tiny_model))
    folders = artifacts.make_artifacts(tiny_model, tmp_path / "out", settings, base=base, adapters=[])
    verify.run(checkpoint=tiny_model, artifacts=folders, out=tmp_path / "verify")
    logits = {}
    for folder in folders:
        runtime = open_runtime(folder, threads=1, exact_logits=True)
        logits[folder.name] = runtime.logits(list(range(300, 340)))
        runtime.close()
    gguf = logits["gguf-q4_0-gptq"]
    far = {name: float(np.abs(found - gguf).mean() / gguf.std()) for name, found in logits.items()}
    # The rest is due to activations, which each runtime rounds in its own way.
    assert far["onnx-int4-gptq"] < 0.3 * far["onnx-int4"], far


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
    result = run_command("export", tiny_model, "--to", "gguf-q4", "--out", tmp_path / "out")
    assert_one_clear_error(result, 2, "--to: no such artifact: gguf-q4", "docs/export.md")


def test_verify_compares_an_importance_weighed_artifact(
    tiny_model: Path, matrix: dict[str, np.ndarray], texts: calibration.Calibration, tmp_path: Path
) -> None:
    importance.write_imatrix(tmp_path / "imatrix.gguf", matrix, texts)
    settings = ExportSettings(artifacts=("gguf-iq2_xs-imatrix",), imatrix=str(tmp_path / "imatrix.gguf"))
    (folder,) = artifacts.make_artifacts(
        tiny_model, tmp_path / "out", settings, base=find_model(str(tiny_model)), adapters=[]
    )
    results = verify.run(checkpoint=tiny_model, artifacts=[folder], out=tmp_path / "verify")
    assert results.artifacts[0].golden_ids_equal
    assert "256 does not divide" in json.loads((folder / "manifest.json").read_text())["artifact"]["note"]


@pytest.mark.parametrize(
    ("name", "mean_kl"),
    [("gguf-q6_k", 0.1), ("gguf-q5_k_m", 0.6), ("onnx-portable-int8", 0.3), ("onnx-int8", 0.03),
     ("gguf-q8_0-gptq", 0.03), ("gguf-q4_0", 1.5), ("gguf-iq2_xs-imatrix", 1.5), ("gguf-lora-f16", 0.03)],
)  # fmt: skip
def test_an_artifact_must_keep_what_its_type_promises(name: str, mean_kl: float) -> None:
    """The review's A6: Q6_K, Q5_K_M and int8 passed at the mean KL of a ruined four-bit model, 1.4."""
    parsed = parse_artifact(name)
    record = ArtifactRecord(
        name=name,
        format=parsed.format,
        quantization=parsed.quantization,
        method=parsed.method,
        file="model",
        sha256="",
        size_mb=1.0,
    )
    bounds = bounds_of(record)
    assert bounds.mean_kl == mean_kl
    ruined = Fidelity(
        mean_kl=1.4, p99_kl=5.0, top1_agreement=0.41, positions=200, greedy_same=0, own_reply=""
    )
    assert bool(ruined.broken(bounds)) is (mean_kl < 1.4)
