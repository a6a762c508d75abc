"""Export: the merge is checked, artifacts compute what torch computes, and broken exports are found."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError, VerdictFailed
from empathy_edge.export import artifacts, merged, verify
from empathy_edge.export.gguf import writer
from empathy_edge.models.find import find_model
from empathy_edge.models.lora import adapter_deltas
from empathy_edge.runs.settings import ExportSettings
from empathy_edge.runs.stage import results_of
from tests.conftest import GGUF_ARTIFACTS, ONNX_ARTIFACTS, ROOT, assert_one_clear_error, run_command


@pytest.fixture(scope="session")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter with weights that matter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    wrapped = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    )
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    wrapped.save_pretrained(folder)
    return folder


def test_merge_equals_two_adapters_side_by_side(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    base = find_model(str(tiny_model))
    results = merged.make(base=base, adapters=[adapter, adapter], out=tmp_path / "merged", tolerance=1e-2)
    assert results.merge_max_abs_logit_difference < 1e-3 and results.tied_embeddings
    assert results_of(tmp_path / "merged", merged.MergeResults) == results
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert names >= {
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "config.json",
        "manifest.json",
    }


def test_wrong_merge_is_caught(
    tiny_model: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the adapter's scale forgotten, the proof must fail."""
    monkeypatch.setattr(
        "empathy_edge.models.lora.adapter_deltas",
        lambda path: {name: (down, up, 1.0) for name, (down, up, _) in adapter_deltas(path).items()},
    )
    with pytest.raises(VerdictFailed, match="differs from the adapter model"):
        merged.make(
            base=find_model(str(tiny_model)), adapters=[adapter], out=tmp_path / "merged", tolerance=1e-2
        )


@pytest.mark.parametrize("name", ["gguf-q4_0-gptq", "gguf-3mb", "gguf-q4_k_m-imatrix", "onnx-int4-gptq"])
def test_what_our_writer_alone_can_make_is_refused_before_the_merge(
    name: str, tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"architectures": ["Olmo2ForCausalLM"]}))
    command = ("export", str(model), "--adapter", str(adapter), "--to", name, "--out", str(tmp_path / "out"))
    refused = run_command(*command)
    assert_one_clear_error(refused, 2)
    assert name in refused.stderr and "Olmo2ForCausalLM" in refused.stderr and "gguf-q4_k_m" in refused.stderr
    assert not (tmp_path / "out" / "merged").exists()


def test_adapter_of_another_shape_is_refused(adapter: Path, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from empathy_edge.models.merging import merge_into

    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, vocab_size=64, num_attention_heads=2
    )
    other = LlamaForCausalLM(config)
    with pytest.raises(EmpathyEdgeError, match="PEFT cannot load this adapter on this base"):
        merge_into(other, [adapter])


def test_artifacts_verify(tiny_model: Path, exported: Path, exported_onnx: Path, tmp_path: Path) -> None:
    folders = [exported / name for name in GGUF_ARTIFACTS]
    folders += [exported_onnx / name for name in ONNX_ARTIFACTS]
    results = verify.run(checkpoint=tiny_model, artifacts=folders, out=tmp_path / "verify")
    mean_kl = {row.artifact: row.mean_kl for row in results.artifacts}
    assert mean_kl["gguf-f16"] < mean_kl["gguf-q8_0"] < mean_kl["onnx-int4"]
    assert mean_kl["onnx-portable-fp32"] < 1e-5 < mean_kl["onnx-portable-int8"] < 0.05
    assert all(row.golden_ids_equal for row in results.artifacts)


def test_the_portable_folder_has_its_template_where_transformers_js_looks(exported_onnx: Path) -> None:
    folder = exported_onnx / "onnx-portable-fp32"
    written = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    assert written == (folder / "chat_template.jinja").read_text()


def _f16_again(tiny_model: Path, exported: Path, folder: Path) -> Path:
    """A fresh F16 artifact from `tiny_model` with the code as it is now."""
    shutil.copytree(exported / "gguf-f16", folder)
    (folder / "model.gguf").unlink()
    writer.write_float(tiny_model, folder / "model.gguf")
    return folder


