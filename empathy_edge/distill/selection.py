"""Fitting a teacher to its student: of several good responses to a dialogue, take the one that is within its reach.

A response far from anything that a small student would say teaches it a manner without the sense. `likelihood` selects by
the student's own log-probability per character, `nearness` by the similarity in meaning to what the person said; `random`
gives an even mixture of the same rows, to compare with.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.dialogue import read_jsonl, write_jsonl
from empathy_edge.models.find import ModelRef
from empathy_edge.runs.stage import open_stage
from empathy_edge.runtimes.likelihood import describe
from empathy_edge.runtimes.precision import choose_precision

FILES = {"sft.jsonl": "completion", "preference.jsonl": "chosen"}
"""A training file, and the field in which candidates differ."""


def run(
    *,
    folders: list[Path],
    base: ModelRef,
    adapters: list[Path],
    by: str,
    out: Path,
    seed: int = 0,
    update: bool = False,
) -> dict[str, Any]:
    """Write `sft.jsonl` and `preference.jsonl` with one row per dialogue, chosen among those of `folders`.

    Args:
        folders: what `distill` made, from the same dialogues; their test split must be the same.
        base: the student's checkpoint.
        adapters: what the student has learned already, PEFT folders.
        by: `likelihood`, `nearness` or `random`.
        out: the stage's folder.
        seed: for `random`.
        update: make it again where inputs or settings changed.
    """
    if len({folder.name for folder in folders}) != len(folders):
        raise EmpathyEdgeError(
            "Two folders have the same name; rename one, since each row says where it was taken from."
        )
    if by == "likelihood":
        require_extra("trl", "train", "Asking the student")
    if (
        len({(folder / "test.jsonl").read_bytes() for folder in folders if (folder / "test.jsonl").is_file()})
        != 1
    ):
        raise EmpathyEdgeError(
            "The folders have different test splits, or none: they do not come from the same dialogues."
        )
    stage = open_stage(
        out,
        "distill",
        settings={"select": by, "seed": seed, "base": base.name, "base_sha256": base.sha256},
        inputs={folder.name: folder for folder in folders}
        | {f"adapter{number}": path for number, path in enumerate(adapters)},
        update=update,
    )
    if stage.done:
        return stage.manifest
    figures: dict[str, Any] = {}
    counts = {}
    for file, field in FILES.items():
        candidates = _candidates(folders, file)
        values = _VALUES[by](candidates, field, base, adapters, file)
        chosen = _choose(candidates, values, random.Random(seed))
        write_jsonl(out / file, [candidates[place] for place in chosen])
        counts[file] = len(chosen)
        figures[file] = {
            "candidates": len(candidates),
            "taken_from": dict(Counter(candidates[place]["from"] for place in chosen)),
        }
        if values:
            figures[file] |= {
                f"{by}_of_all": describe(values),
                f"{by}_of_taken": describe([values[place] for place in chosen]),
            }
    shutil.copyfile(folders[0] / "test.jsonl", out / "test.jsonl")
    write_jsonl(out / "control.jsonl", [])
    weights = {"weights": choose_precision("auto", base.path).record()} if by == "likelihood" else {}
    return stage.finish(
        sft_rows=counts["sft.jsonl"],
        preference_pairs=counts["preference.jsonl"],
        selection=figures,
        **weights,
    )


def _candidates(folders: list[Path], file: str) -> list[dict[str, Any]]:
    """Every folder's rows, those of one dialogue together."""
    rows = [{**row, "from": folder.name} for folder in folders for row in read_jsonl(folder / file)]
    return sorted(rows, key=lambda row: row["id"])


def _likelihood(
    rows: list[dict[str, Any]], field: str, base: ModelRef, adapters: list[Path], label: str
) -> list[float]:
    """Log-probability per character."""
    from empathy_edge.runtimes.likelihood import log_probs_per_character

    return log_probs_per_character(
        base, adapters, [row["prompt"] for row in rows], [row[field][0]["content"] for row in rows], label
    )


def _nearness(rows: list[dict[str, Any]], field: str, *_: Any) -> list[float]:
    """Cosine similarity of sentence embeddings to what the person said."""
    from empathy_edge.text.embeddings import embed

    said = embed([row["prompt"][-1]["content"] for row in rows])
    answered = embed([row[field][0]["content"] for row in rows])
    return [float(one @ other) for one, other in zip(said, answered, strict=True)]


def _nothing(*_: Any) -> list[float]:
    return []


_VALUES: dict[str, Callable[..., list[float]]] = {
    "likelihood": _likelihood,
    "nearness": _nearness,
    "random": _nothing,
}


def _choose(rows: list[dict[str, Any]], values: list[float], chance: random.Random) -> list[int]:
    """One place per dialogue: that of the highest value, or a random one."""
    by_dialogue: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        by_dialogue.setdefault(row["id"], []).append(place)
    return [
        max(places, key=lambda place: values[place]) if values else chance.choice(places)
        for places in by_dialogue.values()
    ]
