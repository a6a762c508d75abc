"""How long a phone's CPU takes for one token: the bytes of each type over its rate, and a cost per layer.

Decode is not bound by the memory's bandwidth alone: each type has a kernel of its own, and with it its own
effective rate. The rates of a phone lie near a common pattern times the phone's own speed, so that few
measurements are enough. The same holds for prefill, with arithmetic instead of bytes. All fits are on
logarithms with a robust loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from empathy_edge.bench.phones.workload import Workload

Phase = Literal["decode", "prefill"]
PHASES: tuple[Phase, ...] = ("decode", "prefill")

TYPES = ("q4_0", "q4_k", "q5_0", "q5_k", "q6_k", "q8_0")
_USUAL_LAYERS = 28
"""The cost of layers is fitted for so many, to have numbers near 1."""

# Standard deviations of logarithms: first that of a measurement, then those of the priors.
_NOISE = 0.06  # beyond it the loss grows linearly
_PATTERN_SPREAD = 0.5  # how far the types' rates may lie apart
_DEVIATION_SPREAD = 0.15  # how far a phone may leave the common pattern
_LAYER_COST, _LAYER_COST_SPREAD = math.log(0.1), 0.7
_EXTRA_COST_SPREAD = 1.0
_BETWEEN_PHONES_SPREAD = 0.5  # how far the phones' costs of layers may lie apart


@dataclass(frozen=True)
class Rates:
    """What one device needs for a token.

    Attributes:
        per_unit_s: type → seconds per GB (decode) or per GFLOP (prefill).
        layer_s: seconds for each layer.
        extra_layer_s: seconds more for each layer that does much beyond attention and MLP.
        measurements: type → how many measurements its figure is made of; 0: it was not measured anywhere.
    """

    per_unit_s: dict[str, float]
    layer_s: float
    extra_layer_s: float
    measurements: dict[str, int]

    def seconds(self, workload: Workload, phase: Phase) -> float:
        """Seconds for one token."""
        units = _units_of(workload, phase)
        total = sum(amount * self.per_unit_s[kind] for kind, amount in units.items())
        return total + workload.layers * (self.layer_s + self.extra_layer_s * workload.extra)

    def unmeasured_types(self, workload: Workload, phase: Phase) -> list[str]:
        """The types of a workload that were never measured."""
        return sorted(kind for kind in _units_of(workload, phase) if not self.measurements.get(kind))

    def with_layer_cost(self, factor: float) -> Rates:
        """The same rates with the cost of layers multiplied by a factor."""
        layer_s, extra_layer_s = self.layer_s * factor, self.extra_layer_s * factor
        return Rates(self.per_unit_s, layer_s, extra_layer_s, self.measurements)

    def scaled(self, factor: float) -> Rates:
        """The same pattern on a device that is slower by a factor."""
        per_unit_s = {kind: value * factor for kind, value in self.per_unit_s.items()}
        return Rates(per_unit_s, self.layer_s * factor, self.extra_layer_s * factor, self.measurements)


def _units_of(workload: Workload, phase: Phase) -> dict[str, float]:
    """GB or GFLOP for each token, by type."""
    return workload.decode_gb if phase == "decode" else workload.prefill_gflop


class Measurement(NamedTuple):
    """What one phone took for one token of one workload."""

    phone: str
    workload: Workload
    seconds: float


def fit(measurements: Sequence[Measurement], phase: Phase) -> tuple[dict[str, Rates], Rates]:
    """Each phone's rates, and the common pattern (for a phone of unit speed).

    Normal priors on the logarithms, and a pseudo-Huber loss on the logarithms of the seconds; what is
    found has the highest posterior density. Prefill has no cost for ordinary layers: it is too small
    beside the arithmetic.
    """
    from scipy.optimize import least_squares

    phones = sorted({measurement.phone for measurement in measurements})
    data = _data_of(measurements, phones, phase)

    def residuals(vector: np.ndarray) -> np.ndarray:
        return _residuals(_Parameters.from_vector(vector, len(phones)), data)

    start = _Parameters.start(len(phones)).to_vector()
    found = _Parameters.from_vector(least_squares(residuals, start).x, len(phones))
    rates = {phone: _rates_of_phone(found, data, index) for index, phone in enumerate(phones)}
    return rates, _common_rates(found, data)


@dataclass(frozen=True)
class _Data:
    """Measurements as arrays.

    Attributes:
        phone: int [n], each one's phone, its place in the sorted names.
        amounts: float [n, types], GB or GFLOP for a token.
        layers: float [n], in units of `_USUAL_LAYERS`.
        extra_layers: float [n], those that do much beyond attention and MLP, in the same unit.
        log_seconds: float [n].
        with_layers: whether ordinary layers cost anything.
    """

    phone: np.ndarray
    amounts: np.ndarray
    layers: np.ndarray
    extra_layers: np.ndarray
    log_seconds: np.ndarray
    with_layers: bool


def _data_of(measurements: Sequence[Measurement], phones: list[str], phase: Phase) -> _Data:
    import numpy as np

    workloads = [measurement.workload for measurement in measurements]
    amounts = []
    for workload in workloads:
        units = _units_of(workload, phase)
        amounts.append([units.get(kind, 0.0) for kind in TYPES])
    layers = np.array([workload.layers / _USUAL_LAYERS for workload in workloads])
    return _Data(
        phone=np.array([phones.index(measurement.phone) for measurement in measurements]),
        amounts=np.array(amounts),
        layers=layers,
        extra_layers=layers * np.array([workload.extra for workload in workloads]),
        log_seconds=np.log(np.array([measurement.seconds for measurement in measurements])),
        with_layers=phase == "decode",
    )


@dataclass(frozen=True)
class _Parameters:
    """What is fitted, all of it logarithms.

    Attributes:
        speed: [phones], seconds of each phone for a unit of the pattern.
        pattern: [types], seconds of each type for a GB or GFLOP, at unit speed.
        deviation: [phones, types], each phone's deviation from the pattern.
        layer: [phones], seconds for `_USUAL_LAYERS` layers, at unit speed.
        extra_layer: [phones], the same for layers that do much beyond attention and MLP.
    """

    speed: np.ndarray
    pattern: np.ndarray
    deviation: np.ndarray
    layer: np.ndarray
    extra_layer: np.ndarray

    @staticmethod
    def start(phones: int) -> _Parameters:
        """Where the fit begins: the priors' centres, and a usual phone's speed."""
        import numpy as np

        return _Parameters(
            speed=np.full(phones, -3.0),
            pattern=np.zeros(len(TYPES)),
            deviation=np.zeros((phones, len(TYPES))),
            layer=np.full(phones, _LAYER_COST),
            extra_layer=np.full(phones, _LAYER_COST),
        )

    @staticmethod
    def from_vector(vector: np.ndarray, phones: int) -> _Parameters:
        """The inverse of `to_vector`."""
        import numpy as np

        sizes = [phones, len(TYPES), phones * len(TYPES), phones]
        speed, pattern, deviation, layer, extra_layer = np.split(vector, np.cumsum(sizes))
        return _Parameters(speed, pattern, deviation.reshape(phones, len(TYPES)), layer, extra_layer)

    def to_vector(self) -> np.ndarray:
        """All of them one after the other, as the optimizer wants them."""
        import numpy as np

        return np.concatenate(
            [self.speed, self.pattern, self.deviation.ravel(), self.layer, self.extra_layer]
        )


def _residuals(parameters: _Parameters, data: _Data) -> np.ndarray:
    """For `least_squares`: half the sum of their squares is the loss plus the priors' negative logarithm."""
    import numpy as np

    error = (_predicted_log_seconds(parameters, data) - data.log_seconds) / _NOISE
    # The pseudo-Huber loss: quadratic near 0, linear beyond 1.
    loss = np.sqrt(1 + error**2) - 1
    robust = np.sign(error) * np.sqrt(2 * loss)
    layer, extra_layer = parameters.layer, parameters.extra_layer
    priors = [
        parameters.pattern / _PATTERN_SPREAD,
        parameters.deviation.ravel() / _DEVIATION_SPREAD,
        (layer - _LAYER_COST) / _LAYER_COST_SPREAD,
        (extra_layer - _LAYER_COST) / _EXTRA_COST_SPREAD,
        (layer - layer.mean()) / _BETWEEN_PHONES_SPREAD,
        (extra_layer - extra_layer.mean()) / _BETWEEN_PHONES_SPREAD,
    ]
    return np.concatenate([robust, *priors])


