"""The first step: supervised fine-tuning, with the loss on the response and its stop token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from empathy_edge.console import quiet_libraries
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.finetune.before_and_after import show
from empathy_edge.finetune.memory_needed import check_memory, space_needed_mb
from empathy_edge.finetune.training_results import FILES, SftResults, finish_stage
from empathy_edge.formats.chat_format import template_of, turn_end
from empathy_edge.formats.training_rows import count_rows, is_response
from empathy_edge.models.find import ModelRef
from empathy_edge.models.templated_folder import keep_template
from empathy_edge.runs.settings import TrainSettings
from empathy_edge.runs.stage import Stage, open_stage
from empathy_edge.system.machine import require_space
from empathy_edge.system.processes import main_first
from empathy_edge.text.near_duplicates import refuse_leaks

if TYPE_CHECKING:
    from datasets import Dataset

    from empathy_edge.finetune.rows_on_disk import Split
    from empathy_edge.runtimes.torch_loading import LoadedBase


FIELDS = ("prompt", "completion")


def run(
    *, rows: Path, base: ModelRef, out: Path, settings: TrainSettings, update: bool = False
) -> SftResults:
    """Train a LoRA adapter; leaves `adapter/` and `curves.jsonl` in `out`.

    Args:
        rows: the training file, `sft.jsonl`.
        base: the checkpoint that the adapter is made for.
        out: the stage's folder.
        settings: the recipe's.
        update: train again if inputs or settings changed.

    Raises:
        EmpathyEdgeError: rows are wrong, too long, or test dialogues; training diverged.
        PrerequisiteError: a package, memory or disk space is missing.
    """
    require_extra("trl", "train", "Fine-tuning")
    check_memory(base.path, settings, out, update)
    with main_first():
        stage = open_stage(
            out,
            "sft",
            settings={**settings.model_dump(mode="json"), **base.record()},
            inputs={"rows": rows},
            files=FILES,
            update=update,
        )
    if stage.done:
        return stage.results(SftResults)
    with stage.nothing_left_of_a_failure():
        return _train(stage, rows, base, settings)


def _train(stage: Stage, rows: Path, base: ModelRef, settings: TrainSettings) -> SftResults:
    out = stage.folder
    refuse_leaks(rows)
    count_rows([rows], FIELDS)  # before the model is loaded: a wrong row is found at once
    require_space(out, space_needed_mb([rows]), "the SFT adapter, its checkpoints, rows and tokens")
    quiet_libraries()
    from empathy_edge.finetune.rows_on_disk import write_rows
    from empathy_edge.finetune.training import ADAPTER, train
    from empathy_edge.runtimes.torch_loading import SCRATCH, load_base

    loaded = load_base(base.path, settings.weights, [], out / SCRATCH, tokens=settings.tokens_at_once)
    split = write_rows([rows], FIELDS, loaded.tokenizer, settings, out / SCRATCH)
    trainer = trainer_of(loaded, split, out, settings)
    _check_loss_mask(trainer, loaded.tokenizer, split.trained)
    trained = train(trainer, stage, "SFT", settings, loaded.precision)
    keep_template(base.path, [], out / ADAPTER)
    show("SFT", trained.examples, split.total)
    return finish_stage(stage, SftResults(rows=split.total, **trained.model_dump(exclude_unset=True)))


def trainer_of(loaded: LoadedBase, split: Split, out: Path, settings: TrainSettings) -> Any:
    """TRL's trainer; making it tokenizes the rows."""
    from trl import SFTConfig, SFTTrainer

    from empathy_edge.finetune.training import lora_config, on_one_gpu, require_targets, trainer_arguments

    require_targets(loaded.model, settings)
    arguments = trainer_arguments(out, settings, loaded.precision, split)
    return SFTTrainer(
        model=loaded.model,
        args=on_one_gpu(SFTConfig(**arguments, completion_only_loss=True, packing=False)),
        train_dataset=split.trained,
        eval_dataset=split.held_out,
        processing_class=loaded.tokenizer,
        peft_config=lora_config(settings),
    )


def _check_loss_mask(trainer: Any, tokenizer: Any, examples: Dataset) -> None:
    """Check that TRL's loss covers the response and its stop token, and nothing else.

    Whether the template allows that was checked for every row; the first ones show what TRL does.

    Raises:
        EmpathyEdgeError: it covers something else.
    """
    eos = tokenizer.eos_token or ""
    stop = turn_end(template_of(tokenizer), eos)
    features = [trainer.train_dataset[index] for index in range(min(8, len(trainer.train_dataset)))]
    batch = trainer.data_collator(features)
    for index, labels in enumerate(batch["labels"]):
        trained = tokenizer.decode(labels[labels != -100])
        wanted = examples[index]["completion"][0]["content"]
        if not is_response(trained, wanted, stop, eos):
            raise EmpathyEdgeError(
                f"The loss would be taken on {trained.strip()[:50]!r}, "
                f"not on the response and its stop token {wanted.strip()[:50] + stop!r}"
            )
