"""Step one: supervised fine-tuning on good responses, loss on the response and its stop token only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from empathy_edge.console import quiet_libraries
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.finetune.memory_needed import check_memory
from empathy_edge.finetune.training import finish
from empathy_edge.formats.chat_format import turn_end
from empathy_edge.formats.training_rows import check_lengths, load_rows
from empathy_edge.models.find import ModelRef
from empathy_edge.runs.recipe import TrainSettings
from empathy_edge.runs.stage import open_stage
from empathy_edge.system.machine import require_space
from empathy_edge.system.processes import main_first
from empathy_edge.text.near_duplicates import refuse_leaks


def run(
    *, rows: Path, base: ModelRef, out: Path, settings: TrainSettings, update: bool = False
) -> dict[str, Any]:
    """Train a LoRA adapter on `sft.jsonl`; leaves `adapter/` and `curves.jsonl` in `out`."""
    require_extra("trl", "train", "Fine-tuning")
    check_memory(base.path, settings, out, update)
    with main_first():
        stage = open_stage(
            out,
            "sft",
            settings={**settings.model_dump(mode="json"), "base": base.name, "base_sha256": base.sha256},
            inputs={"rows": rows},
            update=update,
        )
    if stage.done:
        return stage.manifest
    refuse_leaks(rows)
    examples = load_rows(rows, ("prompt", "completion"))
    require_space(out, 200, "the SFT adapter and its checkpoints")
    quiet_libraries()
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from empathy_edge.finetune.training import lora_config, split_held_out, train, trainer_arguments
    from empathy_edge.runtimes.torch_loading import SCRATCH, load_base

    model, tokenizer, precision = load_base(
        base.path, settings.weights, [], out / SCRATCH, tokens=settings.tokens_at_once
    )
    check_lengths(rows, examples, tokenizer, settings.max_length)
    trained, held_out = split_held_out(examples, settings)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            **trainer_arguments(out, settings, precision), completion_only_loss=True, packing=False
        ),
        train_dataset=Dataset.from_list(trained),
        eval_dataset=Dataset.from_list(held_out) if held_out else None,
        processing_class=tokenizer,
        peft_config=lora_config(settings),
    )
    _check_loss_mask(trainer, tokenizer, trained)
    figures = train(trainer, stage, "SFT", settings)
    return finish(stage, rows=len(examples), weights=precision.record(), **figures)


def _check_loss_mask(trainer: Any, tokenizer: Any, examples: list[dict[str, Any]]) -> None:
    """What TRL trains on must be the response and its stop token, and nothing else."""
    stop = turn_end(tokenizer.chat_template)
    features = [trainer.train_dataset[index] for index in range(min(8, len(trainer.train_dataset)))]
    batch = trainer.data_collator(features)
    for index, labels in enumerate(batch["labels"]):
        trained = tokenizer.decode(labels[labels != -100]).strip()
        wanted = examples[index]["completion"][0]["content"].strip() + stop
        if trained != wanted:
            raise EmpathyEdgeError(
                f"The loss would be taken on {trained[:50]!r}, not on the response and its stop token {wanted[:50]!r}"
            )
