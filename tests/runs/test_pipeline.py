"""The whole road in miniature: run, skip, kill, interrupt, go on."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from empathy_edge.data import sample_dialogues
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.runs.pipeline import STAGES, _failed, run_recipe
from empathy_edge.runs.recipe import load_recipe
from empathy_edge.runs.run_folder import RunFolder
from empathy_edge.system.files import write_json
from tests.commands.tree import assert_reported, assert_says_next
from tests.conftest import run_command, write_rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, which these tests change; a run can be moved."""
    return Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("moved") / "run"))


def test_release_of_a_run_says_what_next(finished: Path, tiny_model: Path, tmp_path: Path) -> None:
    options = ("--base", tiny_model, "--rows", finished / "distill", "--max-prompts", "4")
    more = ("--max-new-tokens", "8", "--out", tmp_path / "released", "--json", "-")
    result = run_command("release", finished / "export" / "merged", *options, *more)
    assert result.returncode in (0, 1, 4), result.stderr
    assert assert_reported(result.stdout, "release 1")["verdict"] in ("PASS", "FAIL", "UNDECIDED")
    assert_says_next(result)


def test_a_run_leaves_every_station(finished: Path) -> None:
    for part in ("distill/sft.jsonl", "finetune/sft/adapter/adapter_model.safetensors",
                 "finetune/dpo/curves.jsonl", "export/merged/model.safetensors",
                 "export/gguf-q8_0/model.gguf", "export/onnx-int4/model.onnx",
                 "export/verify/verify.json", "bench/latency.json", "release/responses/base.jsonl",
                 "release/verdicts.jsonl", "release/release.json", "check/baseline.json.gz",
                 "check/check.json", "check/junit.xml", "report/report.html"):  # fmt: skip
        assert (finished / part).is_file(), part
    release = json.loads((finished / "release" / "release.json").read_text())
    assert release["verdict"] != "PASS" and set(release["format"]) == {"base", "fine-tuned", "known"}
    checked = json.loads((finished / "check" / "check.json").read_text())
    verdicts = {item["artifact"]: item["verdict"] for item in checked["artifacts"]}
    assert set(verdicts) == {"gguf-f16", "gguf-q8_0", "onnx-int4"}
    assert verdicts["gguf-f16"] == "PASS"
    assert not list(finished.rglob("*.tmp")) and not list(finished.rglob(".unfinished.json"))


def test_a_model_that_fails_ends_a_run_that_stops_after_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_json(folder.release / "release.json", {"verdict": "FAIL"})
    assert _failed(folder, STAGES[: STAGES.index("release")]) == []
    assert _failed(folder, STAGES[: STAGES.index("check")]) == ["the fine-tuned model"]
    artifacts = [{"artifact": "gguf-q8_0", "verdict": "FAIL"}, {"artifact": "gguf-f16", "verdict": "PASS"}]
    write_json(folder.check / "check.json", {"artifacts": artifacts})
    assert _failed(folder, STAGES) == ["the fine-tuned model", "gguf-q8_0"]


def test_a_second_run_does_nothing_again(finished: Path, tiny_recipe: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("manifest.json")}
    result = run_command("run", tiny_recipe, "--out", finished)
    assert result.returncode in (0, 1), result.stderr
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("manifest.json")} == before
    assert "going on" not in result.stderr and "SFT: step" not in result.stderr


