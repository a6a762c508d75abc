"""Fits the speed of a chip from its specification, and counts the errors about chips that were left out.

Run as `python -m empathy_edge.bench.phones.specification_fit CELLS.csv`, PocketPal AI's table: prints
`bench/phones/specification_cpu.yaml`, with the errors of each chip as comments. The other measurements are
the runs in `devices/*.yaml`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from empathy_edge.bench.phones.model import PHASES, Measurement, Phase, Rates, fit
from empathy_edge.bench.phones.predict import workload_of_run
from empathy_edge.bench.phones.specification import (
    TERMS,
    PhaseFit,
    SpecificationFit,
    specification_of,
    terms_of,
)
from empathy_edge.bench.phones.validate import LEVEL, Cell, measurements_of, read_cells
from empathy_edge.bench.phones.workload import Workload
from empathy_edge.devices import Device, device_ids, load_device
from empathy_edge.errors import EmpathyEdgeError

if TYPE_CHECKING:
    import numpy as np

PHONES_OF_TABLE = {
    "poco-myron": "poco-myron",
    "poco-x7-klee": "poco-x7-klee",
    "samsung-s23": "galaxy-s23",
}
"""The phones' names in PocketPal AI's table → profiles."""

PRIORS: dict[Phase, dict[str, tuple[float, float]]] = {
    "decode": {
        "speed": (3.0, 10.0),
        "bandwidth": (0.6, 0.3),
        "cores": (0.4, 0.3),
        "no_dotprod": (-0.3, 0.5),
    },
    "prefill": {
        "speed": (5.0, 10.0),
        "cores": (1.0, 0.3),
        "no_dotprod": (-1.3, 0.5),
        "i8mm": (0.2, 0.2),
        "no_fan": (0.0, 0.3),
    },
}
"""Mean and standard deviation of each coefficient before anything was measured: there are too few chips to do
without. Decode grows with the bandwidth and, where that is not the limit, with the cores; prefill with the
cores. A dot product does the work of about four other instructions."""
_CHIP_SPREAD = 0.3
"""Standard deviation of the logarithm of a chip's speed around the regression."""


@dataclass(frozen=True)
class Chip:
    """A device with measurements of one phase: workloads, and the seconds that a token took."""

    device: Device
    points: list[tuple[Workload, float]]


def measured_chips(cells: Sequence[Cell], phase: Phase) -> list[Chip]:
    """The devices whose specification and speed are known: those of the table, and those with runs."""
    points: dict[str, list[tuple[Workload, float]]] = {}
    for cell in cells:
        name = PHONES_OF_TABLE.get(cell.phone)
        if name:
            points.setdefault(name, []).append((cell.workload, cell.seconds(phase)))
    for name in device_ids():
        for run in load_device(name).runs:
            tps = run.decode_tps if phase == "decode" else run.prefill_tps
            if tps:
                points.setdefault(name, []).append((workload_of_run(run), 1 / tps))
    chips = [Chip(load_device(name), known) for name, known in sorted(points.items())]
    return [chip for chip in chips if specification_of(chip.device) is not None]


def log_speed(chip: Chip, common: Rates, phase: Phase) -> float:
    """The logarithm of a chip's speed relative to the common pattern: the mean over its measurements."""
    logs = [math.log(common.seconds(workload, phase) / seconds) for workload, seconds in chip.points]
    return sum(logs) / len(logs)


def regress(chips: Sequence[Chip], common: Rates, phase: Phase) -> dict[str, float]:
    """The coefficients with the highest posterior density: least squares with normal priors."""
    import numpy as np

    means = np.array([PRIORS[phase][name][0] for name in TERMS[phase]])
    spreads = np.array([PRIORS[phase][name][1] for name in TERMS[phase]])
    rows = np.array([_terms(chip, phase) for chip in chips])
    speeds = np.array([log_speed(chip, common, phase) for chip in chips])
    matrix = np.vstack([rows / _CHIP_SPREAD, np.diag(1 / spreads)])
    target = np.concatenate([speeds / _CHIP_SPREAD, means / spreads])
    found: np.ndarray = np.linalg.lstsq(matrix, target, rcond=None)[0]
    return {name: float(value) for name, value in zip(TERMS[phase], found, strict=True)}


def _terms(chip: Chip, phase: Phase) -> list[float]:
    specification = specification_of(chip.device)
    assert specification is not None
    return terms_of(specification, phase)


