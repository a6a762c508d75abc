"""Phones and boards, one YAML each: every number has a source, and what is unknown is left out."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from empathy_edge.errors import EmpathyEdgeError, did_you_mean, did_you_mean_path

Kind = Literal["measured", "datasheet", "derived", "assumed"]
"""Measured; published; computed from published figures; or taken as usual, since no document that was read
says it, which the source then tells."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Record):
    """One number with its unit (in the field's name), its kind and where it comes from."""

    value: float
    kind: Kind
    source: str = Field(min_length=8)


class Fact(_Record):
    """Words about the hardware, with their source."""

    value: str
    kind: Kind
    source: str = Field(min_length=8)


class Cluster(_Record):
    """Cores of one kind: how many, their highest clock in GHz, and the name of their design."""

    cores: int = Field(ge=1)
    ghz: float = Field(gt=0)
    core: str


class Clusters(_Record):
    """The cores of a chip, with their source."""

    value: list[Cluster] = Field(min_length=1)
    kind: Kind
    source: str = Field(min_length=8)


class Run(_Record):
    """One measured run of llama.cpp on the CPU, from which the device's speed can be told.

    Attributes:
        model: its name and quantization.
        decode_gb: ggml type → GB (10^9 bytes) read for each new token (see `bench/phones/workload.py`).
        prefill_gflop: ggml type → GFLOP for each prompt token.
        layers: transformer blocks.
        extra: whether layers do much beyond attention and MLP.
        decode_tps: new tokens per second.
        prefill_tps: prompt tokens per second.
        threads: of the CPU.
        kind: how the figures came about.
        source: where they come from.
    """

    model: str
    decode_gb: dict[str, float]
    prefill_gflop: dict[str, float] = {}
    layers: int
    extra: bool = False
    decode_tps: float | None = None
    prefill_tps: float | None = None
    threads: int | None = None
    kind: Literal["measured"] = "measured"
    source: str = Field(min_length=8)


class OtherRun(_Record):
    """A speed that another runtime, or an unknown model, reached; shown, but nothing is predicted from it."""

    runtime: str
    model: str
    decode_tps: float | None = None
    prefill_tps: float | None = None
    kind: Literal["measured"] = "measured"
    source: str = Field(min_length=8)


class Device(_Record):
    """A phone or board: what it is, and what is known of its speed and memory.

    Attributes:
        id: the file's name, without `.yaml`.
        name: the maker's.
        soc: the chip.
        tier: flagship, mid-range, low, iphone or board.
        cores: how many, and their clocks.
        isa: the instructions that matter for llama.cpp.
        clusters: the same cores as numbers, for predictions where nothing was measured.
        figures: `memory_bandwidth_peak_gb_per_s`, `ram_gb`, `app_memory_limit_mb` (what the system gives one
            app), `largest_allocation_mb` (what was seen to run at full speed), and a fitted profile:
            `decode_gb_per_s.TYPE`, `decode_layer_ms`, `decode_extra_layer_ms`, `prefill_gflop_per_s.TYPE`,
            `prefill_extra_layer_ms`.
        runs: measured runs of llama.cpp on the CPU.
        elsewhere: speeds of other runtimes or unknown models.
        note: anything else.
    """

    id: str
    name: str
    soc: str
    tier: Literal["flagship", "mid-range", "low", "iphone", "board"]
    cores: Fact | None = None
    isa: Fact | None = None
    clusters: Clusters | None = None
    figures: dict[str, Figure] = {}
    runs: list[Run] = []
    elsewhere: list[OtherRun] = []
    note: str = ""


def device_ids() -> list[str]:
    """The ids of all profiles, sorted."""
    files = resources.files("empathy_edge.devices").iterdir()
    return sorted(item.name.removesuffix(".yaml") for item in files if item.name.endswith(".yaml"))


def load_device(device_id: str) -> Device:
    """Load one profile by its id, or a YAML file of the same layout.

    Raises:
        EmpathyEdgeError: no such device; a number without a source or a kind; an unknown field.
    """
    if device_id.endswith(".yaml"):
        return _load_file(device_id)
    if device_id not in device_ids():
        raise EmpathyEdgeError(
            f"No device '{device_id}'.{did_you_mean(device_id, device_ids())}\n"
            f"  There are: {', '.join(device_ids())}; or give a .yaml file."
        )
    return _load_shipped(device_id)


@lru_cache(maxsize=64)
def _load_shipped(device_id: str) -> Device:
    file = resources.files("empathy_edge.devices") / f"{device_id}.yaml"
    return parse_device(file.read_text(encoding="utf-8"), device_id, f"devices/{device_id}.yaml")


def _load_file(path: str) -> Device:
    try:
        with open(path, encoding="utf-8") as handle:
            text = handle.read()
    except (OSError, UnicodeDecodeError) as error:
        raise EmpathyEdgeError(f"{path}: cannot be read: {error}.{did_you_mean_path(path)}") from None
    return parse_device(text, path.rsplit("/", 1)[-1].removesuffix(".yaml"), path)


def parse_device(text: str, device_id: str, where: str) -> Device:
    """Check a profile's YAML; all its faults are reported at once."""
    try:
        content: dict[str, Any] = yaml.safe_load(text)
        if not isinstance(content, dict):
            raise EmpathyEdgeError(f"{where}: is not a device profile; see devices/galaxy-s23.yaml for one.")
        return Device(**{**content, "id": device_id})
    except yaml.YAMLError as error:
        raise EmpathyEdgeError(f"{where}: is not YAML: {' '.join(str(error).split())}.") from None
    except ValidationError as error:
        faults = [
            f"  {'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()
        ]
        raise EmpathyEdgeError(
            f"{where}: every number needs a value, a kind ({', '.join(get_args(Kind))}) and a source:\n"
            + "\n".join(faults)
        ) from None