FAULTS = {
    # fault: what the check says that finds it
    "rope not interleaved": "mean KL above",
    "zeroed tensor": "mean KL above",
    "rope base": "mean KL above",
    "template": "other token ids for the golden conversation",
    "no template": "does not load: .*no chat template",
    "eos off by one": "other stop tokens",
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_known_bad_exports_are_caught(
    fault: str, tiny_model: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny_model, source)
    if fault == "rope not interleaved":
        monkeypatch.setattr(writer, "interleave_rope", lambda weight, heads: weight)
    elif fault == "zeroed tensor":
        monkeypatch.setattr(writer, "interleave_rope", lambda weight, heads: np.zeros_like(weight))
    elif fault == "template":
        template = source / "chat_template.jinja"
        template.write_text(template.read_text().replace("'<|im_start|>' +", "'<|im_start|> ' +"))
    elif fault == "rope base":
        config = json.loads((source / "config.json").read_text())
        config["rope_parameters"]["rope_theta"] = 500.0
        (source / "config.json").write_text(json.dumps(config))
    elif fault == "eos off by one":
        monkeypatch.setattr(
            "gguf.GGUFWriter.add_eos_token_id",
            lambda self, token: self.add_uint32("tokenizer.ggml.eos_token_id", token + 1),
        )
    else:
        monkeypatch.setattr("gguf.GGUFWriter.add_chat_template", lambda self, template: None)
    artifact = _f16_again(source, exported, tmp_path / "gguf-f16")
    with pytest.raises(VerdictFailed, match=rf"gguf-f16 \(([^)]*; )?{FAULTS[fault]}"):
        verify.run(checkpoint=tiny_model, artifacts=[artifact], out=tmp_path / "verify")
    (row,) = json.loads((tmp_path / "verify" / "verify.json").read_text())
    if "KL" not in FAULTS[fault]:
        assert len(row["failed"]) == 1  # by the right check, and by that alone


@pytest.mark.slow
def test_builder_failure_is_one_error(tmp_path: Path, tiny_model: Path) -> None:
    from empathy_edge.export.onnx import genai

    source = tmp_path / "broken"
    shutil.copytree(tiny_model, source)
    (source / "model.safetensors").write_bytes(b"\0" * 64)
    (tmp_path / "out").mkdir()
    with pytest.raises(EmpathyEdgeError, match="builder cannot make LlamaForCausalLM"):
        genai.write_genai(source, tmp_path / "out", "int4")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"), [("int8", {}), ("fp32", {}), ("int4", {"block_size": 16, "algo_config": "k_quant"})]
)
def test_genai_precisions_and_options(
    name: str, options: dict[str, str | int], tiny_model: Path, tmp_path: Path
) -> None:
    settings = ExportSettings(artifacts=(f"onnx-{name}",), genai_options=options)
    folders = artifacts.make_artifacts(
        tiny_model, tmp_path, settings, base=find_model(str(tiny_model)), adapters=[]
    )
    results = verify.run(checkpoint=tiny_model, artifacts=folders, out=tmp_path / "verify")
    assert results.artifacts[0].mean_kl < {"int8": 0.01, "fp32": 1e-4, "int4": 0.3}[name]


def test_an_unknown_option_is_one_error(tiny_model: Path, tmp_path: Path) -> None:
    arguments = ("export", tiny_model, "--out", tmp_path / "out")
    assert_one_clear_error(
        run_command(*arguments, "--genai-option", "hf_token=x"), 2, "no such option: hf_token"
    )
    assert_one_clear_error(run_command(*arguments, "--tensor-type", "token_embd"), 2, "is not KEY=VALUE")
    result = run_command(*arguments, "--to", "gguf-f16", "--converter", tmp_path / "no.py")
    assert_one_clear_error(result, 2, "no.py: no such script")


def test_another_converter_writes_what_ours_does_not_know(tiny_model: Path, tmp_path: Path) -> None:
    """The user's script is a process that gets the checkpoint and writes a file; here it calls our writer."""
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from empathy_edge.export.gguf.writer import write_float\n"
        "if Path(sys.argv[1], 'broken').exists(): sys.exit('Model Broken is not supported')\n"
        "write_float(Path(sys.argv[1]), Path(sys.argv[5]), sys.argv[3])\n"
    )
    settings = ExportSettings(artifacts=("gguf-f16",), converter=str(script))
    base = find_model(str(tiny_model))
    (folder,) = artifacts.make_artifacts(tiny_model, tmp_path / "out", settings, base=base, adapters=[])
    assert (folder / "model.gguf").stat().st_size > 6e6
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "broken").touch()
    with pytest.raises(EmpathyEdgeError, match=r"broken: .* cannot convert .*:\n  Model Broken is not"):
        artifacts.make_artifacts(broken, tmp_path / "out2", settings, base=base, adapters=[])
    assert not list((tmp_path / "out2").rglob("*.gguf")) and not list((tmp_path / "out2").rglob("*.tmp"))


def test_optimum_in_an_environment_of_its_own(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ExportSettings(artifacts=("onnx-portable-fp32", "onnx-portable-int8"), exporter="optimum")
    base = find_model(str(tiny_model))
    monkeypatch.setenv("EMPATHY_EDGE_OPTIMUM", str(tmp_path / "none"))
    with pytest.raises(PrerequisiteError, match="make setup-optimum"):
        artifacts.make_artifacts(tiny_model, tmp_path / "out", settings, base=base, adapters=[])
    environment = Path(os.environ.get("EMPATHY_EDGE_OPTIMUM_FOR_TESTS", ROOT / ".venv-optimum"))
    if not environment.is_dir():
        pytest.skip("make setup-optimum was not run")
    monkeypatch.setenv("EMPATHY_EDGE_OPTIMUM", str(environment))
    folders = artifacts.make_artifacts(tiny_model, tmp_path / "out", settings, base=base, adapters=[])
    results = verify.run(checkpoint=tiny_model, artifacts=folders, out=tmp_path / "verify")
    fp32, int8 = results.artifacts
    assert fp32.mean_kl < 1e-5 < int8.mean_kl < 0.05


def test_a_missing_library_is_told_before_the_merge(
    tiny_model: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(artifacts._NEEDS, "executorch", ("no_such_module", "executorch"))
    settings = ExportSettings(artifacts=("executorch-fp32",))
    with pytest.raises(PrerequisiteError, match="executorch"):
        artifacts.run(
            base=find_model(str(tiny_model)), adapters=[adapter], out=tmp_path / "out", settings=settings
        )
    assert not (tmp_path / "out").exists()


def test_advice_where_rounding_took_too_much() -> None:
    mean_kls = {
        "gguf-q4_0": 0.24,
        "onnx-int4": 0.31,
        "gguf-q8_0": 0.003,
        "gguf-q4_k_m": 0.2,
        "does-not-load": None,
    }
    (first, second) = verify.advice(mean_kls)
    assert "--to gguf-q4_0-gptq" in first and "0.24" in first and "--to onnx-int4-gptq" in second
    assert verify.advice({"gguf-q4_0": 0.24, "gguf-q4_0-gptq": 0.04}) == []
