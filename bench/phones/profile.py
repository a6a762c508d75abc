"""Fitted rates as figures of device profiles, and the common pattern of all phones, from a table of measurements.

Run as `python -m empathy_edge.bench.phones.profile CELLS.csv`: prints `bench/phones/phone_cpu.yaml`, and each phone's figures.
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import Any, cast

import yaml

from empathy_edge.bench.phones.model import Phase, Rates, fit
from empathy_edge.bench.phones.validate import COVERAGE, read_cells, validate
from empathy_edge.devices import Device

_UNIT = {"decode": "decode_gb_per_s", "prefill": "prefill_gflop_per_s"}


def common_pattern() -> dict[str, Any]:
    """What `bench/phones/phone_cpu.yaml` holds: the pattern of rates for decode and prefill, and the intervals."""
    text = (resources.files("empathy_edge.bench.phones") / "phone_cpu.yaml").read_text(encoding="utf-8")
    return cast(dict[str, Any], yaml.safe_load(text))


def common_rates(pattern: dict[str, Any], phase: Phase) -> Rates:
    """The pattern for one phase, at unit speed."""
    part = pattern[phase]
    return Rates(
        {kind: item["cost"] for kind, item in part["types"].items()},
        part["layer"],
        part["extra_layer"],
        {kind: item["measurements"] for kind, item in part["types"].items()},
    )


def rates_of(device: Device, phase: Phase) -> Rates | None:
    """A device's fitted profile; None where it has none."""
    prefix = _UNIT[phase] + "."
    found = {
        name.removeprefix(prefix): item for name, item in device.figures.items() if name.startswith(prefix)
    }
    if not found:
        return None
    tolls = (device.figures.get(f"{phase}_{name}_ms") for name in ("layer", "extra_layer"))
    layer, extra = (toll.value / 1000 if toll else 0.0 for toll in tolls)
    return Rates(
        {kind: 1 / item.value for kind, item in found.items()}, layer, extra, dict.fromkeys(found, 1)
    )


def figures_of(rates: Rates, phase: Phase) -> dict[str, float]:
    """As `rates_of` reads them."""
    figures = {
        f"{_UNIT[phase]}.{kind}": _three(1 / cost)
        for kind, cost in rates.per_unit_s.items()
        if rates.seen[kind]
    }
    if rates.layer_s:
        figures[f"{phase}_layer_ms"] = _three(1000 * rates.layer_s)
    figures[f"{phase}_extra_layer_ms"] = _three(1000 * rates.extra_layer_s)
    return figures


def _three(value: float) -> float:
    return float(f"{value:.3g}")


def _print(path: Path) -> None:
    cells, _ = read_cells(path)
    errors = validate(cells)
    pattern: dict[str, Any] = {"claimed": COVERAGE}
    phones: dict[str, dict[str, float]] = {}
    for phase in cast(tuple[Phase, ...], ("decode", "prefill")):
        rates, common = fit(
            [c.phone for c in cells], [c.workload for c in cells], [1 / c.tps[phase] for c in cells], phase
        )
        pattern[phase] = {
            "types": {
                kind: {"cost": _three(cost), "measurements": common.seen[kind]}
                for kind, cost in common.per_unit_s.items()
            },
            "layer": _three(common.layer_s),
            "extra_layer": _three(common.extra_layer_s),
            "interval": {
                key.removeprefix(f"{phase}, "): _three(item["interval"])
                for key, item in errors.items()
                if key.startswith(phase)
            },
        }
        for phone, own in rates.items():
            phones.setdefault(phone, {}).update(figures_of(own, phase))
    print(yaml.safe_dump(pattern, sort_keys=False))
    print(yaml.safe_dump(phones, sort_keys=False))


if __name__ == "__main__":
    _print(Path(sys.argv[1]))
