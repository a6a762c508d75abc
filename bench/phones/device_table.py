"""The known devices, and what is known of one, as tables."""

from __future__ import annotations

from empathy_edge.bench.phones.specification import can_describe
from empathy_edge.console import out, table
from empathy_edge.devices import Device, OtherRun, Run, device_ids, load_device


def show_all() -> None:
    """Print every device, a row each."""
    rows = []
    for name in device_ids():
        device = load_device(name)
        rows.append([device.id, device.name, device.soc, device.tier, _known_of(device)])
    _print("Devices", ["id", "name", "SoC", "class", "speed of llama.cpp on its CPU"], rows)


def show_one(name: str) -> None:
    """Print every number of a device with its kind and its source."""
    device = load_device(name)
    rows = []
    for label, fact in (("cores", device.cores), ("isa", device.isa)):
        if fact:
            rows.append([label, fact.value, fact.kind, fact.source])
    if device.clusters and not device.cores:
        words = [f"{item.cores}x {item.core} {item.ghz:g} GHz" for item in device.clusters.value]
        rows.append(["cores", " + ".join(words), device.clusters.kind, device.clusters.source])
    for key, figure in device.figures.items():
        rows.append([key, f"{figure.value:g}", figure.kind, figure.source])
    for run in device.runs:
        rows += _speeds(run, run.model)
    for other in device.elsewhere:
        rows += _speeds(other, f"{other.model}, {other.runtime}")
    _print(f"{device.name} ({device.soc})", ["figure", "value", "kind", "source"], rows)


def _known_of(device: Device) -> str:
    """What predictions for this device would be made from."""
    if any(name.startswith("decode_gb") for name in device.figures):
        return "profile"
    if any(run.decode_tps for run in device.runs):
        return "a run"
    return "specification" if can_describe(device) else "unknown"


def _speeds(run: Run | OtherRun, label: str) -> list[list[str]]:
    rows = []
    for name, speed in (("prefill", run.prefill_tps), ("decode", run.decode_tps)):
        if speed is not None:
            rows.append([f"{name} tokens/s", f"{speed:g}: {label}", run.kind, run.source])
    return rows


def _print(title: str, columns: list[str], rows: list[list[str]]) -> None:
    result = table(title, columns, rows)
    for column in result.columns:
        column.justify, column.overflow = "left", "fold"
    out.print(result)
