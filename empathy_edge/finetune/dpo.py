"""Step two: DPO with a fresh LoRA on the SFT model, its adapter merged into the full-precision base first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from empathy_edge.console import quiet_libraries, say
from empathy_edge.errors import require_extra
from empathy_edge.finetune.memory_needed import check_memory
from empathy_edge.finetune.training import finish
from empathy_edge.formats.dialogue import read_jsonl
from empathy_edge.formats.training_rows import check_lengths, load_rows
from empathy_edge.models.find import ModelRef
from empathy_edge.models.lora import require_same_base
from empathy_edge.runs.recipe import DpoSettings
from empathy_edge.runs.stage import open_stage
from empathy_edge.system.machine import require_space
from empathy_edge.system.processes import main_first, process_count
from empathy_edge.text.near_duplicates import refuse_leaks


def run(
    *,
    pairs: list[Path],
    base: ModelRef,
    sft: Path | None,
    out: Path,
    settings: DpoSettings,
    update: bool = False,
) -> dict[str, Any]:
    """Train a LoRA adapter on `preference.jsonl` over base + SFT; leaves `adapter/` and `curves.jsonl` in `out`.

    Args:
        pairs: the training files; their rows are put together.
        base: the checkpoint that both adapters are made for.
        sft: the folder of the step before; None trains on the base itself (an ablation).
        out: the stage's folder.
        settings: the recipe's.
        update: make it again where inputs or settings changed.

    Raises:
        EmpathyEdgeError: the SFT adapter was trained on another base.
    """
    require_extra("trl", "train", "Fine-tuning")
    if sft is not None:
        require_same_base([sft / "adapter"], base)
    check_memory(base.path, settings, out, update)
    with main_first():
        stage = open_stage(
            out,
            "dpo",
            settings={**settings.model_dump(mode="json"), "base": base.name, "base_sha256": base.sha256},
            inputs={**_roles(pairs), **({"sft": sft} if sft else {})},
            update=update,
        )
    if stage.done:
        return stage.manifest
    examples = []
    by_file = {}
    for file in pairs:
        refuse_leaks(file)
        by_file[file] = load_rows(file, ("prompt", "chosen", "rejected"))
        examples += by_file[file]
    require_space(out, 200, "the DPO adapter and its checkpoints")
    quiet_libraries()
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from empathy_edge.finetune.length_drift import LengthProbe, drift, drift_warnings
    from empathy_edge.finetune.training import CURVES, lora_config, split_held_out, train, trainer_arguments
    from empathy_edge.runtimes.torch_loading import SCRATCH, load_base

    before = [sft / "adapter"] if sft else []
    model, tokenizer, precision = load_base(
        base.path, settings.weights, before, out / SCRATCH, tokens=settings.tokens_at_once
    )
    for file, rows in by_file.items():
        check_lengths(file, rows, tokenizer, settings.max_length)
    trained, held_out = split_held_out(examples, settings)
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(
            **trainer_arguments(out, settings, precision),
            beta=settings.beta,
            loss_type=[settings.loss, *(["sft"] if settings.sft_weight else [])],
            loss_weights=[1.0, settings.sft_weight] if settings.sft_weight else None,
            # Worth a pass of its own only where it is asked for again in later epochs; TRL keeps it in a file that
            # other processes do not find.
            precompute_ref_log_probs=settings.epochs > 1 and process_count() == 1,
        ),
        train_dataset=Dataset.from_list(trained),
        eval_dataset=Dataset.from_list(held_out) if held_out else None,
        processing_class=tokenizer,
        peft_config=lora_config(settings),
    )
    probed = _probe_prompts(held_out or trained, settings.length_probes)
    figures = train(trainer, stage, "DPO", settings, lambda curves: LengthProbe(probed, tokenizer, curves))
    accuracies, margins = (
        [row[f"rewards/{name}"] for row in trainer.state.log_history if f"rewards/{name}" in row]
        for name in ("accuracies", "margins")
    )
    lengths = drift(read_jsonl(out / CURVES), len(probed))
    warnings = _warnings(accuracies) + drift_warnings(lengths)
    for warning in warnings:
        say(f"  [yellow]Warning:[/] {warning}")
    return finish(
        stage,
        pairs=len(examples),
        weights=precision.record(),
        **figures,
        reward_accuracy_last=_mean(accuracies[-10:]),
        reward_margin_last=_mean(margins[-10:]),
        length_drift=lengths,
        warnings=warnings,
    )


def _roles(pairs: list[Path]) -> dict[str, Path]:
    return {"pairs" if number == 0 else f"pairs{number + 1}": file for number, file in enumerate(pairs)}


def _probe_prompts(examples: list[dict[str, Any]], most: int) -> list[list[dict[str, str]]]:
    """Different prompts, in the rows' order."""
    different = {row["prompt"][-1]["content"]: row["prompt"] for row in examples}
    return list(different.values())[:most]


def _warnings(accuracies: list[float]) -> list[str]:
    """What the curve says about the pairs; one whose pairs are told apart at once teaches style, not judgement."""
    early = accuracies[2:10]
    if len(early) >= 5 and min(early) == 1.0:
        return [
            "the reward accuracy is 1.0 almost from the first step: the pairs are too easy (chosen and rejected differ in "
            "style or length), and DPO may learn just that. Mix in harder pairs, or look at the lengths in the manifest."
        ]
    return []


def _mean(values: list[float]) -> float:
    return round(sum(values) / max(1, len(values)), 3)
