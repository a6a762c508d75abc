"""How long a phone's CPU takes for a token: bytes by type over the rate of that type, and a toll for each layer.

Decode is not bound by the bandwidth of the memory alone: each type has its own kernel and with it its own effective
rate. The rates of a phone lie near a common pattern times the phone's own speed, so that few measurements are enough;
the same holds for prefill, with arithmetic instead of bytes. All fits are on logarithms with a robust loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

    from empathy_edge.bench.phones.workload import Workload

Phase = Literal["decode", "prefill"]

TYPES = ("q4_0", "q4_k", "q5_0", "q5_k", "q6_k", "q8_0")
_LAYERS = 28
"""A usual number of layers; the toll is fitted for so many, to have numbers near 1."""

_ERROR = 0.06  # a cell's own scatter, where the loss turns from square to linear
_PATTERN = 0.5  # how far the types' rates may lie apart
_OWN = 0.15  # how far a phone may leave the common pattern
_TOLL, _TOLL_SPREAD = math.log(0.1), 0.7
_EXTRA_SPREAD = 1.0
_BETWEEN = 0.5  # how far phones' tolls may lie apart


@dataclass(frozen=True)
class Rates:
    """What one device needs: seconds per GB (decode) or per GFLOP (prefill) by type, and per layer.

    `seen` says of how many measurements each type's figure is made; 0 means that it was not measured anywhere.
    """

    per_unit_s: dict[str, float]
    layer_s: float
    extra_layer_s: float
    seen: dict[str, int]

    def seconds(self, workload: Workload, phase: Phase) -> float:
        """Seconds for one token."""
        units = workload.decode_gb if phase == "decode" else workload.prefill_gflop
        total = sum(amount * self.per_unit_s[kind] for kind, amount in units.items())
        return total + workload.layers * (self.layer_s + self.extra_layer_s * workload.extra)

    def unseen(self, workload: Workload, phase: Phase) -> list[str]:
        """The types of a workload that were never measured."""
        units = workload.decode_gb if phase == "decode" else workload.prefill_gflop
        return sorted(kind for kind in units if not self.seen.get(kind))

    def with_toll(self, factor: float) -> Rates:
        """The same rates with another toll for layers."""
        return Rates(self.per_unit_s, self.layer_s * factor, self.extra_layer_s * factor, self.seen)

    def scaled(self, factor: float) -> Rates:
        """The same pattern on a device that is slower by a factor."""
        per_unit = {kind: value * factor for kind, value in self.per_unit_s.items()}
        return Rates(per_unit, self.layer_s * factor, self.extra_layer_s * factor, self.seen)


def fit(
    phones: list[str], workloads: list[Workload], seconds: list[float], phase: Phase
) -> tuple[dict[str, Rates], Rates]:
    """Each phone's rates, and the common pattern (for a phone of unit speed).

    Args:
        phones: the phone of each measurement.
        workloads: what was run.
        seconds: for one token.
        phase: decode or prefill; prefill has no toll for ordinary layers, it is lost among the arithmetic.
    """
    import numpy as np
    from scipy.optimize import least_squares

    names = sorted(set(phones))
    place = np.array([names.index(phone) for phone in phones])
    units = [w.decode_gb if phase == "decode" else w.prefill_gflop for w in workloads]
    amount = np.array([[unit.get(kind, 0.0) for kind in TYPES] for unit in units])
    layers = np.array([w.layers / _LAYERS for w in workloads])
    extra = np.array([w.layers / _LAYERS * w.extra for w in workloads])
    logs = np.log(np.array(seconds))
    toll = float(phase == "decode")
    many, kinds = len(names), len(TYPES)

    def split(vector: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        parts = np.split(vector, np.cumsum([many, kinds, many * kinds, many]))
        return parts[0], parts[1], parts[2].reshape(many, kinds), parts[3], parts[4]

    def residuals(vector: np.ndarray) -> np.ndarray:
        speed, pattern, own, tolls, extras = split(vector)
        work = (amount * np.exp(pattern + own[place])).sum(1)
        work = work + toll * np.exp(tolls[place]) * layers + np.exp(extras[place]) * extra
        error = (speed[place] + np.log(work) - logs) / _ERROR
        robust = np.sign(error) * np.sqrt(2 * (np.sqrt(1 + error**2) - 1))
        prior = [
            pattern / _PATTERN,
            own.ravel() / _OWN,
            (tolls - _TOLL) / _TOLL_SPREAD,
            (extras - _TOLL) / _EXTRA_SPREAD,
        ]
        prior += [(tolls - tolls.mean()) / _BETWEEN, (extras - extras.mean()) / _BETWEEN]
        return np.concatenate([robust, *prior])

    start = np.concatenate([np.full(many, -3.0), np.zeros(kinds + many * kinds), np.full(2 * many, _TOLL)])
    speed, pattern, own, tolls, extras = split(least_squares(residuals, start).x)
    everywhere = {kind: int((amount[:, column] > 0).sum()) for column, kind in enumerate(TYPES)}
    rates = {}
    for index, name in enumerate(names):
        scale = float(np.exp(speed[index]))
        rates[name] = Rates(
            {kind: scale * float(np.exp(pattern[k] + own[index, k])) for k, kind in enumerate(TYPES)},
            scale * toll * float(np.exp(tolls[index])) / _LAYERS,
            scale * float(np.exp(extras[index])) / _LAYERS,
            {
                kind: int((amount[place == index, k] > 0).sum()) or everywhere[kind]
                for k, kind in enumerate(TYPES)
            },
        )
    common = Rates(
        {kind: float(np.exp(pattern[k])) for k, kind in enumerate(TYPES)},
        toll * float(np.exp(tolls.mean())) / _LAYERS,
        float(np.exp(extras.mean())) / _LAYERS,
        everywhere,
    )
    return rates, common


def calibrate(common: Rates, runs: list[tuple[Workload, float]], phase: Phase) -> Rates:
    """The common pattern at the speed that a device's own runs show: the geometric mean of their factors.

    Args:
        common: the pattern.
        runs: workloads and the seconds that a token took.
    """
    logs = [math.log(seconds / common.seconds(workload, phase)) for workload, seconds in runs]
    return common.scaled(math.exp(sum(logs) / len(logs)))
