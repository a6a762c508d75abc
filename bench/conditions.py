"""What else the machine was doing: load, frequencies, turbo, temperatures, read without special rights."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

_CPU = Path("/sys/devices/system/cpu")
_SETTINGS = {
    "governor": _CPU / "cpu0/cpufreq/scaling_governor",
    "intel_no_turbo": _CPU / "intel_pstate/no_turbo",
    "boost": _CPU / "cpufreq/boost",
}


class Conditions(BaseModel):
    """The machine's state at one moment; what the system does not tell is None, and left out of the JSON.

    Attributes:
        background_busy: the share of all cores that was busy while this process slept.
        stolen_by_the_host: the share that a hypervisor gave to others (Linux guests).
        load_average_1_min: processes that ran or waited, mean of the last minute.
        frequency_mhz: of the CPU now.
        governor: Linux's policy for the frequency.
        intel_no_turbo: 1 where turbo is switched off.
        boost: 0 where boost is switched off (AMD and others).
        thermal_c: the highest temperature of each kind of sensor, degrees Celsius.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    background_busy: float
    stolen_by_the_host: float | None = None
    load_average_1_min: float | None = None
    frequency_mhz: float | None = None
    governor: str | None = None
    intel_no_turbo: str | None = None
    boost: str | None = None
    thermal_c: dict[str, float] | None = None


def conditions(seconds: float = 0.5) -> Conditions:
    """The machine's state now; sleeps for `seconds`, to see what others do in that time."""
    busy, stolen = _cpu_shares(seconds)
    found: dict[str, float | str | dict[str, float]] = {"background_busy": busy}
    if stolen is not None:
        found["stolen_by_the_host"] = stolen
    with contextlib.suppress(OSError, AttributeError):
        found["load_average_1_min"] = psutil.getloadavg()[0]
    with contextlib.suppress(OSError, AttributeError, NotImplementedError):
        if frequency := psutil.cpu_freq():
            found["frequency_mhz"] = frequency.current
    for name, file in _SETTINGS.items():
        with contextlib.suppress(OSError):
            found[name] = file.read_text(encoding="ascii").strip()
    if temperatures := _temperatures():
        found["thermal_c"] = temperatures
    return Conditions.model_validate(found)


def _cpu_shares(seconds: float) -> tuple[float, float | None]:
    """The shares of all cores' time that were busy, and that the host stole (None where it is not told)."""
    before = psutil.cpu_times()
    time.sleep(seconds)
    now = psutil.cpu_times()
    spent = {name: after - earlier for name, earlier, after in zip(before._fields, before, now, strict=True)}
    # Linux counts a guest's time in `user` as well.
    total = sum(value for name, value in spent.items() if not name.startswith("guest"))
    if not total:
        return 0.0, None
    idle = spent["idle"] + spent.get("iowait", 0.0)
    stolen = round(spent["steal"] / total, 3) if "steal" in spent else None
    return round(1 - idle / total, 3), stolen


def _temperatures() -> dict[str, float]:
    """The highest of each kind of sensor; psutil has them on Linux and FreeBSD."""
    with contextlib.suppress(OSError, AttributeError):
        sensors = psutil.sensors_temperatures()
        return {name: max(item.current for item in items) for name, items in sensors.items() if items}
    return {}
