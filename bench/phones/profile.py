"""Fitted rates as figures of device profiles, and the common pattern of all phones.

Run as `python -m empathy_edge.bench.phones.profile CELLS.csv`, a table of measurements: prints
`bench/phones/phone_cpu.yaml`, and the figures of each phone.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import resources
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from empathy_edge.bench.phones.model import PHASES, Phase, Rates, fit
from empathy_edge.bench.phones.validate import COVERAGE, ErrorSummary, measurements_of, read_cells, validate
from empathy_edge.devices import Device

_RATE_NAMES = {"decode": "decode_gb_per_s", "prefill": "prefill_gflop_per_s"}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TypeCost(_Record):
    """What a GB (decode) or GFLOP (prefill) of one type costs, and how many measurements tell it."""

    cost: float
    measurements: int


class PhasePattern(_Record):
    """The pattern for decode or prefill, relative to a phone's own speed.

    Attributes:
        types: type → cost.
        layer: the cost of one layer.
        extra_layer: the cost of a layer that does much beyond attention and MLP.
        interval: situation → half the width of the interval of a prediction, on the logarithm.
    """

    types: dict[str, TypeCost]
    layer: float
    extra_layer: float
    interval: dict[str, float]

    def rates(self) -> Rates:
        """At unit speed."""
        return Rates(
            per_unit_s={kind: item.cost for kind, item in self.types.items()},
            layer_s=self.layer,
            extra_layer_s=self.extra_layer,
            measurements={kind: item.measurements for kind, item in self.types.items()},
        )


class CommonPattern(_Record):
    """What `bench/phones/phone_cpu.yaml` holds; `claimed` is what the intervals are to cover."""

    claimed: float
    decode: PhasePattern
    prefill: PhasePattern

    def phase(self, phase: Phase) -> PhasePattern:
        """The pattern for one phase."""
        return self.decode if phase == "decode" else self.prefill


@cache
def common_pattern() -> CommonPattern:
    """The shipped pattern of rates for decode and prefill, and the intervals."""
    text = (resources.files("empathy_edge.bench.phones") / "phone_cpu.yaml").read_text(encoding="utf-8")
    return CommonPattern.model_validate(yaml.safe_load(text))


def rates_of(device: Device, phase: Phase) -> Rates | None:
    """A device's fitted profile; None where it has none."""
    prefix = f"{_RATE_NAMES[phase]}."
    per_unit_s = {
        name.removeprefix(prefix): 1 / figure.value
        for name, figure in device.figures.items()
        if name.startswith(prefix)
    }
    if not per_unit_s:
        return None
    layer, extra_layer = (device.figures.get(f"{phase}_{name}_ms") for name in ("layer", "extra_layer"))
    return Rates(
        per_unit_s=per_unit_s,
        layer_s=layer.value / 1000 if layer else 0.0,
        extra_layer_s=extra_layer.value / 1000 if extra_layer else 0.0,
        measurements=dict.fromkeys(per_unit_s, 1),
    )


def figures_of(rates: Rates, phase: Phase) -> dict[str, float]:
    """The figures of a profile, as `rates_of` reads them."""
    figures = {
        f"{_RATE_NAMES[phase]}.{kind}": three_digits(1 / cost)
        for kind, cost in rates.per_unit_s.items()
        if rates.measurements[kind]
    }
    if rates.layer_s:
        figures[f"{phase}_layer_ms"] = three_digits(1000 * rates.layer_s)
    figures[f"{phase}_extra_layer_ms"] = three_digits(1000 * rates.extra_layer_s)
    return figures


def three_digits(value: float) -> float:
    """Rounded to three significant digits."""
    return float(f"{value:.3g}")


def _print(path: Path) -> None:
    cells, _ = read_cells(path)
    errors = validate(cells)
    patterns: dict[Phase, PhasePattern] = {}
    phones: dict[str, dict[str, float]] = {}
    for phase in PHASES:
        rates, common = fit(measurements_of(cells, phase), phase)
        patterns[phase] = _pattern_of(common, phase, errors)
        for phone, own in rates.items():
            phones.setdefault(phone, {}).update(figures_of(own, phase))
    pattern = CommonPattern(claimed=COVERAGE, decode=patterns["decode"], prefill=patterns["prefill"])
    print(yaml.safe_dump(pattern.model_dump(), sort_keys=False))
    print(yaml.safe_dump(phones, sort_keys=False))


def _pattern_of(common: Rates, phase: Phase, errors: dict[str, ErrorSummary]) -> PhasePattern:
    return PhasePattern(
        types={
            kind: TypeCost(cost=three_digits(cost), measurements=common.measurements[kind])
            for kind, cost in common.per_unit_s.items()
        },
        layer=three_digits(common.layer_s),
        extra_layer=three_digits(common.extra_layer_s),
        interval={
            name.removeprefix(f"{phase}, "): three_digits(item.interval)
            for name, item in errors.items()
            if name.startswith(phase)
        },
    )


if __name__ == "__main__":
    _print(Path(sys.argv[1]))
