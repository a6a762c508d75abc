"""SFT and DPO on a tiny model: what is trained, what is refused, and that it learns."""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoTokenizer

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.finetune import dpo, sft
from empathy_edge.finetune.length_drift import LengthProbe
from empathy_edge.finetune.memory_needed import space_needed_mb
from empathy_edge.finetune.rows_on_disk import write_rows
from empathy_edge.finetune.training import last_checkpoint
from empathy_edge.finetune.training_results import DpoResults, LengthDrift, SftResults
from empathy_edge.formats.json_lines import read_jsonl, write_jsonl
from empathy_edge.formats.training_rows import check_lengths, load_rows
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import DpoSettings, TrainSettings
from empathy_edge.runs.stage import results_of
from empathy_edge.runtimes.torch_batch import Generated
from tests.conftest import made_once

FAST = {"batch_size": 4, "micro_batch_size": 2, "learning_rate": 0.01, "weights": "fp32"}


@pytest.fixture(scope="module")
def tuned(rows: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = find_model(str(tiny_model))
    with made_once(tmp_path_factory, "tuned") as (out, is_made):
        if not is_made:
            settings = TrainSettings(epochs=6, **FAST)
            sft.run(rows=rows / "sft.jsonl", base=base, out=out / "sft", settings=settings)
            dpo.run(
                pairs=[rows / "preference.jsonl"],
                base=base,
                sft=out / "sft",
                out=out / "dpo",
                settings=DpoSettings(epochs=6, **FAST),
            )
    return out


def test_both_steps_learn(tuned: Path) -> None:
    first = results_of(tuned / "sft", SftResults)
    assert first.loss_last < 0.97 * first.loss_first and first.steps == 18
    second = results_of(tuned / "dpo", DpoResults)
    assert abs(second.loss_first - math.log(2)) < 0.1 and second.loss_last < second.loss_first
    assert second.reward_margin_last > 0


def test_what_a_process_that_was_cut_off_left_is_deleted(
    rows: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache-0123.arrow").write_text("tokens")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    settings = TrainSettings(**FAST)
    split = write_rows([rows / "sft.jsonl"], sft.FIELDS, tokenizer, settings, tmp_path)
    assert split.total == 12
    assert not (tmp_path / "cache-0123.arrow").exists()


def test_disk_space_counts_the_training_files(rows: Path) -> None:
    size_mb = (rows / "sft.jsonl").stat().st_size / 1e6
    assert space_needed_mb([rows / "sft.jsonl"]) == pytest.approx(200 + 13 * size_mb)


def test_a_step_that_is_done_returns_its_results_again(tuned: Path, rows: Path, tiny_model: Path) -> None:
    again = sft.run(
        rows=rows / "sft.jsonl",
        base=find_model(str(tiny_model)),
        out=tuned / "sft",
        settings=TrainSettings(epochs=6, **FAST),
    )
    assert again == results_of(tuned / "sft", SftResults)
    assert again.rows == 12 and again.held_out_loss is None


def test_a_step_leaves_adapter_curves_and_manifest_only(tuned: Path) -> None:
    for step in ("sft", "dpo"):
        names = sorted(
            str(path.relative_to(tuned / step)) for path in (tuned / step).rglob("*") if path.is_file()
        )
        assert names == ["adapter/adapter_config.json", "adapter/adapter_model.safetensors", "curves.jsonl",
                         "manifest.json"]  # fmt: skip
        steps = [row["step"] for row in read_jsonl(tuned / step / "curves.jsonl") if "loss" in row]
        assert steps == list(range(1, len(steps) + 1))


def test_loss_is_on_the_response_and_its_stop_token_only(
    rows: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the loss on the whole text, the check before training must refuse."""
    import trl

    class WholeText(trl.SFTConfig):
        def __init__(self, **arguments: object) -> None:
            super().__init__(**{**arguments, "completion_only_loss": False})

    monkeypatch.setattr(trl, "SFTConfig", WholeText)
    with pytest.raises(EmpathyEdgeError, match="The loss would be taken on"):
        sft.run(rows=rows / "sft.jsonl", base=find_model(str(tiny_model)), out=tmp_path / "sft",
                settings=TrainSettings(**FAST))  # fmt: skip


def test_cut_off_response_is_refused_before_training(rows: Path, tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    examples = load_rows(rows / "sft.jsonl", ("prompt", "completion"))
    check_lengths(rows / "sft.jsonl", examples, tokenizer, 512)
    with pytest.raises(
        EmpathyEdgeError, match=r"sft\.jsonl: row \d+: 'completion' ends at token \d+, beyond"
    ):
        check_lengths(rows / "sft.jsonl", examples, tokenizer, 64)


@pytest.mark.parametrize("bad", [{"prompt": []}, {"completion": [{"role": "assistant", "content": " "}]}, {}])
def test_bad_training_row_is_named(bad: dict[str, object], tmp_path: Path) -> None:
    good = {
        "prompt": [{"role": "user", "content": "a"}],
        "completion": [{"role": "assistant", "content": "b"}],
    }
    write_jsonl(tmp_path / "sft.jsonl", [good, {**good, **bad} if bad else {"text": "x"}])
    with pytest.raises(EmpathyEdgeError, match=r"sft\.jsonl: row 2: '(prompt|completion)'"):
        load_rows(tmp_path / "sft.jsonl", ("prompt", "completion"))


def test_a_test_dialogue_in_the_training_file_is_refused(
    rows: Path, tiny_model: Path, tmp_path: Path
) -> None:
    leaky = tmp_path / "rows"
    shutil.copytree(rows, leaky)
    (victim, *_) = read_jsonl(leaky / "test.jsonl")
    (first, *others) = read_jsonl(leaky / "sft.jsonl")
    first["prompt"][-1]["content"] = victim["utterance"].upper()
    write_jsonl(leaky / "sft.jsonl", [first, *others])
    with pytest.raises(EmpathyEdgeError, match=r"sft\.jsonl: 1 rows are test dialogues"):
        sft.run(rows=leaky / "sft.jsonl", base=find_model(str(tiny_model)), out=tmp_path / "sft",
                settings=TrainSettings(**FAST))  # fmt: skip


@pytest.mark.parametrize("weights", ["fp32", "bf16"])
def test_base_is_loaded_as_the_checkpoint_computes_it(weights: str, tiny_model: Path, tmp_path: Path) -> None:
    """The rotary embedding's frequencies stay in fp32; rounded, they would train another model than ships."""
    import torch

    from empathy_edge.runtimes.torch_loading import load_base

    model = load_base(tiny_model, weights, [], tmp_path / "scratch").model
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert {parameter.dtype for parameter in model.parameters()} == {
        getattr(torch, {"fp32": "float32"}.get(weights, "bfloat16"))
    }


@pytest.mark.slow
def test_qlora_trains_and_merges_into_full_precision(rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    from empathy_edge.export import merged

    base = find_model(str(tiny_model))
    nf4 = {**FAST, "weights": "nf4", "epochs": 2}
    sft.run(rows=rows / "sft.jsonl", base=base, out=tmp_path / "sft", settings=TrainSettings(**nf4))
    second = dpo.run(pairs=[rows / "preference.jsonl"], base=base, sft=tmp_path / "sft", out=tmp_path / "dpo",
                     settings=DpoSettings(**nf4))  # fmt: skip
    assert abs(second.loss_first - math.log(2)) < 0.2
    assert not (tmp_path / "dpo" / "scratch").exists()
    adapters = [tmp_path / step / "adapter" for step in ("sft", "dpo")]
    results = merged.make(base=base, adapters=adapters, out=tmp_path / "merged", tolerance=1e-2)
    assert results.merge_max_abs_logit_difference < 1e-2


def test_held_out_loss_keeps_the_best_epoch_and_stops_early(
    rows: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """At a learning rate that destroys the model, the first epoch is the best, and the second is the last."""
    settings = TrainSettings(epochs=5, held_out=0.25, patience=1, **{**FAST, "learning_rate": 0.3})
    results = sft.run(
        rows=rows / "sft.jsonl", base=find_model(str(tiny_model)), out=tmp_path / "sft", settings=settings
    )
    losses = results.held_out_loss
    assert losses is not None
    assert results.kept_epoch == losses.index(min(losses)) + 1 == len(losses) - 1 < 4
    assert (tmp_path / "sft" / "adapter" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "sft" / "best").exists()


def test_the_length_is_measured_on_the_adapter_that_is_kept(
    rows: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The review's B7: after an early stop the "after" was the half-way measurement of another adapter."""
    measured: list[dict[str, Any]] = []

    def keep_weights(self: LengthProbe, model: Any) -> list[Generated]:
        weights = get_peft_model_state_dict(model)
        measured.append({name: weight.clone() for name, weight in weights.items()})
        return [Generated([5], True) for _ in self.prompts]

    monkeypatch.setattr(LengthProbe, "_replies", keep_weights)
    settings = DpoSettings(
        epochs=5, held_out=0.25, patience=1, length_probes=2, **{**FAST, "learning_rate": 0.3}
    )
    base = find_model(str(tiny_model))
    results = dpo.run(
        pairs=[rows / "preference.jsonl"], base=base, sft=None, out=tmp_path / "dpo", settings=settings
    )
    kept = load_file(tmp_path / "dpo" / "adapter" / "adapter_model.safetensors")
    assert results.length_drift is not None and results.held_out_loss is not None
    assert results.kept_epoch is not None and results.kept_epoch < len(results.held_out_loss)
    assert set(kept) == set(measured[-1])
    assert all(torch.equal(kept[name], weight) for name, weight in measured[-1].items())


def test_early_stop_without_held_out_rows_is_a_fault() -> None:
    with pytest.raises(ValueError, match="needs held_out"):
        TrainSettings(patience=1)


def test_too_easy_pairs_are_warned_about() -> None:
    from empathy_edge.finetune.dpo import _pair_warnings

    assert _pair_warnings([0.5, 1.0] + [1.0] * 20)
    assert not _pair_warnings([0.5, 0.5, 0.75] + [1.0] * 20)


def test_pairs_that_taught_nothing_are_warned_about() -> None:
    from empathy_edge.finetune.dpo import no_change_warnings

    assert "only 0.020 nats" in no_change_warnings(0.002, beta=0.1)[0]
    assert not no_change_warnings(0.02, beta=0.1) and not no_change_warnings(0.002, beta=0.01)
    assert not no_change_warnings(-0.3, beta=0.1) and not no_change_warnings(float("nan"), beta=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["sigmoid_norm", "ipo"])
def test_other_losses_learn_too(loss: str, tuned: Path, rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    settings = DpoSettings(
        epochs=6, loss=loss, beta=2.0, sft_weight=0.1, lora_targets=("q_proj", "v_proj"), **FAST
    )
    results = dpo.run(pairs=[rows / "preference.jsonl"], base=find_model(str(tiny_model)), sft=tuned / "sft",
                      out=tmp_path / "dpo", settings=settings)  # fmt: skip
    assert results.reward_margin_last > 0
    config = json.loads((tmp_path / "dpo" / "adapter" / "adapter_config.json").read_text())
    assert sorted(config["target_modules"]) == ["q_proj", "v_proj"]


def test_length_is_probed_before_halfway_and_after(tuned: Path) -> None:
    probes = [row for row in read_jsonl(tuned / "dpo" / "curves.jsonl") if "probe_median_words" in row]
    assert [row["step"] for row in probes] == [0, 9, 18]
    drift = results_of(tuned / "dpo", DpoResults).length_drift
    assert drift is not None
    assert drift.median_words_before == probes[0]["probe_median_words"] and drift.prompts == 12


def test_runaway_length_is_warned_about() -> None:
    from empathy_edge.finetune.length_drift import drift_warnings

    def drift(median_words_after: float, stopped_after: float) -> LengthDrift:
        return LengthDrift(
            prompts=16,
            median_words_before=30,
            median_words_after=median_words_after,
            stopped_before=1.0,
            stopped_after=stopped_after,
        )

    assert not drift_warnings(None)
    assert not drift_warnings(drift(38, 1.0))
    assert "30 to 55 words" in drift_warnings(drift(55, 1.0))[0]
    assert "only 81%" in drift_warnings(drift(30, 0.81))[0]


@pytest.mark.slow
def test_dpo_only_starts_from_the_base(rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    results = dpo.run(pairs=[rows / "preference.jsonl"], base=find_model(str(tiny_model)), sft=None,
                      out=tmp_path / "dpo", settings=DpoSettings(epochs=1, **FAST))  # fmt: skip
    manifest = json.loads((tmp_path / "dpo" / "manifest.json").read_text())
    assert set(manifest["inputs"]) == {"pairs"} and results.steps == 3


def test_dpo_refuses_an_sft_adapter_of_another_base(
    tuned: Path, rows: Path, tiny_model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    with open(other / "model.safetensors", "r+b") as handle:
        handle.seek(-4, 2)
        handle.write(b"\0\0\0\0")
    with pytest.raises(EmpathyEdgeError, match="trained on another base"):
        dpo.run(
            pairs=[rows / "preference.jsonl"],
            base=find_model(str(other)),
            sft=tuned / "sft",
            out=tmp_path / "dpo",
            settings=DpoSettings(),
        )


def test_same_seed_gives_the_same_adapter(rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    from empathy_edge.system.hash_cache import sha256_file

    hashes = []
    for name in ("a", "b"):
        sft.run(rows=rows / "sft.jsonl", base=find_model(str(tiny_model)), out=tmp_path / name,
                settings=TrainSettings(epochs=1, **FAST))  # fmt: skip
        hashes.append(sha256_file(tmp_path / name / "adapter" / "adapter_model.safetensors"))
    assert hashes[0] == hashes[1]


def test_a_checkpoint_that_a_kill_cut_short_is_dropped(tmp_path: Path) -> None:
    states = {5: '{"global_step": 5}', 10: "", 15: '{"global_', 20: None}
    for step, state in states.items():
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "scheduler.pt").touch()
        if state is not None:
            (checkpoint / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-5"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]


def test_too_little_memory_is_said_before_training(
    rows: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from empathy_edge.system import machine

    settings = TrainSettings(**FAST)
    little = SimpleNamespace(available=200e6, total=16e9)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: little)
    with pytest.raises(PrerequisiteError, match=r"Not enough memory for fine-tuning.*\n.*micro_batch_size"):
        sft.run(
            rows=rows / "sft.jsonl", base=find_model(str(tiny_model)), out=tmp_path / "sft", settings=settings
        )
    assert not (tmp_path / "sft").exists(), "the advice can be followed without --update"
