"""The speed of a device that nobody measured, from its chip's specification.

A device is one number for each phase: how much slower it is than the common pattern at unit speed
(`model.py`). Decode is bound by memory, and by the cores that unpack the weights: the peak bandwidth and the
four fastest cores. Prefill is bound by arithmetic: up to eight cores, the instructions for products of 8-bit
integers, and whether the device may have a fan. All of it enters as logarithms, in a regression that
`specification_fit.py` makes from the devices that were measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict

from empathy_edge.bench.phones.model import Phase
from empathy_edge.devices import Device

MULTIPLIERS = {
    # Arm's software optimization guide of the core:
    "Cortex-A55": 1,
    "Cortex-A520": 1,  # two for a pair of cores that shares them
    "Cortex-A720": 2,
    "Cortex-X4": 4,
    # LLVM's scheduling model, made from Arm's guide of the core:
    "C1-Premium": 2,
    "C1-Ultra": 6,
    # LLVM schedules them as Neoverse N2 and N3, V1 and V2, which have two and four:
    "Cortex-A710": 2,
    "Cortex-A715": 2,
    "Cortex-A725": 2,
    "C1-Pro": 2,
    "Cortex-X1": 4,
    "Cortex-X2": 4,
    "Cortex-X3": 4,
    # Measured or reported by others (docs/phones.md):
    "Cortex-A76": 2,
    "Cortex-A78": 2,
    "Oryon": 4,
    "Oryon prime": 4,
    "Oryon performance": 2,
    "Apple efficiency": 2,
    "Apple performance": 4,
    # Not found in a document that was read:
    "Cortex-A72": 1,
    "Cortex-A510": 1,
}
"""How many 128-bit integer products (SDOT in Q form) a core begins in each cycle."""

DECODE_CORES, PREFILL_CORES = 4, 8
"""As many of the fastest cores count: beyond four the memory is the limit; llama.cpp is seldom given more
than eight threads."""
_BANDWIDTH = "memory_bandwidth_peak_gb_per_s"
_USUAL_BANDWIDTH, _USUAL_CORES = 50.0, 30.0  # GB/s, 10^9 products/s: the regression's numbers are near 0
UNFAMILIAR_FACTOR = 2.0
"""The intervals of iPhones are so many times as wide, on the logarithm: no Apple chip was measured."""

TERMS: dict[Phase, tuple[str, ...]] = {
    "decode": ("speed", "bandwidth", "cores", "no_dotprod"),
    "prefill": ("speed", "cores", "no_dotprod", "i8mm", "no_fan"),
}
"""The terms of each regression, in the order of `terms_of`."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PhaseFit(_Record):
    """One regression, and how wrong it was about chips that it had not seen.

    Attributes:
        coefficients: term → coefficient, for the logarithm of the speed relative to the common pattern.
        interval: half the width of a 90 % interval on the logarithm.
        chips: how many chips were left out, one after the other.
        mean_absolute_error: of tokens per second, relative; the mean over chips.
        covered: the share of chips inside intervals that were made from the other chips' errors.
    """

    coefficients: dict[str, float]
    interval: float
    chips: int
    mean_absolute_error: float
    covered: float


class SpecificationFit(_Record):
    """What `bench/phones/specification_cpu.yaml` holds."""

    decode: PhaseFit
    prefill: PhaseFit

    def phase(self, phase: Phase) -> PhaseFit:
        """The regression for one phase."""
        return self.decode if phase == "decode" else self.prefill


@dataclass(frozen=True)
class Specification:
    """What the regressions take.

    Attributes:
        bandwidth: the memory's peak, GB/s.
        decode_cores: 10^9 integer products of 128 bits a second of the four fastest cores.
        prefill_cores: the same of the eight fastest.
        dotprod: whether there are dot products of 8-bit integers.
        i8mm: whether there are matrix products of them.
        fan: a board, which may have one; phones have none.
    """

    bandwidth: float
    decode_cores: float
    prefill_cores: float
    dotprod: bool
    i8mm: bool
    fan: bool


def can_describe(device: Device) -> bool:
    """Whether enough is known of a device's chip to predict from it."""
    return specification_of(device) is not None


def missing_facts(device: Device) -> list[str]:
    """What a prediction from the specification would need and the profile has not."""
    missing = []
    if device.clusters is None:
        missing.append("cores and clocks")
    elif any(item.core not in MULTIPLIERS for item in device.clusters.value):
        missing.append("cores that are known here")
    if device.isa is None:
        missing.append("instructions")
    if _BANDWIDTH not in device.figures:
        missing.append("memory bandwidth")
    return missing


def specification_of(device: Device) -> Specification | None:
    """A device's specification as numbers; None where a part of it is unknown."""
    if missing_facts(device):
        return None
    assert device.clusters is not None and device.isa is not None
    speeds = []
    for cluster in device.clusters.value:
        speeds += [cluster.ghz * MULTIPLIERS[cluster.core]] * cluster.cores
    speeds.sort(reverse=True)
    instructions = device.isa.value
    return Specification(
        bandwidth=device.figures[_BANDWIDTH].value,
        decode_cores=sum(speeds[:DECODE_CORES]),
        prefill_cores=sum(speeds[:PREFILL_CORES]),
        dotprod="dotprod" in instructions and "no dotprod" not in instructions,
        i8mm="i8mm" in instructions,
        fan=device.tier == "board",
    )


def terms_of(specification: Specification, phase: Phase) -> list[float]:
    """The values of `TERMS[phase]`."""
    no_dotprod = float(not specification.dotprod)
    if phase == "decode":
        bandwidth = math.log(specification.bandwidth / _USUAL_BANDWIDTH)
        return [1.0, bandwidth, math.log(specification.decode_cores / _USUAL_CORES), no_dotprod]
    cores = math.log(specification.prefill_cores / _USUAL_CORES)
    return [1.0, cores, no_dotprod, float(specification.i8mm), float(not specification.fan)]


@cache
def specification_fit() -> SpecificationFit:
    """The shipped regressions."""
    file = resources.files("empathy_edge.bench.phones") / "specification_cpu.yaml"
    return SpecificationFit.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))


def slowness(device: Device, phase: Phase) -> float | None:
    """How many times slower than the common pattern at unit speed; None where the chip is not known."""
    specification = specification_of(device)
    if specification is None:
        return None
    coefficients = specification_fit().phase(phase).coefficients
    values = terms_of(specification, phase)
    products = [coefficients[name] * value for name, value in zip(TERMS[phase], values, strict=True)]
    return math.exp(-sum(products))


def half_width(device: Device, phase: Phase) -> float:
    """Half the width of a 90 % interval on the logarithm."""
    width = specification_fit().phase(phase).interval
    return UNFAMILIAR_FACTOR * width if device.tier == "iphone" else width
