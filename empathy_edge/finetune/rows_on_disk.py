"""Training rows in Arrow files that are mapped into memory: a training file may be larger than the memory.

What TRL makes of the rows, their tokens, it writes beside these files.
"""

from __future__ import annotations

import random
import shutil
from array import array
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset
from datasets.arrow_writer import ArrowWriter

from empathy_edge.console import say
from empathy_edge.formats.chat_format import fit_to_template, template_of, turn_end_id
from empathy_edge.formats.training_rows import TrainingRow, check_length, iterate_rows
from empathy_edge.runs.settings import TrainSettings
from empathy_edge.system.processes import is_main, main_first, wait_for_everyone

TRAINED, HELD_OUT = "trained.arrow", "held-out.arrow"


class Split(NamedTuple):
    """Rows to train on, and held-out rows to measure on (None: there are none), in their files' order."""

    trained: Dataset
    held_out: Dataset | None

    @property
    def total(self) -> int:
        """Of both together."""
        return len(self.trained) + (len(self.held_out) if self.held_out else 0)


def write_rows(
    files: Sequence[Path], fields: tuple[str, ...], tokenizer: Any, settings: TrainSettings, folder: Path
) -> Split:
    """Check the rows of training files, draw the held-out ones with the step's seed, and write both parts.

    Args:
        files: the training files.
        fields: the fields with messages.
        tokenizer: the base's; prompts lose the system turn where its template takes none.
        settings: the step's.
        folder: where the files are written, by the main process alone.

    Raises:
        EmpathyEdgeError: a row has more tokens than `max_length`, or does not end with the stop token; or the
            template refuses it, or writes it in another way than a prompt alone.
    """
    drawn = _held_out_rows(files, fields, settings) if settings.held_out else set()
    wait_for_everyone()  # until the base is loaded everywhere: `nf4` uses the folder, too, and deletes it
    with main_first():
        if is_main():
            shutil.rmtree(folder, ignore_errors=True)  # rows and tokens of a process that was cut off
            _write(files, fields, tokenizer, settings, folder, drawn)
    held_out = Dataset.from_file(str(folder / HELD_OUT)) if drawn else None
    return Split(Dataset.from_file(str(folder / TRAINED)), held_out)


def _held_out_rows(files: Sequence[Path], fields: tuple[str, ...], settings: TrainSettings) -> set[int]:
    """The places of the held-out rows: prompts are drawn, at least one of several, with all of their rows.

    A prompt in both parts would make the held-out loss fall with what is learned by heart.
    """
    prompts: dict[int, int] = {}
    prompt_of_row = array("L")
    for file in files:
        for row in iterate_rows(file, fields):
            said = hash(tuple((item["role"], item["content"]) for item in row["prompt"]))
            prompt_of_row.append(prompts.setdefault(said, len(prompts)))
    if len(prompts) < 2:
        say("  All rows have one prompt: none is held out, and nothing is measured after the epochs.")
        return set()
    count = max(1, round(settings.held_out * len(prompts)))
    drawn = set(random.Random(settings.seed).sample(range(len(prompts)), count))
    return {place for place, prompt in enumerate(prompt_of_row) if prompt in drawn}


def _write(
    files: Sequence[Path],
    fields: tuple[str, ...],
    tokenizer: Any,
    settings: TrainSettings,
    folder: Path,
    drawn: set[int],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    template, stop = template_of(tokenizer), turn_end_id(tokenizer)
    place = 0
    trained, held_out = (_writer(folder / name) for name in (TRAINED, HELD_OUT))
    with closing(trained), closing(held_out):
        for file in files:
            for number, row in enumerate(iterate_rows(file, fields), 1):
                fitted = _plain(row | {"prompt": fit_to_template(template, row["prompt"])})
                check_length(f"{file}: row {number}", fitted, tokenizer, settings.max_length, stop)
                (held_out if place in drawn else trained).write(fitted)
                place += 1
        trained.finalize()
        if drawn:
            held_out.finalize()


def _writer(file: Path) -> Any:
    return ArrowWriter(path=str(file), writer_batch_size=1000)


def _plain(row: TrainingRow) -> TrainingRow:
    """The row with role and content of each message alone: every row needs the same fields."""
    return {
        field: [{"role": item["role"], "content": item["content"]} for item in messages]
        for field, messages in row.items()
    }
