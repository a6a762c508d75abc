"""A training that was stopped or diverged: what is kept, what is computed again, what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.finetune import sft
from empathy_edge.finetune.curves import Curves
from empathy_edge.finetune.training import require_finite
from empathy_edge.finetune.training_results import SftResults
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import TrainSettings
from empathy_edge.system.hash_cache import sha256_file

Train = Callable[[str, TrainSettings], SftResults]

FAST = {"batch_size": 4, "learning_rate": 0.01, "weights": "fp32"}
MEASURED = TrainSettings(epochs=1.5, held_out=0.25, **FAST)
"""Of 9 rows: 3 steps, half of 3 more, and a held-out loss after each."""


@pytest.fixture
def train(rows: Path, tiny_model: Path, tmp_path: Path) -> Train:
    def run(name: str, settings: TrainSettings) -> SftResults:
        base = find_model(str(tiny_model))
        return sft.run(rows=rows / "sft.jsonl", base=base, out=tmp_path / name, settings=settings)

    return run


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def never(*_: object, **__: object) -> None:
    raise AssertionError("a step is trained again")


def held_out(step: Path) -> list[tuple[float, float]]:
    """The epoch and the loss of each measurement."""
    rows = read_jsonl(step / "curves.jsonl")
    return [(row["epoch"], row["eval_loss"]) for row in rows if "eval_loss" in row]


@pytest.mark.parametrize("settings", [MEASURED, TrainSettings(**FAST)], ids=["held-out", "all"])
def test_a_stop_after_the_last_step_costs_no_step(
    settings: TrainSettings, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoints were deleted before the replies before and after were made: all was lost."""
    whole = train("whole", settings)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("empathy_edge.finetune.training.before_and_after", interrupt)
        train("cut", settings)
    monkeypatch.setattr("trl.SFTTrainer.training_step", never)
    found = train("cut", settings)
    assert found.steps == whole.steps and found.loss_last == whole.loss_last
    assert found.kept_epoch == whole.kept_epoch
    if whole.held_out_loss:
        assert found.held_out_loss == pytest.approx(whole.held_out_loss)
    adapters = [tmp_path / name / "adapter" / "adapter_model.safetensors" for name in ("whole", "cut")]
    assert sha256_file(adapters[0]) == sha256_file(adapters[1])
    names = sorted(path.name for path in (tmp_path / "cut").iterdir())
    assert names == ["adapter", "curves.jsonl", "manifest.json"]


def test_what_was_deleted_last_is_what_training_is_resumed_from(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a stop when everything is written but the manifest."""
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("empathy_edge.finetune.sft.finish_stage", interrupt)
        train("cut", MEASURED)
    assert {path.name for path in (tmp_path / "cut").iterdir()} >= {"adapter", "best", "checkpoints"}
    monkeypatch.setattr("trl.SFTTrainer.training_step", never)
    assert train("cut", MEASURED).steps == 5


def test_an_epoch_whose_end_is_a_checkpoint_is_measured_when_training_goes_on(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is written before the measurement; what went on from there had none of that epoch."""
    settings = TrainSettings(epochs=2, held_out=0.25, save_every_steps=3, **FAST)
    whole = train("whole", settings)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("trl.SFTTrainer.evaluate", interrupt)
        train("cut", settings)
    assert held_out(tmp_path / "cut") == []
    found = train("cut", settings)
    assert found.held_out_loss == pytest.approx(whole.held_out_loss) and found.kept_epoch == whole.kept_epoch
    assert [epoch for epoch, _ in held_out(tmp_path / "cut")] == [1.0, 2.0]


def test_a_stop_while_the_best_adapter_is_saved(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss was in the curves already, and the adapter of that epoch was never saved."""
    settings = TrainSettings(epochs=2, held_out=0.25, save_every_steps=3, **FAST)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("empathy_edge.finetune.training._BestEpoch.on_evaluate", interrupt)
        train("cut", settings)
    assert len(held_out(tmp_path / "cut")) == 1 and not (tmp_path / "cut" / "best").exists()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("trl.SFTTrainer.training_step", interrupt)
        train("cut", settings)
    assert len(held_out(tmp_path / "cut")) == 1
    assert (tmp_path / "cut" / "best" / "adapter_model.safetensors").is_file()


def test_the_kept_epoch_is_the_one_that_was_measured(tmp_path: Path) -> None:
    """It was the place in the list, also where the first epoch had no measurement."""
    curves = Curves(tmp_path / "curves.jsonl", "SFT")
    curves.rows = [
        {"step": 6, "epoch": 2.0, "eval_loss": 3.0},
        {"step": 9, "epoch": 3.0, "eval_loss": 2.0},
        {"step": 11, "epoch": 3.5, "eval_loss": 2.5},
    ]
    assert curves.best_epoch() == 3
    curves.rows[2]["eval_loss"] = 1.0
    assert curves.best_epoch() == 4


def test_a_loss_that_is_no_number_ends_training(rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    """transformers left such losses out, and an adapter of NaN was written."""
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EmpathyEdgeError, match=r"SFT: the loss has become NaN or infinite(.|\n)*Lower learn"):
        sft.run(
            rows=rows / "sft.jsonl",
            base=find_model(str(broken)),
            out=tmp_path / "sft",
            settings=TrainSettings(**FAST),
        )
    assert not (tmp_path / "sft" / "adapter").exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_adapter_with_a_weight_that_is_no_number_is_refused(bad: float) -> None:
    good = {"a": torch.ones(2)}
    require_finite(good, "SFT")
    with pytest.raises(EmpathyEdgeError, match="b of the adapter has become NaN"):
        require_finite({**good, "b": torch.tensor([1.0, bad])}, "SFT")
