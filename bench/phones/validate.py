"""How wrong predictions are: models, and phones, are left out of a table of measurements and predicted."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_edge.bench.phones.model import Phase, Rates, calibrate, fit
from empathy_edge.bench.phones.workload import Workload, workloads_of_table
from empathy_edge.errors import EmpathyEdgeError

SITUATIONS = {
    "profile": "a phone with a profile, a model that nobody measured",
    "own run": "a phone without a profile, one run of the same model in another quantization",
    "one run": "a phone without a profile, one run of another model; the model was measured nowhere",
}
COVERAGE = 0.9
"""What the intervals claim to cover."""
_LEVEL = 0.93
"""The quantile of the errors that they take: a new model lies farther from the known ones than those from each other."""

_COLUMNS = {"decode": "tg64_tps", "prefill": "pp256_tps"}


@dataclass(frozen=True)
class Cell:
    """One measurement: a phone, a model, a quantization, tokens/s, and the workload it was."""

    phone: str
    model: str
    quant: str
    tps: dict[str, float]
    workload: Workload


@dataclass(frozen=True)
class Guess:
    """A prediction beside what was measured."""

    cell: Cell
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Relative, of tokens/s."""
        return self.predicted / self.measured - 1


def read_cells(path: Path) -> tuple[list[Cell], int]:
    """Measurements as PocketPal AI's baselines have them; and how many rows tell too little or are of a refused type.

    Raises:
        EmpathyEdgeError: a column is missing, or a number is none.
    """
    needed = ["device_file", "model", "quant", *_COLUMNS.values(), "weights_total_MiB", "cpu_repack_MiB"]
    with open(path, encoding="utf-8", newline="") as handle:
        table = csv.DictReader(handle)
        missing = [name for name in needed if name not in (table.fieldnames or [])]
        if missing:
            raise EmpathyEdgeError(
                f"{path}: has no column {', '.join(missing)}; see docs/phones.md for the layout."
            )
        rows: list[dict[str, Any]] = []
        for line, row in enumerate(table, 2):
            try:
                numbers = {name: float(row[name]) for name in needed[3:]}
                streamed = float(row.get("stream_GB_est") or 0)
            except ValueError as error:
                raise EmpathyEdgeError(f"{path}, line {line}: {error}.") from None
            rows.append({**row, **numbers, "quant": row["quant"].lower(), "stream_GB_est": streamed})
    cells = [
        Cell(
            row["device_file"], row["model"], row["quant"], {p: row[c] for p, c in _COLUMNS.items()}, workload
        )
        for row, workload in zip(rows, workloads_of_table(rows), strict=True)
        if workload is not None and min(row[column] for column in _COLUMNS.values()) > 0
    ]
    return cells, len(rows) - len(cells)


def leave_out(
    cells: list[Cell], situation: str, phase: Phase, new: set[str] | None = None
) -> tuple[list[Guess], int]:
    """Predict each cell from a fit that has not seen its model; and how many were refused.

    Args:
        cells: the measurements.
        situation: one of `SITUATIONS`.
        phase: decode or prefill.
        new: predict only these models, all from the others.
    """
    guesses, refused = [], 0
    for held_out, known in _folds(cells, situation, new):
        for rates, targets in _predictors(held_out, known, cells, situation, phase, new):
            for cell in targets:
                if rates.unseen(cell.workload, phase):
                    refused += 1
                    continue
                guesses.append(Guess(cell, 1 / rates.seconds(cell.workload, phase), cell.tps[phase]))
    return guesses, refused


def _folds(
    cells: list[Cell], situation: str, new: set[str] | None
) -> Iterator[tuple[list[Cell], list[Cell]]]:
    """What is predicted, and what the fit may see."""
    models = sorted({cell.model for cell in cells if new is None or cell.model in new})
    for model in models:
        unseen = new or {model}
        if situation == "profile":
            yield [c for c in cells if c.model == model], [c for c in cells if c.model not in unseen]
            continue
        for phone in sorted({cell.phone for cell in cells}):
            held_out = [c for c in cells if c.model == model and c.phone == phone]
            known = [c for c in cells if c.model not in unseen and c.phone != phone]
            if held_out and known:
                yield held_out, known


def _predictors(
    held_out: list[Cell],
    known: list[Cell],
    cells: list[Cell],
    situation: str,
    phase: Phase,
    new: set[str] | None,
) -> Iterator[tuple[Rates, list[Cell]]]:
    rates, common = fit(
        [c.phone for c in known], [c.workload for c in known], [1 / c.tps[phase] for c in known], phase
    )
    if situation == "profile":
        for phone in sorted({cell.phone for cell in held_out} & set(rates)):
            yield rates[phone], [cell for cell in held_out if cell.phone == phone]
        return
    phone, unseen = held_out[0].phone, new or {held_out[0].model}
    own = situation == "own run"
    runs = held_out if own else [c for c in cells if c.phone == phone and c.model not in unseen]
    for run in runs:
        if not common.unseen(run.workload, phase):
            scaled = calibrate(common, [(run.workload, 1 / run.tps[phase])], phase)
            yield scaled, [cell for cell in held_out if cell is not run]


def interval(errors: list[float]) -> float:
    """Half the width of a symmetric interval on the logarithm that a new error stays in with the chance `COVERAGE`
    (split conformal prediction's quantile: Vovk et al. 2005; at `_LEVEL`)."""
    ordered = sorted(abs(error) for error in errors)
    return ordered[min(len(ordered) - 1, math.ceil((len(ordered) + 1) * _LEVEL) - 1)]


def summarize(guesses: list[Guess], refused: int) -> dict[str, Any]:
    """Errors and how often intervals, made from the other models' errors only, hold the measured value."""
    errors = [abs(guess.error) for guess in guesses]
    held = []
    for guess in guesses:
        others = [_log_error(g) for g in guesses if g.cell.model != guess.cell.model]
        if others:
            held.append(abs(_log_error(guess)) <= interval(others))
    by_model: dict[str, list[float]] = {}
    for guess in guesses:
        by_model.setdefault(guess.cell.model, []).append(guess.error)
    ordered = sorted(errors)
    return {
        "n": len(guesses),
        "refused": refused,
        "mean_absolute_error": sum(errors) / len(errors),
        "median_absolute_error": ordered[len(ordered) // 2],
        "p90_absolute_error": ordered[min(len(ordered) - 1, math.ceil(0.9 * len(ordered)) - 1)],
        "claimed": COVERAGE,
        "covered": sum(held) / len(held) if held else None,
        "interval": interval([_log_error(guess) for guess in guesses]),
        "mean_error_by_model": {
            model: sum(values) / len(values) for model, values in sorted(by_model.items())
        },
    }


def validate(cells: list[Cell], new: set[str] | None = None) -> dict[str, dict[str, Any]]:
    """`summarize` for decode and prefill in each situation."""
    found: dict[str, dict[str, Any]] = {}
    for phase in ("decode", "prefill"):
        for situation in SITUATIONS:
            guesses, refused = leave_out(cells, situation, phase, new)
            if guesses:
                found[f"{phase}, {situation}"] = summarize(guesses, refused)
    return found


def _log_error(guess: Guess) -> float:
    return math.log(guess.predicted / guess.measured)
