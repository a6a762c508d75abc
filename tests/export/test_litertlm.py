"""Artifacts for LiteRT-LM: litert-torch makes them in its own environment, LiteRT-LM itself runs them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.export import artifacts, verify
from empathy_edge.export.litertlm import convert, prompts_check
from empathy_edge.export.litertlm.worker import SMALLEST_SCALE, scales_of_grid
from empathy_edge.formats.built_in_templates import BUILT_IN, built_in_template
from empathy_edge.formats.chat_format import fit_to_template, messages_for, render
from empathy_edge.formats.litert_weights import refuse_ruined
from empathy_edge.formats.typed_template import typed_template
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import ExportSettings
from empathy_edge.runtimes import open_runtime
from empathy_edge.runtimes.litert_lm_runtime import require_vulkan
from tests.conftest import ROOT, assert_one_clear_error, run_command

pytest.importorskip("litert_lm")
try:
    require_vulkan()
except PrerequisiteError as error:
    pytest.skip(str(error), allow_module_level=True)

NAMES = ("litertlm-fp32", "litertlm-int8", "litertlm-int4", "litertlm-int4-gptq")


@pytest.fixture(scope="module")
def litert_environment() -> Path:
    environment = Path(os.environ.get("EMPATHY_EDGE_LITERT_FOR_TESTS", ROOT / ".venv-litert"))
    if not environment.is_dir():
        pytest.skip("make setup-litert was not run")
    return environment


@pytest.fixture(scope="module")
def exported(tiny_model: Path, litert_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("litertlm")
    settings = ExportSettings(artifacts=NAMES, calibration_dialogues=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMPATHY_EDGE_LITERT", str(litert_environment))
        artifacts.make_artifacts(tiny_model, out, settings, base=find_model(str(tiny_model)), adapters=[])
    return out


@pytest.mark.slow
def test_each_artifact_says_what_the_checkpoint_says(
    exported: Path, tiny_model: Path, tmp_path: Path
) -> None:
    folders = [exported / name for name in NAMES]
    results = verify.run(checkpoint=tiny_model, artifacts=folders, out=tmp_path / "verify")
    fp32, int8, int4, compensated = results.artifacts
    assert fp32.mean_kl < 1e-5 and fp32.greedy_same == 4
    assert int8.mean_kl < 0.01
    # Which of the two loses less is for a real model to show: random weights have little to compensate.
    assert int8.mean_kl < compensated.mean_kl < 0.5 and int8.mean_kl < int4.mean_kl < 0.5
    sizes = [(exported / name / "model.litertlm").stat().st_size for name in NAMES]
    assert sizes[0] > 2.5 * sizes[1] > 2.5 * sizes[2] and abs(sizes[2] - sizes[3]) < 100_000


@pytest.mark.slow
def test_replies_of_litert_lm_are_those_of_torch(exported: Path, tiny_model: Path) -> None:
    runtime, reference = open_runtime(exported / "litertlm-fp32"), open_runtime(tiny_model)
    said = messages_for("word " * 150)  # longer than one prefill
    mine = runtime.reply(said, max_new_tokens=12, ignore_stop=True)
    expected = reference.reply(said, max_new_tokens=12, ignore_stop=True)
    assert mine.text == expected.text and mine.prompt_tokens == expected.prompt_tokens
    assert len(mine.token_times_s) == 12 and mine.finish_reason == "length"
    assert all(speed and speed > 0 for speed in runtime.own_speeds())
    ids = runtime.encode(said)
    np.testing.assert_allclose(runtime.next_logits(ids), reference.next_logits(ids), atol=1e-3)
    reply = expected.token_ids
    expected_log_probs = reference.log_probs([*ids, *reply], len(ids))
    np.testing.assert_allclose(runtime.log_probs([*ids, *reply], len(ids)), expected_log_probs, atol=1e-3)
    # The second reply to the same prompt begins with what is in the buffers.
    other = [*reply[:3], reply[0]]
    found = runtime.log_probs([*ids, *other], len(ids))
    np.testing.assert_allclose(found, reference.log_probs([*ids, *other], len(ids)), atol=1e-3)


@pytest.mark.slow
def test_a_reply_that_is_stopped_is_cancelled(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The conversation's deletion waits for the end of a reply: Ctrl-C took as long as the whole reply."""
    runtime = open_runtime(exported / "litertlm-int8", threads=1)
    said = messages_for("Hello you")
    expected = runtime.reply(said, max_new_tokens=8, ignore_stop=True)
    conversation = runtime._conversation(0.0, 0, False)
    cancel, cancelled = conversation.cancel_process, []
    with monkeypatch.context() as patch:
        patch.setattr(conversation, "cancel_process", lambda: cancelled.append(cancel()))
        patch.setattr(runtime, "_conversation", lambda *_: conversation)
        pieces = runtime.stream(said, max_new_tokens=200, ignore_stop=True)
        next(pieces)
        pieces.close()
    assert len(cancelled) == 1
    assert runtime.reply(said, max_new_tokens=8, ignore_stop=True).text == expected.text
    runtime.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT_IN)
