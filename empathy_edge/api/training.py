"""`finetune`: SFT, then DPO, with LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from empathy_edge.api.calls import AnyPath, Device, called, model_of, path_of
from empathy_edge.api.shown import Shown, Table

if TYPE_CHECKING:
    from empathy_edge.finetune.training_results import DpoResults, SftResults, TrainingResults
    from empathy_edge.runs.settings import DpoSettings, TrainSettings


@dataclass(frozen=True, repr=False)
class FinetuneResult(Shown):
    """The adapters that `finetune` trained.

    Attributes:
        folder: with a folder for each step, which holds `adapter/` and `curves.jsonl`.
        base: the model that the adapters are for, as it was named.
        adapters: PEFT folders in the order of training, as `export` takes them.
        sft: steps, seconds and losses of SFT; None where it was left out.
        dpo: the same of DPO, with rewards and the change of length; None where it was left out.
    """

    folder: Path
    base: str
    adapters: tuple[Path, ...]
    sft: SftResults | None
    dpo: DpoResults | None

    def _table(self) -> Table:
        rows = []
        if self.sft is not None:
            rows.append(["SFT", str(self.sft.rows), *_figures(self.sft), "–"])
        if self.dpo is not None:
            accuracy = f"{self.dpo.reward_accuracy_last:.2f}"
            rows.append(["DPO", str(self.dpo.pairs), *_figures(self.dpo), accuracy])
        columns = ("step", "rows", "steps", "seconds", "loss, first tenth", "last tenth", "reward accuracy")
        notes = self.dpo.warnings if self.dpo else ()
        return Table(f"Adapters for {self.base} in {self.folder}", columns, rows, notes)


def _figures(found: TrainingResults) -> list[str]:
    seconds = f"{found.train_seconds:.0f}"
    return [str(found.steps), seconds, f"{found.loss_first:.3f}", f"{found.loss_last:.3f}"]


def finetune(  # noqa: PLR0913 - as the command
    rows: AnyPath,
    out: AnyPath,
    *,
    base: AnyPath | None = None,
    recipe: AnyPath = "quickstart",
    sft: TrainSettings | None = None,
    dpo: DpoSettings | None = None,
    only: Literal["sft", "dpo"] | None = None,
    sft_folder: AnyPath | None = None,
    more_pairs: Sequence[AnyPath] = (),
    template: str | None = None,
    device: Device | None = None,
    update: bool = False,
) -> FinetuneResult:
    """Train two LoRA adapters: SFT on the rows, then DPO on the pairs, or SFT alone where there are none.

    A step that is done with the same rows and settings is not trained again; one that was cut off goes on at
    its last checkpoint.

    Args:
        rows: what `distill` returned, or the folder that it made.
        out: the folder to write into; new, empty, or from an earlier `finetune`.
        base: the model to train: a shipped name, a hub id, a checkpoint's folder or a .gguf file; by default
            the recipe's.
        recipe: where settings come from that are not given: a shipped recipe's name or a YAML file.
        sft: all settings of SFT, instead of the recipe's.
        dpo: all settings of DPO, instead of the recipe's.
        only: one step alone.
        sft_folder: with only="dpo": what to start from, a folder that `finetune` made or its `sft`; without
            it DPO starts from the base.
        more_pairs: more folders with a `preference.jsonl`, as `own-pairs` makes them.
        template: another chat template than the base's: a name or a Jinja file.
        device: where torch computes; by default what it finds.
        update: train again what was trained with other rows or settings.

    Raises:
        EmpathyEdgeError: rows are wrong, too long, or test dialogues; the base has no chat template, or it
            refuses a row; training diverged.
        PrerequisiteError: a package, memory or disk space is missing.
    """
    from empathy_edge.errors import EmpathyEdgeError
    from empathy_edge.finetune import dpo as dpo_step
    from empathy_edge.finetune import sft as sft_step
    from empathy_edge.finetune.given_rows import sft_step_in, steps_to_train
    from empathy_edge.models.templates import checkpoint_with_template
    from empathy_edge.runs.recipe import load_recipe

    if sft_folder is not None and only != "dpo":
        raise EmpathyEdgeError("finetune: `sft_folder` belongs to only='dpo'.")
    folder, data = path_of(out), path_of(rows)
    start = None if sft_folder is None else sft_step_in(path_of(sft_folder))
    trained: SftResults | None = None
    tuned: DpoResults | None = None
    others = [path_of(more) for more in more_pairs]
    with called(device):
        steps = steps_to_train(data, others, only, folder)
        settings = load_recipe(str(path_of(recipe)))
        name = settings.base if base is None else model_of(base)
        adapters = [] if start is None else [start / "adapter"]
        model = checkpoint_with_template(name, template or settings.template, adapters)
        pairs = dpo_step.pairs_of(data, others) if "dpo" in steps else []
        if "sft" in steps:
            start = folder / "sft"
            trained = sft_step.run(
                rows=data / "sft.jsonl", base=model, out=start, settings=sft or settings.sft, update=update
            )
            adapters.append(start / "adapter")
        if "dpo" in steps:
            tuned = dpo_step.run(
                pairs=pairs,
                base=model,
                sft=start,
                out=folder / "dpo",
                settings=dpo or settings.dpo,
                update=update,
            )
            adapters.append(folder / "dpo" / "adapter")
    return FinetuneResult(folder, name, tuple(adapters), trained, tuned)
