"""What else the machine was doing: load, frequencies, turbo, temperatures; whatever can be read without rights."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import psutil

_CPU = Path("/sys/devices/system/cpu")
_SETTINGS = {
    "governor": _CPU / "cpu0/cpufreq/scaling_governor",
    "intel_no_turbo": _CPU / "intel_pstate/no_turbo",
    "boost": _CPU / "cpufreq/boost",
}


def conditions(seconds: float = 0.5) -> dict[str, Any]:
    """The machine's state now; a key is left out where the system does not tell.

    `background_busy` is the share of all cores that was busy during `seconds` in which this process slept,
    `stolen_by_the_host` (Linux guests) the share that a hypervisor gave to others.
    """
    before = psutil.cpu_times()
    time.sleep(seconds)
    spent = {
        name: now - then for name, now, then in zip(before._fields, psutil.cpu_times(), before, strict=True)
    }
    found: dict[str, Any] = {}
    # Linux counts a guest's time in `user` as well.
    total = sum(value for name, value in spent.items() if not name.startswith("guest"))
    idle = spent["idle"] + spent.get("iowait", 0.0)
    found["background_busy"] = round(1 - idle / total, 3) if total else 0.0
    if "steal" in spent and total:
        found["stolen_by_the_host"] = round(spent["steal"] / total, 3)
    with contextlib.suppress(OSError, AttributeError):
        found["load_average_1_min"] = psutil.getloadavg()[0]
    with contextlib.suppress(OSError, AttributeError, NotImplementedError):
        if frequency := psutil.cpu_freq():
            found["frequency_mhz"] = frequency.current
    for name, file in _SETTINGS.items():
        with contextlib.suppress(OSError):
            found[name] = file.read_text(encoding="ascii").strip()
    if zones := _temperatures():
        found["thermal_c"] = zones
    return found


def _temperatures() -> dict[str, float]:
    """The highest of each kind of sensor; psutil has them on Linux and FreeBSD."""
    with contextlib.suppress(OSError, AttributeError):
        sensors = psutil.sensors_temperatures()
        return {name: max(item.current for item in items) for name, items in sensors.items() if items}
    return {}
