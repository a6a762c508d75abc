"""Training in two processes gives the result of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from empathy_edge.data import sample_dialogues
from empathy_edge.distill import from_ratings as distill
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.runs.settings import DistillSettings
from tests.commands.tree import assert_reported, assert_says_next
from tests.conftest import run_command

LAUNCHERS = (
    ("torch.distributed.run", "--nproc-per-node", "2", "--standalone"),
    ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
     "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
)  # fmt: skip
"""Of two processes. accelerate calls that a multi-GPU run, also where they compute on the CPU."""


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tiny_model: Path, tmp_path: Path) -> None:
    settings = DistillSettings(reference="first-draft", models=("editor",), max_sft=32, max_pairs=16)
    distill.run(data=sample_dialogues(), out=tmp_path / "rows", settings=settings)
    # A quarter held out leaves a whole number of batches.
    step = {"epochs": 2, "batch_size": 4, "learning_rate": 0.01, "weights": "fp32", "held_out": 0.25}
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump(
            {"name": "two", "base": str(tiny_model), "sft": step, "dpo": {**step, "length_probes": 2}}
        )
    )
    arguments = ["finetune", tmp_path / "rows", "--recipe", tmp_path / "recipe.yaml", "--out"]
    one = run_command(*arguments, tmp_path / "one", "--json", tmp_path / "one.json")
    assert one.returncode == 0, one.stderr
    found = assert_reported(tmp_path / "one.json", "finetune 1")
    assert set(found) == {"format", "sft", "dpo"}
    sft, dpo = found["sft"], found["dpo"]
    assert (sft["steps"], sft["rows"], dpo["steps"], dpo["pairs"]) == (12, 32, 6, 16)  # type: ignore[index]
    assert sft["loss_last"] < sft["loss_first"] and len(sft["held_out_loss"]) == 2  # type: ignore[index]
    assert 0 <= dpo["reward_accuracy_last"] <= 1  # type: ignore[index]
    assert dpo["length_drift"]["prompts"] == 2  # type: ignore[index]
    assert_says_next(one, f"empathy-edge export --adapter {tmp_path / 'one'} --out exported")
    for launcher in LAUNCHERS:
        command = [sys.executable, "-m", *launcher, "-m", "empathy_edge", *arguments, tmp_path / launcher[0]]
        two = subprocess.run(
            [str(item) for item in command],
            capture_output=True,
            text=True,
            timeout=600,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert two.returncode == 0, two.stderr[-3000:]
        assert two.stderr.count("Adapter of SFT") == 1
        for name, steps in (("sft", 12), ("dpo", 6)):
            for key, count in (("loss", steps), ("eval_loss", 2)):
                of_one = logged(tmp_path / "one" / name, key)
                assert len(of_one) == count
                assert logged(tmp_path / launcher[0] / name, key) == pytest.approx(of_one, rel=0.01)
            assert (tmp_path / launcher[0] / name / "adapter" / "adapter_model.safetensors").is_file()


def logged(step: Path, key: str) -> list[float]:
    """The figures of a training step's curves."""
    return [float(row[key]) for row in read_jsonl(step / "curves.jsonl") if key in row]
