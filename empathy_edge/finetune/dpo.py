"""The second step: DPO, with a new LoRA adapter on the base with the SFT adapter merged in full precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from empathy_edge.console import quiet_libraries, say
from empathy_edge.errors import require_extra
from empathy_edge.finetune.before_and_after import show
from empathy_edge.finetune.given_rows import PAIRS, is_empty
from empathy_edge.finetune.memory_needed import check_memory, fp32_weights_mb, space_needed_mb
from empathy_edge.finetune.training_results import FILES, DpoResults, TrainingResults, finish_stage
from empathy_edge.formats.chat_format import Message
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.formats.training_rows import count_rows
from empathy_edge.models.find import ModelRef
from empathy_edge.models.lora import require_same_base
from empathy_edge.models.templated_folder import keep_template
from empathy_edge.runs.settings import DpoSettings
from empathy_edge.runs.stage import Stage, open_stage
from empathy_edge.system.machine import require_space
from empathy_edge.system.processes import main_first, process_count
from empathy_edge.text.near_duplicates import refuse_leaks

if TYPE_CHECKING:
    from empathy_edge.finetune.rows_on_disk import Split
    from empathy_edge.runtimes.torch_loading import LoadedBase

FIELDS = ("prompt", "chosen", "rejected")

LAST_STEPS = 10
"""Rewards in the manifest are means over this many steps."""

SMALLEST_CHANGE = 0.1
"""Nats by which chosen and rejected, at the end, are further apart than before; 0 where nothing changed."""


def pairs_of(rows: Path, more: Sequence[Path]) -> list[Path]:
    """The files of preference pairs of several folders, without those that have none.

    Args:
        rows: the folder that `distill` made.
        more: folders that `own-pairs` made.
    """
    files = [folder / PAIRS for folder in (rows, *more)]
    return [file for file in files if not is_empty(file)]


def run(
    *,
    pairs: list[Path],
    base: ModelRef,
    sft: Path | None,
    out: Path,
    settings: DpoSettings,
    update: bool = False,
) -> DpoResults:
    """Train a LoRA adapter on preference pairs; leaves `adapter/` and `curves.jsonl` in `out`.

    Args:
        pairs: the training files, `preference.jsonl`; all their rows are used.
        base: the checkpoint that both adapters are made for.
        sft: the folder of the SFT step; None trains on the base itself (an ablation).
        out: the stage's folder.
        settings: the recipe's.
        update: train again if inputs or settings changed.

    Raises:
        EmpathyEdgeError: the SFT adapter is for another base; rows are wrong, too long, or test dialogues;
            training diverged.
        PrerequisiteError: a package, memory or disk space is missing.
    """
    require_extra("trl", "train", "Fine-tuning")
    if sft is not None:
        require_same_base([sft / "adapter"], base)
    check_memory(base.path, settings, out, update, merges=sft is not None)
    with main_first():
        stage = _open(pairs, base, sft, out, settings, update)
    if stage.done:
        return stage.results(DpoResults)
    with stage.nothing_left_of_a_failure():
        return _train(stage, pairs, base, sft, settings)


def _train(
    stage: Stage, pairs: list[Path], base: ModelRef, sft: Path | None, settings: DpoSettings
) -> DpoResults:
    out = stage.folder
    for file in pairs:
        refuse_leaks(file, [other.parent for other in pairs])
    count_rows(pairs, FIELDS)  # before the model is loaded: a wrong row is found at once
    merged_mb = fp32_weights_mb(base.path) if sft and settings.weights == "nf4" else 0
    require_space(out, space_needed_mb(pairs, merged_mb), "the DPO adapter, its checkpoints, rows and tokens")
    quiet_libraries()
    from empathy_edge.finetune.length_drift import LengthProbe
    from empathy_edge.finetune.rows_on_disk import write_rows
    from empathy_edge.finetune.training import ADAPTER, train
    from empathy_edge.runtimes.torch_loading import SCRATCH, load_base

    merged = [sft / "adapter"] if sft else []
    loaded = load_base(base.path, settings.weights, merged, out / SCRATCH, tokens=settings.tokens_at_once)
    split = write_rows(pairs, FIELDS, loaded.tokenizer, settings, out / SCRATCH)
    trainer = _trainer(loaded, split, out, settings)
    probed = _probe_prompts(chain(split.held_out or (), split.trained), settings.length_probes)
    trained = train(
        trainer,
        stage,
        "DPO",
        settings,
        loaded.precision,
        lambda curves: LengthProbe(probed, loaded.tokenizer, curves),
    )
    keep_template(base.path, merged, out / ADAPTER)
    log, pairs_read = trainer.state.log_history, split.total
    results = _results(trained, log, out, beta=settings.beta, pairs=pairs_read, probes=len(probed))
    show("DPO", results.examples)
    for warning in results.warnings:
        say(f"  [yellow]Warning:[/] {warning}")
    return finish_stage(stage, results)


def _open(
    pairs: list[Path], base: ModelRef, sft: Path | None, out: Path, settings: DpoSettings, update: bool
) -> Stage:
    inputs = {}
    for number, file in enumerate(pairs, 1):
        inputs["pairs" if number == 1 else f"pairs{number}"] = file
    if sft:
        inputs["sft"] = sft
    return open_stage(
        out,
        "dpo",
        settings={**settings.model_dump(mode="json"), **base.record()},
        inputs=inputs,
        files=FILES,
        update=update,
    )


def _trainer(loaded: LoadedBase, split: Split, out: Path, settings: DpoSettings) -> Any:
    from trl import DPOConfig, DPOTrainer

    from empathy_edge.finetune.training import lora_config, on_one_gpu, require_targets, trainer_arguments

    require_targets(loaded.model, settings)
    losses: list[str] = [settings.loss]
    loss_weights = None
    if settings.sft_weight:
        losses = [settings.loss, "sft"]
        loss_weights = [1.0, settings.sft_weight]
    arguments = DPOConfig(
        **trainer_arguments(out, settings, loaded.precision, split),
        beta=settings.beta,
        loss_type=losses,
        loss_weights=loss_weights,
        # A pass over the data, which only pays if later epochs use its result again. TRL keeps it in a
        # file that other processes do not find.
        precompute_ref_log_probs=settings.epochs > 1 and process_count() == 1,
    )
    return DPOTrainer(
        model=loaded.model,
        args=on_one_gpu(arguments),
        train_dataset=split.trained,
        eval_dataset=split.held_out,
        processing_class=loaded.tokenizer,
        peft_config=lora_config(settings),
    )


def _probe_prompts(rows: Iterable[dict[str, Any]], limit: int) -> list[list[Message]]:
    """The first `limit` different prompts, in the order of the rows."""
    prompt_of_text: dict[str, list[Message]] = {}
    for row in rows:
        if len(prompt_of_text) >= limit:
            break
        prompt_of_text.setdefault(row["prompt"][-1]["content"], row["prompt"])
    return list(prompt_of_text.values())


def _results(
    trained: TrainingResults, log: list[dict[str, Any]], out: Path, *, beta: float, pairs: int, probes: int
) -> DpoResults:
    """The results of training, with DPO's own: rewards, the change of length, warnings."""
    from empathy_edge.finetune.curves import CURVES
    from empathy_edge.finetune.length_drift import drift_warnings, length_drift

    accuracies = [row["rewards/accuracies"] for row in log if "rewards/accuracies" in row]
    margins = [row["rewards/margins"] for row in log if "rewards/margins" in row]
    margin = _mean(margins[-LAST_STEPS:])
    drift = length_drift(read_jsonl(out / CURVES), probes)
    return DpoResults(
        pairs=pairs,
        reward_accuracy_last=_mean(accuracies[-LAST_STEPS:]),
        reward_margin_last=margin,
        length_drift=drift,
        warnings=(
            *_pair_warnings(accuracies),
            *no_change_warnings(margin, beta),
            *drift_warnings(drift),
        ),
        **trained.model_dump(exclude_unset=True),
    )


def no_change_warnings(reward_margin: float, beta: float) -> list[str]:
    """Whether the model tells chosen from rejected no better than before training.

    Args:
        reward_margin: beta times the change in the difference of their log-probabilities, nats.
        beta: of the loss.
    """
    change = reward_margin / beta
    if not abs(change) < SMALLEST_CHANGE:
        return []
    return [
        f"chosen and rejected responses are only {change:.3f} nats further apart than before: the pairs "
        "taught next to nothing. Give more pairs, or a recipe with more dpo.epochs or a higher "
        "dpo.learning_rate."
    ]


def _pair_warnings(accuracies: list[float]) -> list[str]:
    """What the reward accuracy of the first steps says about the pairs.

    If the model tells chosen from rejected at once, the pairs teach it a style, not better answers.
    """
    early = accuracies[2:10]
    if len(early) >= 5 and min(early) == 1.0:
        return [
            "the reward accuracy is 1.0 almost from the first step: the pairs are too easy (chosen and "
            "rejected differ in style or length), and DPO may learn just that. Mix in harder pairs, or look "
            "at the lengths in the manifest."
        ]
    return []


def _mean(values: list[float]) -> float:
    return round(sum(values) / max(1, len(values)), 3)