def test_litert_lm_renders_the_built_in_templates(exported: Path, name: str) -> None:
    runtime = open_runtime(exported / "litertlm-int8", threads=1, context=128)
    template = built_in_template(name, begins_with_bos=True)
    for conversation in prompts_check.CONVERSATIONS:
        *earlier, last = fit_to_template(template, conversation)
        with runtime._engine.create_conversation(
            messages=earlier or None, chat_template=typed_template(template, bos="<s>", eos="</s>")
        ) as opened:
            found = opened.render_message_to_string(last)
        assert found == render(template, [*earlier, last], bos="<s>", eos="</s>")


@pytest.mark.slow
def test_a_template_that_litert_lm_cannot_render_is_refused(exported: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(exported / "litertlm-int8", broken)
    template = "{% for m in messages %}{{ m.get('content') }}<|im_end|>{% endfor %}"
    (broken / "chat_template.jinja").write_text(template)
    graph, executor = tmp_path / "graph", tmp_path / "executor"
    with convert._parts(exported / "litertlm-int8" / "model.litertlm", tmp_path) as parts:
        shutil.copyfile(parts[0], graph)
        shutil.copyfile(parts[1], executor)
    convert.package(broken, graph, executor, 1024, broken / "model.litertlm")
    with pytest.raises(EmpathyEdgeError, match="cannot render the chat template"):
        prompts_check.require_same_prompts(broken / "model.litertlm", broken)


@pytest.mark.slow
def test_a_file_from_elsewhere(exported: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Chat with it, and compare it with a checkpoint; nothing but the file is there."""
    file = tmp_path / "model.litertlm"
    shutil.copyfile(exported / "litertlm-int8" / "model.litertlm", file)
    said = run_command("chat", file, "--once", "--max-new-tokens", "5", input="I lost my job.")
    assert said.returncode == 0 and said.stdout.strip()
    assert "INFO:" not in said.stderr
    checked = run_command("check", file, "--reference", tiny_model, "--max-prompts", "4")
    assert checked.returncode in (0, 1, 4), checked.stderr
    file.write_bytes(file.read_bytes()[:-5000])
    assert_one_clear_error(run_command("chat", file, "--once", input="x"), 2, "is cut short")


@pytest.mark.slow
def test_check_refuses_four_bits_with_one_scale_a_row(
    exported: Path, tiny_model: Path, litert_environment: Path, tmp_path: Path
) -> None:
    """Channelwise int4, as ai-edge-quantizer's own recipe makes it."""
    script = (
        "import sys\nfrom ai_edge_quantizer import quantizer, recipe\n"
        "work = quantizer.Quantizer(sys.argv[1])\n"
        "work.load_quantization_recipe(recipe.dynamic_wi4_afp32())\n"
        "work.quantize().export_model(sys.argv[2])"
    )
    with convert._parts(exported / "litertlm-fp32" / "model.litertlm", tmp_path) as (graph, executor):
        quantized = tmp_path / "model.tflite"
        python = litert_environment / "bin" / "python"
        subprocess.run([python, "-c", script, graph, quantized], check=True, capture_output=True)
        convert.package(tiny_model, quantized, executor, 1024, tmp_path / "model.litertlm")
    done = run_command("check", tmp_path / "model.litertlm", "--reference", tiny_model)
    assert_one_clear_error(done, 2, "matrices have four bits with one scale for a whole row")
    for name in ("litertlm-int4", "litertlm-int4-gptq"):
        refuse_ruined(exported / name)


def test_the_environment_is_asked_for_before_anything_is_made(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_LITERT", str(tmp_path / "none"))
    done = run_command("export", tiny_model, "--to", "litertlm-int8", "--out", tmp_path / "out")
    assert_one_clear_error(done, 3, "litert-torch is not installed", "make setup-litert")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_bundle_for_phones(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "licence.txt").write_text("x")
    bundle = tmp_path / "bundle"
    done = run_command(
        "export", "bundle", exported / "litertlm-int8", "--out", bundle, "--license", tmp_path / "licence.txt"
    )
    assert done.returncode == 0, done.stderr
    assert "Kotlin" in (bundle / "README.md").read_text()
    assert run_command("export", "check", bundle).returncode == 0
    file = bundle / "model.litertlm"
    file.write_bytes(file.read_bytes()[:-5000])
    assert_one_clear_error(run_command("export", "check", bundle), 1, "is cut short")


@pytest.mark.slow
def test_an_unknown_family_is_one_clear_error(
    tiny_model: Path, litert_environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = tmp_path / "unknown"
    shutil.copytree(tiny_model, unknown)
    config = json.loads((unknown / "config.json").read_text())
    config |= {"model_type": "brand_new", "architectures": ["BrandNewForCausalLM"]}
    (unknown / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("EMPATHY_EDGE_LITERT", str(litert_environment))
    done = run_command("export", unknown, "--to", "litertlm-int8", "--out", tmp_path / "out")
    assert_one_clear_error(done, 2, "litert-torch cannot convert BrandNewForCausalLM", "--to gguf-q8_0")
    assert not list((tmp_path / "out").rglob("*.litertlm"))


def test_too_little_memory_is_said_before_the_conversion(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("litert-torch", "python"):
        program = tmp_path / "environment" / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.symlink_to(sys.executable)
    monkeypatch.setenv("EMPATHY_EDGE_LITERT", str(tmp_path / "environment"))
    monkeypatch.setattr("empathy_edge.system.machine.free_memory_mb", lambda: 400.0)
    with pytest.raises(PrerequisiteError, match=r"converting to LiteRT-LM: needs about 0\.5 GB, 0\.4 GB"):
        convert.write_float(tiny_model, tmp_path)


def test_the_scales_of_weights_on_a_grid() -> None:
    """Of each block the number that all weights are multiples of, -8 to 7."""
    chance = np.random.default_rng(0)
    codes = chance.integers(-8, 8, (50, 2, 32))
    codes[0, 0] = 0  # no weight at all
    codes[1, 0] = [-8] + [0] * 31
    codes[2, 0] = [7] + [0] * 31
    codes[3, 0] = [6, 4] + [0] * 30  # on a coarser grid, too
    codes[4, 0] = [5, 3] + [0] * 30  # the smallest gap is no scale
    scales = chance.uniform(0.001, 0.1, (50, 2)).astype(np.float32)
    weights = (codes * scales[..., None]).astype(np.float32).reshape(50, 64)
    zeros, found = scales_of_grid(weights, 1, 32)
    assert found[0, 0] == np.float32(SMALLEST_SCALE) and not zeros.any()
    steps = weights.reshape(50, 2, 32) / found[..., None]
    assert np.abs(steps - steps.round()).max() < 1e-3
    assert steps.min() >= -8.001 and steps.max() <= 7.001
    with pytest.raises(ValueError, match="1 blocks do not lie on a grid"):
        scales_of_grid(np.linspace(-1, 1, 32, dtype=np.float32)[None], 1, 32)
