"""What a device and its user allow, and whether an artifact keeps to it: surely, perhaps, or surely not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:  # the limits are options, and a command's help loads no numpy
    from empathy_edge.bench.phones.predict import Estimate, Prediction

State = Literal["meets", "perhaps", "misses"]

MEMORY = "MB of memory"


class Limits(BaseModel):
    """The limits that a user sets; None where there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_mb: float | None = Field(
        default=None, gt=0, description="Largest size of the files, MB (10^6 bytes)."
    )
    max_first_token: float | None = Field(
        default=None, gt=0, description="Longest time to the first token on the device, seconds."
    )
    min_tps: float | None = Field(
        default=None, gt=0, description="Fewest new tokens per second on the device."
    )


@dataclass(frozen=True)
class Margin:
    """One limit beside one artifact.

    Attributes:
        what: the limit in words, as "92 MB of 80".
        state: `meets` where the whole interval does, `misses` where none of it does.
        miss: the logarithm of how far the likeliest value is beyond the limit; at most 0 where it is within,
            None where the value is not known.
    """

    what: str
    state: State
    miss: float | None


def margins(
    size_mb: float | None, prediction: Prediction | None, limits: Limits, memory_mb: float | None
) -> list[Margin]:
    """Every limit that is set, and the device's memory where that is known.

    Args:
        size_mb: of the artifact; None: not known yet.
        prediction: its speed and memory on the device; None where they cannot be predicted.
        limits: of the user.
        memory_mb: what the device gives; None where that is not known, which then is no limit.
    """
    found = []
    if limits.max_mb is not None and size_mb is None:
        found.append(Margin(f"MB: unknown (at most {limits.max_mb:g})", "perhaps", None))
    elif limits.max_mb is not None and size_mb is not None:
        beyond = math.log(size_mb / limits.max_mb)
        state: State = "misses" if beyond > 0 else "meets"
        found.append(Margin(f"{size_mb:.0f} MB (at most {limits.max_mb:g})", state, beyond))
    if limits.min_tps is not None:
        found.append(_least("tokens/s", prediction.decode_tps if prediction else None, limits.min_tps))
    if limits.max_first_token is not None:
        estimate = prediction.ttft_s if prediction else None
        found.append(_most("s to the first token", estimate, limits.max_first_token))
    if memory_mb is not None:
        found.append(_most(MEMORY, _needed(prediction), round(memory_mb)))
    return found


def _needed(prediction: Prediction | None) -> Estimate | None:
    """The memory that an artifact needs, MB; None where it was not predicted."""
    from empathy_edge.bench.phones.predict import Estimate

    if prediction is None:
        return None
    memory = prediction.memory
    return Estimate(memory.need_mb, memory.low_mb, memory.high_mb)


def state_of(found: list[Margin]) -> State:
    """The worst of them; `meets` where no limit is set."""
    states = {margin.state for margin in found}
    if "misses" in states:
        return "misses"
    return "perhaps" if "perhaps" in states else "meets"


def _least(unit: str, estimate: Estimate | None, least: float) -> Margin:
    if estimate is None:
        return Margin(f"{unit}: unknown (at least {least:g})", "perhaps", None)
    state: State = "meets" if estimate.low >= least else "misses" if estimate.high < least else "perhaps"
    return Margin(f"{_words(estimate)} {unit} (at least {least:g})", state, math.log(least / estimate.value))


def _most(unit: str, estimate: Estimate | None, most: float) -> Margin:
    if estimate is None:
        return Margin(f"{unit}: unknown (at most {most:g})", "perhaps", None)
    state: State = "meets" if estimate.high <= most else "misses" if estimate.low > most else "perhaps"
    return Margin(f"{_words(estimate)} {unit} (at most {most:g})", state, math.log(estimate.value / most))


def _words(estimate: Estimate) -> str:
    return f"{estimate.value:g} [{estimate.low:g}, {estimate.high:g}]"
