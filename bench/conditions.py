"""What else the machine was doing: load, frequencies, turbo, temperatures; whatever can be read without rights."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

_CPU = Path("/sys/devices/system/cpu")


def conditions(seconds: float = 0.5) -> dict[str, Any]:
    """The machine's state now; a key is left out where the system does not tell.

    `background_busy` is the share of all cores that was busy during `seconds` in which this process slept.
    """
    found: dict[str, Any] = {}
    before = _cpu_times()
    time.sleep(seconds)
    after = _cpu_times()
    if before and after:
        total = sum(after) - sum(before)
        idle = after[3] + after[4] - before[3] - before[4]
        found["background_busy"] = round(1 - idle / total, 3) if total else 0.0
        if len(after) > 7 and total:
            found["stolen_by_the_host"] = round((after[7] - before[7]) / total, 3)
    with contextlib.suppress(OSError):
        found["load_average_1_min"] = float(Path("/proc/loadavg").read_text().split()[0])
    for name, file in {
        "governor": _CPU / "cpu0/cpufreq/scaling_governor",
        "frequency_khz": _CPU / "cpu0/cpufreq/scaling_cur_freq",
        "intel_no_turbo": _CPU / "intel_pstate/no_turbo",
        "boost": _CPU / "cpufreq/boost",
    }.items():
        with contextlib.suppress(OSError):
            found[name] = file.read_text().strip()
    zones = {}
    for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*")):
        with contextlib.suppress(OSError, ValueError):
            zones[(zone / "type").read_text().strip()] = int((zone / "temp").read_text()) / 1000
    if zones:
        found["thermal_c"] = zones
    return found


def _cpu_times() -> list[int]:
    """Jiffies of all cores: user, nice, system, idle, iowait, irq, softirq, steal (proc(5))."""
    with contextlib.suppress(OSError, ValueError):
        return [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return []
