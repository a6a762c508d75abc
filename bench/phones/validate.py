"""How wrong predictions are: models, and phones, are left out of a table of measurements and predicted."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from empathy_edge.bench.phones.model import PHASES, Measurement, Phase, Rates, calibrate, fit
from empathy_edge.bench.phones.workload import Workload
from empathy_edge.bench.phones.workload_table import TableRow, workloads_of_table
from empathy_edge.errors import EmpathyEdgeError

SITUATIONS = {
    "profile": "a phone with a profile, a model that nobody measured",
    "own run": "a phone without a profile, one run of the same model in another quantization",
    "one run": "a phone without a profile, one run of another model; the model was measured nowhere",
}
COVERAGE = 0.9
"""The share of measurements that the intervals are to hold."""
LEVEL = 0.93
"""The quantile of the errors that an interval takes. It is above COVERAGE because a new model lies farther
from the known ones than those from each other."""

_NUMBERS = ("tg64_tps", "pp256_tps", "weights_total_MiB", "cpu_repack_MiB")
_COLUMNS = ("device_file", "model", "quant", *_NUMBERS)


@dataclass(frozen=True)
class Cell:
    """One measurement: a phone, a model, a quantization, tokens per second, and the workload it was."""

    phone: str
    model: str
    quant: str
    decode_tps: float
    prefill_tps: float
    workload: Workload

    def seconds(self, phase: Phase) -> float:
        """For one token."""
        return 1 / self.tps(phase)

    def tps(self, phase: Phase) -> float:
        """Tokens per second."""
        return self.decode_tps if phase == "decode" else self.prefill_tps


@dataclass(frozen=True)
class Guess:
    """A prediction beside what was measured, tokens per second."""

    cell: Cell
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Relative, of tokens per second."""
        return self.predicted / self.measured - 1

    @property
    def log_error(self) -> float:
        """The logarithm of the ratio."""
        return math.log(self.predicted / self.measured)


@dataclass(frozen=True)
class ErrorSummary:
    """The errors of many predictions.

    Attributes:
        n: how many were predicted.
        refused: how many could not be.
        mean_absolute_error: relative, of tokens per second.
        median_absolute_error: the same.
        p90_absolute_error: the same, 90th percentile.
        claimed: the share of measurements that the intervals are to hold.
        covered: the share that they held, each made from the other models' errors only; None with one model.
        interval: half the width of the interval on the logarithm.
        mean_error_by_model: relative, with its sign.
    """

    n: int
    refused: int
    mean_absolute_error: float
    median_absolute_error: float
    p90_absolute_error: float
    claimed: float
    covered: float | None
    interval: float
    mean_error_by_model: dict[str, float]


def read_cells(path: Path) -> tuple[list[Cell], int]:
    """Measurements in PocketPal AI's layout, and how many rows tell too little or are of a refused type.

    Raises:
        EmpathyEdgeError: a column is missing, or a number is none.
    """
    with open(path, encoding="utf-8", newline="") as handle:
        table = csv.DictReader(handle)
        missing = [name for name in _COLUMNS if name not in (table.fieldnames or [])]
        if missing:
            raise EmpathyEdgeError(
                f"{path}: has no column {', '.join(missing)}; see docs/phones.md for the layout."
            )
        rows = []
        for line, row in enumerate(table, 2):
            try:
                rows.append(_parse_row(row))
            except (ValueError, TypeError, AttributeError) as error:
                why = "has too few columns" if None in row.values() else str(error)
                raise EmpathyEdgeError(f"{path}, line {line}: {why}.") from None
    cells = []
    for measured, workload in zip(rows, workloads_of_table(rows), strict=True):
        if workload is not None and measured.decode_tps > 0 and measured.prefill_tps > 0:
            speeds = (measured.decode_tps, measured.prefill_tps)
            cells.append(Cell(measured.phone, measured.model, measured.quant, *speeds, workload))
    return cells, len(rows) - len(cells)


def _parse_row(row: Mapping[str, str]) -> TableRow:
    decode_tps, prefill_tps, weights_mib, repacked_mib = (float(row[name]) for name in _NUMBERS)
    return TableRow(
        phone=row["device_file"],
        model=row["model"],
        quant=row["quant"].lower(),
        decode_tps=decode_tps,
        prefill_tps=prefill_tps,
        weights_mib=weights_mib,
        repacked_mib=repacked_mib,
        streamed_gb=float(row.get("stream_GB_est") or 0),
    )


