"""Of several good responses to a dialogue, take the one that the student can learn best.

A response far from anything that a small student would say teaches it a style without the sense. `likelihood`
selects by the student's own log-probability per character, `nearness` by the similarity in meaning to the
utterance. `random` makes an even mixture of the same rows, to compare with.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from empathy_edge.distill.distill_results import DISTILL_FILES
from empathy_edge.errors import EmpathyEdgeError, no_such_file, require_extra
from empathy_edge.formats.json_lines import read_jsonl, write_jsonl
from empathy_edge.models.find import ModelRef
from empathy_edge.runs.stage import Results, Stage, open_stage
from empathy_edge.runtimes.likelihood import describe, log_probs_per_character
from empathy_edge.runtimes.precision import choose_precision
from empathy_edge.text.embeddings import embed

FILES = {"sft.jsonl": "completion", "preference.jsonl": "chosen"}
"""A training file, and the field in which candidates differ."""

Selector = Literal["likelihood", "nearness", "random"]


class Distribution(BaseModel):
    """Mean and quartiles of the values that a selection went by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    quartiles: list[float]


class FileSelection(BaseModel):
    """What was taken for one training file.

    Attributes:
        candidates: the rows of all folders.
        taken_from: how many rows came from each folder.
        likelihood_of_all: of the candidates, nats per character; `_of_taken` of the rows that were taken.
        nearness_of_all: likewise, cosine similarities.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: int
    taken_from: dict[str, int]
    likelihood_of_all: Distribution | None = None
    likelihood_of_taken: Distribution | None = None
    nearness_of_all: Distribution | None = None
    nearness_of_taken: Distribution | None = None


class SelectionResults(Results):
    """What the stage made.

    Attributes:
        sft_rows: rows in `sft.jsonl`.
        preference_pairs: rows in `preference.jsonl`.
        selection: by file.
        weights: what the student's weights were held in, and why (`likelihood` only).
    """

    sft_rows: int
    preference_pairs: int
    selection: dict[str, FileSelection]
    weights: dict[str, str] | None = None


def run(
    *,
    folders: list[Path],
    base: ModelRef,
    adapters: list[Path],
    by: Selector,
    out: Path,
    seed: int = 0,
    update: bool = False,
) -> SelectionResults:
    """Write `sft.jsonl` and `preference.jsonl` with one row per dialogue, chosen among those of `folders`.

    Args:
        folders: what `distill` made, from the same dialogues; their test split must be the same.
        base: the student's checkpoint.
        adapters: what the student has learned already, PEFT folders.
        by: what rows are selected by.
        out: the stage's folder.
        seed: for `random`.
        update: make the stage again where inputs or settings changed.

    Raises:
        EmpathyEdgeError: the folders do not belong together.
    """
    _check_folders(folders)
    if by == "likelihood":
        require_extra("trl", "train", "Asking the student")
    stage = _open(folders, base, adapters, by, out, seed, update)
    if stage.done:
        return stage.results(SelectionResults)
    selection: dict[str, FileSelection] = {}
    counts: dict[str, int] = {}
    for file, field in FILES.items():
        candidates = _candidates(folders, file)
        values = _values(by, candidates, field, base, adapters, file)
        places = _choose(candidates, values, random.Random(seed))
        write_jsonl(out / file, [candidates[place] for place in places])
        counts[file] = len(places)
        selection[file] = _describe(by, candidates, values, places)
    shutil.copyfile(folders[0] / "test.jsonl", out / "test.jsonl")
    write_jsonl(out / "control.jsonl", [])
    results = SelectionResults(
        sft_rows=counts["sft.jsonl"], preference_pairs=counts["preference.jsonl"], selection=selection
    )
    if by == "likelihood":
        weights = choose_precision("auto", base.path).record()
        results = results.model_copy(update={"weights": weights})
    stage.finish(results)
    return results


def _check_folders(folders: list[Path]) -> None:
    if len({folder.name for folder in folders}) != len(folders):
        raise EmpathyEdgeError(
            "Two folders have the same name; rename one, since each row says where it was taken from."
        )
    for folder in folders:
        if not folder.is_dir():
            raise no_such_file(folder, what="folder")
    test_files = [folder / "test.jsonl" for folder in folders]
    if len({file.read_bytes() for file in test_files if file.is_file()}) != 1:
        raise EmpathyEdgeError(
            "The folders have different test splits, or none: they do not come from the same dialogues."
        )


def _open(
    folders: list[Path],
    base: ModelRef,
    adapters: list[Path],
    by: Selector,
    out: Path,
    seed: int,
    update: bool,
) -> Stage:
    inputs = {folder.name: folder for folder in folders}
    inputs |= {f"adapter{number}": path for number, path in enumerate(adapters)}
    recorded = {"select": by, "seed": seed, **base.record()}
    return open_stage(out, "distill", settings=recorded, inputs=inputs, files=DISTILL_FILES, update=update)


def _candidates(folders: list[Path], file: str) -> list[dict[str, Any]]:
    """The rows of every folder, those of one dialogue together."""
    rows: list[dict[str, Any]] = []
    for folder in folders:
        rows += [{**row, "from": folder.name} for row in read_jsonl(folder / file)]
    return sorted(rows, key=lambda row: row["id"])


def _values(
    by: Selector,
    rows: list[dict[str, Any]],
    field: str,
    base: ModelRef,
    adapters: list[Path],
    label: str,
) -> list[float]:
    """What rows are selected by, higher is better; empty for `random`."""
    if by == "random":
        return []
    responses = [row[field][0]["content"] for row in rows]
    if by == "likelihood":
        prompts = [row["prompt"] for row in rows]
        return log_probs_per_character(base, adapters, prompts, responses, label)
    of_utterances = embed([row["prompt"][-1]["content"] for row in rows])
    of_responses = embed(responses)
    return [float(one @ other) for one, other in zip(of_utterances, of_responses, strict=True)]


def _choose(rows: list[dict[str, Any]], values: list[float], generator: random.Random) -> list[int]:
    """One place per dialogue: that of the highest value, or a random one where there are no values."""
    by_dialogue: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        by_dialogue.setdefault(row["id"], []).append(place)
    if not values:
        return [generator.choice(places) for places in by_dialogue.values()]
    return [max(places, key=values.__getitem__) for places in by_dialogue.values()]


def _describe(
    by: Selector, candidates: list[dict[str, Any]], values: list[float], places: list[int]
) -> FileSelection:
    figures: dict[str, Any] = {
        "candidates": len(candidates),
        "taken_from": dict(Counter(candidates[place]["from"] for place in places)),
    }
    if values:
        figures[f"{by}_of_all"] = describe(values)
        figures[f"{by}_of_taken"] = describe([values[place] for place in places])
    return FileSelection.model_validate(figures)
