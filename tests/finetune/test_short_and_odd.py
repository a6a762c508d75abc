"""Ordinary settings that ended in an error of a library: few rows, wrong names of layers, several GPUs."""

import random
from itertools import product
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.finetune import dpo, sft
from empathy_edge.finetune.length_drift import LengthProbe
from empathy_edge.finetune.rows_on_disk import Split, write_rows
from empathy_edge.finetune.training import on_one_gpu, steps_of, trainer_arguments
from empathy_edge.formats.json_lines import read_jsonl, write_jsonl
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import DpoSettings, TrainSettings
from empathy_edge.runtimes.precision import Precision
from empathy_edge.runtimes.torch_batch import Generated

FAST = {"batch_size": 4, "learning_rate": 0.01, "weights": "fp32"}
FP32 = Precision("fp32", "fp32", "asked for")


def _rows(prompts: int, responses: int) -> list[dict[str, object]]:
    """So many rows of each prompt, those of one prompt not one after the other."""
    return [
        {
            "prompt": [{"role": "user", "content": f"My cat number {prompt} died."}],
            "completion": [{"role": "assistant", "content": f"Oh no, {response} times."}],
        }
        for response, prompt in product(range(responses), range(prompts))
    ]


def _said(part: Dataset) -> set[str]:
    return {row["prompt"][-1]["content"] for row in part}


def _split(file: Path, held_out: float, tiny_model: Path, scratch: Path) -> Split:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    return write_rows([file], sft.FIELDS, tokenizer, TrainSettings(held_out=held_out, **FAST), scratch)


def test_a_prompt_is_trained_on_or_held_out(tiny_model: Path, tmp_path: Path) -> None:
    """Rows were drawn, so that most held-out prompts were trained on with another response."""
    write_jsonl(tmp_path / "sft.jsonl", _rows(10, 3))
    split = _split(tmp_path / "sft.jsonl", 0.3, tiny_model, tmp_path / "scratch")
    assert split.held_out is not None and split.total == 30 and len(split.held_out) == 9
    assert not _said(split.trained) & _said(split.held_out) and len(_said(split.held_out)) == 3


def test_rows_of_different_prompts_are_drawn_as_before(rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    split = _split(rows / "sft.jsonl", 0.25, tiny_model, tmp_path / "scratch")
    given = read_jsonl(rows / "sft.jsonl")
    drawn = random.Random(42).sample(range(len(given)), 3)
    assert split.held_out is not None
    assert _said(split.held_out) == {given[place]["prompt"][-1]["content"] for place in drawn}


def test_at_least_one_of_several_prompts_is_held_out(tiny_model: Path, tmp_path: Path) -> None:
    """A share that rounds to no row ended in an error of transformers, exit code 70."""
    write_jsonl(tmp_path / "sft.jsonl", _rows(2, 1))
    split = _split(tmp_path / "sft.jsonl", 0.01, tiny_model, tmp_path / "scratch")
    assert split.held_out is not None and len(split.held_out) == len(split.trained) == 1


def test_nothing_is_held_out_of_one_prompt(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "sft.jsonl", _rows(1, 4))
    settings = TrainSettings(held_out=0.2, patience=1, **FAST)
    found = sft.run(
        rows=tmp_path / "sft.jsonl",
        base=find_model(str(tiny_model)),
        out=tmp_path / "sft",
        settings=settings,
    )
    said = " ".join(capsys.readouterr().err.split())
    assert "All rows have one prompt: none is held out" in said and "SFT: few steps (1)" in said
    assert found.rows == 4 and found.held_out_loss is None and found.kept_epoch is None


def test_lengths_are_measured_on_trained_prompts_where_few_are_held_out(
    rows: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 probes became one."""
    monkeypatch.setattr(
        LengthProbe, "_replies", lambda self, model: [Generated([5], True) for _ in self.prompts]
    )
    settings = DpoSettings(held_out=0.1, length_probes=5, **FAST)
    found = dpo.run(
        pairs=[rows / "preference.jsonl"],
        base=find_model(str(tiny_model)),
        sft=None,
        out=tmp_path / "dpo",
        settings=settings,
    )
    assert found.length_drift is not None and found.length_drift.prompts == 5


@pytest.mark.parametrize(
    ("rows", "epochs", "steps", "warm_up"),
    [
        (12, 1.0, 3, 0),
        (20, 1.0, 5, 1),
        (12, 6.0, 18, 4),
        (80, 1.0, 20, 5),
        (13, 5.0, 20, 5),
        (4000, 1.0, 1000, 5),
    ],
)
def test_a_short_training_warms_up_in_a_quarter_of_its_steps(
    rows: int, epochs: float, steps: int, warm_up: int, tmp_path: Path
) -> None:
    """5 steps of warm-up were all of a training of 5 steps."""
    settings = TrainSettings(epochs=epochs, **FAST)
    split = Split(Dataset.from_dict({"row": list(range(rows))}), None)
    assert steps_of(rows, settings) == steps
    assert trainer_arguments(tmp_path, settings, FP32, split)["warmup_steps"] == warm_up


def test_one_of_several_gpus_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TRL refuses several GPUs in one process, and we ended with exit code 70."""
    from trl import SFTConfig

    arguments = SFTConfig(**trainer_arguments(tmp_path, TrainSettings(**FAST), FP32))
    arguments._n_gpu = 2
    assert on_one_gpu(arguments).n_gpu == 1
    assert "accelerate launch --num_processes 2" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("targets", [("query",), ("q_proj", "query"), ("lm_head",)])
def test_layers_that_the_model_does_not_have_are_named(
    targets: tuple[str, ...], rows: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """One wrong name of several was ignored."""
    message = (
        f"no layer '{targets[-1]}' that LoRA can change. Its linear layers are: "
        "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    )
    with pytest.raises(EmpathyEdgeError, match=message):
        sft.run(
            rows=rows / "sft.jsonl",
            base=find_model(str(tiny_model)),
            out=tmp_path / "sft",
            settings=TrainSettings(lora_targets=targets, **FAST),
        )
