"""GPTQ and GPTAQ: rounding that compensates its error on the next weights, on GGUF's grids."""

from pathlib import Path

import numpy as np
import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export import artifacts, verify
from empathy_edge.export.gguf import gptq, size_budget, writer
from empathy_edge.export.gguf.grids import GRIDS
from empathy_edge.formats.gguf_header import tensors_of
from empathy_edge.models.find import checkpoint_of, find_model
from empathy_edge.runs.settings import ExportSettings

pytestmark = pytest.mark.slow


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
    results = verify.run(checkpoint=tiny_model, artifacts=folders, out=tmp_path / "verify")
    kl = {row.artifact: row.mean_kl for row in results.artifacts}
    assert kl["gguf-5mb"] < kl["gguf-q4_0"]
    assert kl["gguf-q4_0-gptq"] < 1.5 * kl["gguf-q4_0"]  # not broken
    too_small = ExportSettings(artifacts=("gguf-2mb",), calibration_dialogues=6)
    with pytest.raises(EmpathyEdgeError, match="gguf-2mb: four bits for everything take"):
        artifacts.make_artifacts(tiny_model, tmp_path / "out", too_small, base=base, adapters=[])


def test_sizes_under_a_budget_are_the_same_from_f32(tiny_model: Path, f16: Path, tmp_path: Path) -> None:
    """Weights beyond F16 are quantized from F32; their sizes were taken for twice as much."""
    writer.write_float(tiny_model, tmp_path / "f32.gguf", "f32")
    expected, expected_rest = size_budget._groups_of(f16)
    found, found_rest = size_budget._groups_of(tmp_path / "f32.gguf")
    assert found == expected and found_rest == expected_rest
    count = sum(group.weights for group in found.values())
    assert count == sum(
        int(np.prod(place.shape)) for place in tensors_of(f16).values() if len(place.shape) == 2
    )


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
    settings = ExportSettings(artifacts=("gguf-q4_0", "gguf-q4_0-gptq"), calibration_dialogues=12)
    results = artifacts.run(base=base, adapters=[], out=tmp_path / "out", settings=settings)
    kl = {row.artifact: row.mean_kl for row in results.verify.artifacts}
    assert kl["gguf-q4_0-gptq"] < 0.6 * kl["gguf-q4_0"]
    sizes = {name: (tmp_path / "out" / name / "model.gguf").stat().st_size for name in kl}
    assert sizes["gguf-q4_0"] == sizes["gguf-q4_0-gptq"]