def measurements_of(cells: Sequence[Cell], phase: Phase) -> list[Measurement]:
    """What `fit` takes."""
    return [Measurement(cell.phone, cell.workload, cell.seconds(phase)) for cell in cells]


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
    for rates, targets in _predictors(cells, situation, phase, new):
        for cell in targets:
            if rates.unmeasured_types(cell.workload, phase):
                refused += 1
                continue
            predicted = 1 / rates.seconds(cell.workload, phase)
            guesses.append(Guess(cell, predicted, cell.tps(phase)))
    return guesses, refused


def _predictors(
    cells: list[Cell], situation: str, phase: Phase, new: set[str] | None
) -> Iterator[tuple[Rates, list[Cell]]]:
    """Rates, and the cells that are to be predicted with them."""
    for model in sorted({cell.model for cell in cells if new is None or cell.model in new}):
        known = [cell for cell in cells if cell.model not in (new or {model})]
        held_out = [cell for cell in cells if cell.model == model]
        if situation == "profile":
            yield from _with_profile(held_out, known, phase)
        else:
            yield from _with_one_run(held_out, known, phase, same_model=situation == "own run")


def _with_profile(
    held_out: list[Cell], known: list[Cell], phase: Phase
) -> Iterator[tuple[Rates, list[Cell]]]:
    """Each phone's own rates, fitted without the model."""
    rates, _ = fit(measurements_of(known, phase), phase)
    for phone in sorted({cell.phone for cell in held_out} & set(rates)):
        yield rates[phone], [cell for cell in held_out if cell.phone == phone]


def _with_one_run(
    held_out: list[Cell], known: list[Cell], phase: Phase, *, same_model: bool
) -> Iterator[tuple[Rates, list[Cell]]]:
    """The common pattern, fitted without the model and the phone, at the speed of one run on that phone.

    Args:
        held_out: cells of the model that is left out.
        known: cells of the models that the fit may see.
        phase: decode or prefill.
        same_model: the run is one of the model itself, in another quantization.
    """
    for phone in sorted({cell.phone for cell in [*held_out, *known]}):
        targets = [cell for cell in held_out if cell.phone == phone]
        other_phones = [cell for cell in known if cell.phone != phone]
        if not targets or not other_phones:
            continue
        _, common = fit(measurements_of(other_phones, phase), phase)
        runs = targets if same_model else [cell for cell in known if cell.phone == phone]
        for run in runs:
            if not common.unmeasured_types(run.workload, phase):
                scaled = calibrate(common, [(run.workload, run.seconds(phase))], phase)
                yield scaled, [cell for cell in targets if cell is not run]


def interval(log_errors: list[float]) -> float:
    """Half the width of a symmetric interval on the logarithm that a new error is in with chance `COVERAGE`.

    Split conformal prediction's quantile (Vovk et al. 2005), at `LEVEL`.
    """
    ordered = sorted(abs(error) for error in log_errors)
    return ordered[min(len(ordered) - 1, math.ceil((len(ordered) + 1) * LEVEL) - 1)]


def summarize(guesses: list[Guess], refused: int) -> ErrorSummary:
    """Errors, and how often the intervals from the other models' errors hold the measured value."""
    errors = [abs(guess.error) for guess in guesses]
    ordered = sorted(errors)
    held = []
    by_model: dict[str, list[float]] = {}
    for guess in guesses:
        others = [other.log_error for other in guesses if other.cell.model != guess.cell.model]
        if others:
            held.append(abs(guess.log_error) <= interval(others))
        by_model.setdefault(guess.cell.model, []).append(guess.error)
    return ErrorSummary(
        n=len(guesses),
        refused=refused,
        mean_absolute_error=sum(errors) / len(errors),
        median_absolute_error=ordered[len(ordered) // 2],
        p90_absolute_error=ordered[min(len(ordered) - 1, math.ceil(0.9 * len(ordered)) - 1)],
        claimed=COVERAGE,
        covered=sum(held) / len(held) if held else None,
        interval=interval([guess.log_error for guess in guesses]),
        mean_error_by_model={model: sum(values) / len(values) for model, values in sorted(by_model.items())},
    )


def validate(cells: list[Cell], new: set[str] | None = None) -> dict[str, ErrorSummary]:
    """The errors of decode and prefill in each situation, named `PHASE, SITUATION`."""
    found = {}
    for phase in PHASES:
        for situation in SITUATIONS:
            guesses, refused = leave_out(cells, situation, phase, new)
            if guesses:
                found[f"{phase}, {situation}"] = summarize(guesses, refused)
    return found