def errors_of_unseen_chips(
    cells: Sequence[Cell], chips: Sequence[Chip], phase: Phase
) -> dict[str, list[float]]:
    """Chip → the logarithms of predicted over measured tokens per second, that chip left out of everything.

    A phone of the table is also left out of the common pattern.
    """
    names = {profile: phone for phone, profile in PHONES_OF_TABLE.items()}
    everything = _pattern(cells, phase)
    errors = {}
    for chip in chips:
        name = chip.device.id
        own = names.get(name)
        others_cells = [cell for cell in cells if cell.phone != own]
        common = everything if len(others_cells) == len(cells) else _pattern(others_cells, phase)
        others = [other for other in chips if other.device.soc != chip.device.soc]
        coefficients = regress(others, common, phase)
        values = zip(coefficients.values(), _terms(chip, phase), strict=True)
        predicted = sum(coefficient * value for coefficient, value in values)
        errors[name] = [
            predicted - math.log(common.seconds(workload, phase) / seconds)
            for workload, seconds in chip.points
            if not common.unmeasured_types(workload, phase)
        ]
    return errors


def _pattern(cells: Sequence[Cell], phase: Phase) -> Rates:
    measurements: list[Measurement] = measurements_of(cells, phase)
    return fit(measurements, phase)[1]


def interval(errors: dict[str, list[float]]) -> float:
    """Half the width that a new chip's error is within with a chance of 90 %.

    The quantile of the absolute errors at `LEVEL`, as of the other intervals, with each chip weighing the
    same, however often it was measured.
    """
    weighted = [(abs(error), 1 / (len(errors) * len(own))) for own in errors.values() for error in own]
    weighted.sort()
    total = 0.0
    for error, share in weighted:
        total += share
        if total >= LEVEL:
            return error
    return weighted[-1][0]


def covered(errors: dict[str, list[float]]) -> float:
    """The share inside intervals made from the other chips' errors; each chip weighs the same."""
    shares = []
    for name, own in errors.items():
        width = interval({other: values for other, values in errors.items() if other != name})
        shares.append(sum(abs(error) <= width for error in own) / len(own))
    return sum(shares) / len(shares)


def mean_absolute_error(errors: dict[str, list[float]]) -> float:
    """Relative, of tokens per second: the mean over chips of the mean over their measurements."""
    means = [sum(abs(math.exp(error) - 1) for error in own) / len(own) for own in errors.values()]
    return sum(means) / len(means)


def fit_specifications(cells: Sequence[Cell]) -> tuple[SpecificationFit, dict[Phase, dict[str, list[float]]]]:
    """The regressions, and the errors about chips that were left out.

    Raises:
        EmpathyEdgeError: the table holds none of the phones whose specification is known.
    """
    fits: dict[Phase, PhaseFit] = {}
    errors: dict[Phase, dict[str, list[float]]] = {}
    if not any(cell.phone in PHONES_OF_TABLE for cell in cells):
        raise EmpathyEdgeError(f"The table holds none of {', '.join(PHONES_OF_TABLE)}.")
    for phase in PHASES:
        chips = measured_chips(cells, phase)
        errors[phase] = errors_of_unseen_chips(cells, chips, phase)
        coefficients = regress(chips, _pattern(cells, phase), phase)
        fits[phase] = PhaseFit(
            coefficients={name: round(value, 3) for name, value in coefficients.items()},
            interval=round(interval(errors[phase]), 3),
            chips=len(chips),
            mean_absolute_error=round(mean_absolute_error(errors[phase]), 3),
            covered=round(covered(errors[phase]), 3),
        )
    return SpecificationFit(decode=fits["decode"], prefill=fits["prefill"]), errors


_HEADER = """\
# The speed of a chip from its specification (bench/phones/specification.py), where nobody measured a device.
# Made by `python -m empathy_edge.bench.phones.specification_fit` from PocketPal AI's end-to-end baselines
# (a-ghorbani/pocketpal-ai, MIT) and the runs in devices/*.yaml. mean_absolute_error and covered: each chip
# left out of everything and predicted; the mean error of its tokens/s, in percent:
"""


def _print(path: Path) -> None:
    cells, _ = read_cells(path)
    found, errors = fit_specifications(cells)
    print(_HEADER, end="")
    for phase in PHASES:
        for name, own in errors[phase].items():
            mean = math.exp(sum(own) / len(own)) - 1
            print(f"#   {phase} {name} {100 * mean:+.0f} ({len(own)} measurements)")
    print(yaml.safe_dump(found.model_dump(), sort_keys=False), end="")


if __name__ == "__main__":
    _print(Path(sys.argv[1]))