def _predicted_log_seconds(parameters: _Parameters, data: _Data) -> np.ndarray:
    """The logarithm of the seconds that each measurement should have taken, float [n]."""
    import numpy as np

    per_unit = np.exp(parameters.pattern + parameters.deviation[data.phone])
    work = (data.amounts * per_unit).sum(1)
    if data.with_layers:
        work = work + np.exp(parameters.layer[data.phone]) * data.layers
    work = work + np.exp(parameters.extra_layer[data.phone]) * data.extra_layers
    log_seconds: np.ndarray = parameters.speed[data.phone] + np.log(work)
    return log_seconds


def _rates_of_phone(parameters: _Parameters, data: _Data, phone: int) -> Rates:
    """One phone's rates; a type that it did not run is known from the other phones."""
    import numpy as np

    speed = float(np.exp(parameters.speed[phone]))
    layer_s = speed * float(np.exp(parameters.layer[phone])) / _USUAL_LAYERS
    per_unit_s: dict[str, float] = {}
    measurements: dict[str, int] = {}
    own, everywhere = _count(data.amounts[data.phone == phone]), _count(data.amounts)
    for place, kind in enumerate(TYPES):
        log_cost = parameters.pattern[place] + parameters.deviation[phone, place]
        per_unit_s[kind] = speed * float(np.exp(log_cost))
        measurements[kind] = own[kind] or everywhere[kind]
    return Rates(
        per_unit_s=per_unit_s,
        layer_s=layer_s if data.with_layers else 0.0,
        extra_layer_s=speed * float(np.exp(parameters.extra_layer[phone])) / _USUAL_LAYERS,
        measurements=measurements,
    )


def _common_rates(parameters: _Parameters, data: _Data) -> Rates:
    """The pattern, with the geometric mean of the phones' costs of layers."""
    import numpy as np

    layer_s = float(np.exp(parameters.layer.mean())) / _USUAL_LAYERS
    return Rates(
        per_unit_s={kind: float(np.exp(parameters.pattern[place])) for place, kind in enumerate(TYPES)},
        layer_s=layer_s if data.with_layers else 0.0,
        extra_layer_s=float(np.exp(parameters.extra_layer.mean())) / _USUAL_LAYERS,
        measurements=_count(data.amounts),
    )


def _count(amounts: np.ndarray) -> dict[str, int]:
    """How many rows of `amounts` [n, types] have anything of each type."""
    return {kind: int((amounts[:, place] > 0).sum()) for place, kind in enumerate(TYPES)}


def calibrate(common: Rates, runs: Sequence[tuple[Workload, float]], phase: Phase) -> Rates:
    """The common pattern at the speed that a device's own runs show: the geometric mean of their factors.

    Args:
        common: the pattern.
        runs: workloads and the seconds that a token took.
        phase: what the seconds are of.
    """
    logs = [math.log(seconds / common.seconds(workload, phase)) for workload, seconds in runs]
    return common.scaled(math.exp(sum(logs) / len(logs)))
