"""Step two: DPO with a fresh LoRA on the SFT model, its adapter merged into the full-precision base first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from empathy_edge.console import quiet_libraries
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.finetune.rows import check_lengths, load_rows
from empathy_edge.leakage import refuse_leaks
from empathy_edge.models import ModelRef
from empathy_edge.recipe import DpoSettings
from empathy_edge.run import open_stage, read_json, require_space


def run(
    *, pairs: Path, base: ModelRef, sft: Path | None, out: Path, settings: DpoSettings, update: bool = False
) -> dict[str, Any]:
    """Train a LoRA adapter on `preference.jsonl` over base + SFT; leaves `adapter/` and `curves.jsonl` in `out`.

    Args:
        pairs: the training file.
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
        trained_on = read_json(sft / "manifest.json")["settings"]["base_sha256"]
        if trained_on != base.sha256:
            raise EmpathyEdgeError(
                f"{sft}: its adapter was trained on another base than {base.name} "
                f"({trained_on[:12]}, not {base.sha256[:12]})."
            )
    stage = open_stage(
        out,
        "dpo",
        settings={**settings.model_dump(mode="json"), "base": base.name, "base_sha256": base.sha256},
        inputs={"pairs": pairs, **({"sft": sft} if sft else {})},
        update=update,
    )
    if stage.done:
        return stage.manifest
    refuse_leaks(pairs)
    examples = load_rows(pairs, ("prompt", "chosen", "rejected"))
    require_space(out, 200, "the DPO adapter and its checkpoints")
    quiet_libraries()
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from empathy_edge.finetune.training import SCRATCH, load_base, lora_config, train, trainer_arguments

    before = [sft / "adapter"] if sft else []
    model, tokenizer = load_base(base.path, settings.weights, before, out / SCRATCH)
    check_lengths(pairs, examples, tokenizer, settings.max_length)
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(**trainer_arguments(stage, settings), beta=settings.beta, loss_type=["sigmoid"]),
        train_dataset=Dataset.from_list(examples),
        processing_class=tokenizer,
        peft_config=lora_config(settings),
    )
    figures = train(trainer, stage, "DPO")
    last = [row for row in trainer.state.log_history if "rewards/accuracies" in row][-10:]
    return stage.finish(
        pairs=len(examples),
        **figures,
        reward_accuracy_last=round(sum(row["rewards/accuracies"] for row in last) / max(1, len(last)), 3),
        reward_margin_last=round(sum(row["rewards/margins"] for row in last) / max(1, len(last)), 3),
    )
