"""Phones and boards: one YAML each, every number with its source."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from empathy_edge.errors import EmpathyEdgeError


@dataclass(frozen=True)
class Figure:
    """One number with its unit (in the field's name), its kind and where it comes from."""

    value: float
    kind: str
    source: str


@dataclass(frozen=True)
class Device:
    """A phone or board: what it is, and what is known of its speed and memory."""

    id: str
    name: str
    soc: str
    figures: dict[str, Figure]


def device_ids() -> list[str]:
    """The ids of all profiles, sorted."""
    files = resources.files("empathy_edge.devices").iterdir()
    return sorted(item.name.removesuffix(".yaml") for item in files if item.name.endswith(".yaml"))


def load_device(device_id: str) -> Device:
    """Load one profile; a number without a source is refused."""
    if device_id not in device_ids():
        raise EmpathyEdgeError(f"No device '{device_id}'. There are: {', '.join(device_ids())}.")
    file = resources.files("empathy_edge.devices") / f"{device_id}.yaml"
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    figures = {}
    for field, item in content["figures"].items():
        if not item.get("source") or item.get("kind") not in ("measured", "datasheet", "derived"):
            raise EmpathyEdgeError(f"devices/{device_id}.yaml: '{field}' needs a source and a kind.")
        figures[field] = Figure(float(item["value"]), item["kind"], item["source"])
    return Device(device_id, content["name"], content["soc"], figures)
