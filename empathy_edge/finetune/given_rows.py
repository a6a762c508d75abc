"""The rows that a user gives to be trained on, checked before a model is looked for."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.markup import escape

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError, no_such_file
from empathy_edge.system.files import MANIFEST, MARKER
from empathy_edge.text.near_duplicates import refuse_leaks

SFT_ROWS, PAIRS = "sft.jsonl", "preference.jsonl"


Step = Literal["sft", "dpo"]


def steps_to_train(
    rows: Path, more: Sequence[Path], only: Step | None, out: Path | None = None
) -> tuple[Step, ...]:
    """The steps that are to be trained; without preference pairs it is SFT alone.

    Args:
        rows: the folder that `distill` made.
        more: folders that `own-pairs` made.
        only: the step that is trained alone.
        out: where the adapters will be written.

    Raises:
        EmpathyEdgeError: one is a file or not there, `out` is inside one, a step has no rows, or rows of one
            folder are test dialogues of another; says what to do.
    """
    _require_folder(rows, "distill")
    for folder in more:
        _require_folder(folder, "own-pairs")
    if out is not None:
        _refuse_to_write_into([rows, *more], out)
    has_rows = not is_empty(rows / SFT_ROWS)
    has_pairs = any(not is_empty(folder / PAIRS) for folder in (rows, *more))
    if not has_rows and not has_pairs:
        raise EmpathyEdgeError(
            f"{rows}: has neither SFT rows ({SFT_ROWS}) nor preference pairs ({PAIRS}). "
            "Give the folder that `distill` made."
        )
    if only == "dpo" and not has_pairs:
        raise EmpathyEdgeError(
            f"{rows}: has no preference pairs, which DPO needs. Give pairs that `own-pairs` made (--pairs)."
        )
    if only != "dpo" and not has_rows:
        raise EmpathyEdgeError(
            f"{rows}: has no SFT rows. Train DPO alone (--only dpo), or make the rows with "
            "`distill --sft-on-chosen`."
        )
    steps: tuple[Step, ...] = (only,) if only else ("sft", "dpo")
    if not only and not has_pairs:
        say(f"{escape(str(rows))} has no preference pairs: SFT alone is trained.")
        steps = ("sft",)
    if more:  # each step itself looks at the folders of its own rows
        _refuse_test_dialogues([rows, *more], steps)
    return steps


def _refuse_test_dialogues(folders: Sequence[Path], steps: Sequence[Step]) -> None:
    """Refuse rows of one folder that are test dialogues of another one."""
    files = [folders[0] / SFT_ROWS] if "sft" in steps else []
    if "dpo" in steps:
        files += [folder / PAIRS for folder in folders]
    for file in files:
        if not is_empty(file):
            refuse_leaks(file, folders)


def is_empty(file: Path) -> bool:
    """Whether there is no such file, or nothing in it."""
    return not file.is_file() or file.stat().st_size == 0


def _refuse_to_write_into(given: Sequence[Path], out: Path) -> None:
    if any((out / step / name).is_file() for step in ("sft", "dpo") for name in (MANIFEST, MARKER)):
        return  # begun before this was refused
    place = out.expanduser().resolve()
    for folder in given:
        if place.is_relative_to(folder.expanduser().resolve()):
            raise EmpathyEdgeError(
                f"{out}: is the folder of rows {folder}, or inside it. Nothing is written beside the rows "
                "that are trained on; choose another --out, as tuned."
            )


def _require_folder(given: Path, made_by: str) -> None:
    if given.is_dir():
        return
    if given.is_file() and given.name in (SFT_ROWS, PAIRS):
        raise EmpathyEdgeError(f"{given}: is one file of rows; give its folder: {given.parent}")
    if given.is_file() and made_by == "distill":
        distill = shlex.join(["empathy-edge", "distill", "--data", str(given), "--out", "rows"])
        raise EmpathyEdgeError(
            f"{given}: is a file of data; `finetune` takes the folder of rows that `distill` makes of it:\n"
            f"  {distill}\n  empathy-edge finetune rows …"
        )
    if given.is_file():
        raise EmpathyEdgeError(f"{given}: is a file; give a folder that `{made_by}` made.")
    raise no_such_file(given, f"Give a folder that `{made_by}` made.", what="folder")


def sft_step_in(folder: Path) -> Path:
    """The folder of an SFT step: that itself, or a folder that `finetune` made.

    Raises:
        EmpathyEdgeError: there is no adapter of SFT.
    """
    for step in (folder, folder / "sft"):
        if (step / "adapter").is_dir():
            return step
    raise EmpathyEdgeError(
        f"{folder}: has no adapter of SFT; give a folder that `empathy-edge finetune` made, or its `sft`."
    )