def test_changed_recipe_needs_update_and_then_redoes_what_changed(
    finished: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "changed.yaml"
    recipe.write_text(tiny_recipe.read_text().replace("max_prompts: 4", "max_prompts: 3"))
    refused = run_command("run", recipe, "--out", finished)
    assert refused.returncode == 2 and "max_prompts: 4 then, 3 now" in refused.stderr
    trained = (finished / "finetune" / "dpo" / "manifest.json").stat().st_mtime_ns
    result = run_command("run", recipe, "--out", finished, "--update")
    assert result.returncode in (0, 1), result.stderr
    assert (finished / "finetune" / "dpo" / "manifest.json").stat().st_mtime_ns == trained
    assert json.loads((finished / "release" / "release.json").read_text())["prompts"] == 3


@pytest.mark.parametrize("step", ["sft", "dpo"])
def test_one_step_alone(step: str, tiny_recipe: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(tiny_recipe.read_text())
    content |= {"steps": [step], "export": {"artifacts": ["gguf-q8_0"]}}
    recipe = tmp_path / "alone.yaml"
    recipe.write_text(yaml.safe_dump(content))
    until = ("--until", "export") if step == "sft" else ()
    result = run_command("run", recipe, "--out", tmp_path / "run", *until, "--json", "-")
    assert result.returncode in (0, 1), result.stderr
    summary = assert_reported(result.stdout, "run 1")
    assert ("check" in summary) is not bool(until)
    if until:
        assert_says_next(result, f"empathy-edge run {recipe} --out {tmp_path / 'run'}")
    assert [path.name for path in (tmp_path / "run" / "finetune").iterdir()] == [step]
    inputs = json.loads((tmp_path / "run" / "export" / "merged" / "manifest.json").read_text())["inputs"]
    assert len(inputs) == 1
    assert (tmp_path / "run" / "report" / "report.html").is_file() is not bool(until)


def test_killed_training_goes_on_from_its_checkpoint(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "long.yaml"
    recipe.write_text(tiny_recipe.read_text().replace("epochs: 2", "epochs: 30"))
    command = [
        sys.executable,
        "-c",
        "from empathy_edge.cli import main; main()",
        "run",
        str(recipe),
        "--until",
        "sft",
    ]
    command += ["--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    checkpoints = tmp_path / "run" / "finetune" / "sft" / "checkpoints"
    states = "checkpoint-*/trainer_state.json"
    _wait_for(lambda: any(path.stat().st_size for path in checkpoints.glob(states)), process)
    process.kill()
    process.communicate()
    before = [row["step"] for row in _curve(tmp_path / "run")]
    result = run_command(*command[3:])
    assert result.returncode == 0 and "going on from step" in result.stderr, result.stderr
    steps = [row["step"] for row in _curve(tmp_path / "run")]
    assert steps == list(range(1, 91)) and before and not checkpoints.exists()


def _curve(run: Path) -> list[dict[str, float]]:
    lines = (run / "finetune" / "sft" / "curves.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def _wait_for(begun: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until a stage has left its first mark, or the process has ended after it."""
    deadline = time.monotonic() + 300
    while not begun():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "the stage was never begun"
        time.sleep(0.0005)


@pytest.mark.timeout(1200)
def test_the_real_model_takes_every_stage(tmp_path: Path) -> None:
    """SmolLM2-135M, a handful of rows: every artifact must verify, and the fine-tuned arm must speak."""
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "name: small\nbase: smollm2-135m\ndata: sample\n"
        "distill: {reference: first-draft, models: [editor], max_sft: 16, max_pairs: 10}\n"
        "sft: {epochs: 1, learning_rate: 5.0e-4}\n"
        "dpo: {epochs: 1, length_probes: 2}\n"
        "export: {artifacts: [gguf-f16, gguf-q4_0]}\n"
        "bench: {prompt_tokens: 32, decode_tokens: 16, threads: 1}\n"
        "release: {max_prompts: 3, max_new_tokens: 24}\n"
        "check: {max_prompts: 64, samples: 2, max_new_tokens: 16}\n"
    )
    result = run_command("run", recipe, "--out", tmp_path / "run")
    assert result.returncode in (0, 1), result.stderr
    rows = {
        row["artifact"]: row for row in json.loads((tmp_path / "run/export/verify/verify.json").read_text())
    }
    assert all(row["verdict"] == "PASS" and row["golden_ids_equal"] for row in rows.values())
    assert rows["gguf-f16"]["mean_kl"] < 0.001 and rows["gguf-f16"]["top1_agreement"] > 0.98
    assert rows["gguf-q4_0"]["mean_kl"] > 10 * rows["gguf-f16"]["mean_kl"]
    merge = json.loads((tmp_path / "run/export/merged/manifest.json").read_text())["results"]
    assert merge["merge_max_abs_logit_difference"] < 1e-2


def test_base_is_trained_on_as_it_will_be_deployed(tiny_recipe: Path, tmp_path: Path) -> None:
    """Quantized first: the training starts from exactly the weights that lie in the GGUF."""
    import gguf
    import numpy as np
    from safetensors.numpy import load_file

    from empathy_edge.models.find import checkpoint_of

    content = yaml.safe_load(tiny_recipe.read_text())
    (tmp_path / "deployed.yaml").write_text(yaml.safe_dump({**content, "as_deployed": "gguf-q8_0"}))
    run_recipe(load_recipe(str(tmp_path / "deployed.yaml")), tmp_path / "run", until="sft")
    artifact = tmp_path / "run" / "base" / "gguf-q8_0"
    record = json.loads((artifact / "manifest.json").read_text())["artifact"]
    trained = json.loads((tmp_path / "run" / "finetune" / "sft" / "manifest.json").read_text())["settings"]
    assert trained["base_sha256"] == record["sha256"]
    weights = load_file(checkpoint_of(str(artifact)).path / "model.safetensors")
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(artifact / "model.gguf").tensors}
    down = stored["blk.0.ffn_down.weight"]
    wanted = gguf.quants.dequantize(down.data, down.tensor_type)
    assert np.array_equal(weights["model.layers.0.mlp.down_proj.weight"], wanted)
    assert down.tensor_type.name == "Q8_0"


def test_an_unknown_deployment_is_a_fault(tiny_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(tiny_recipe.read_text() + "as_deployed: onnx-int4\n")
    with pytest.raises(EmpathyEdgeError, match="as_deployed: the base can be quantized to a GGUF before"):
        load_recipe(str(tmp_path / "bad.yaml"))


def test_a_run_of_data_without_a_test_split_goes_to_its_report(tiny_recipe: Path, tmp_path: Path) -> None:
    """It failed after training, export and bench: test.jsonl was empty."""
    rows = [row | {"split": "train"} for row in read_jsonl(sample_dialogues())]
    data, out = write_rows(tmp_path / "rated.jsonl", *rows), tmp_path / "out"
    result = run_command("run", tiny_recipe, "--data", data, "--out", out)
    assert result.returncode in (0, 1), result.stderr
    prompts = [row["id"] for row in read_jsonl(out / "release" / "prompts.jsonl")]
    report = (out / "report" / "report.md").read_text()
    assert len(prompts) == 4 and all(f"### {prompt} (" in report for prompt in prompts)
