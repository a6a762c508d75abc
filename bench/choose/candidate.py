"""One artifact that might be shipped: what is known of it, from its name alone up to its check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from empathy_edge.bench.check.report import CheckedArtifact
from empathy_edge.bench.choose.limits import MEMORY, Limits, Margin, State, margins, state_of
from empathy_edge.bench.phones.predict import Prediction, memory_limit, predict_workload
from empathy_edge.bench.phones.prediction_settings import PredictionSettings
from empathy_edge.bench.phones.workload import Workload, workload_of, workload_of_tensors
from empathy_edge.devices import Device
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.artifact_names import is_artifact
from empathy_edge.formats.gguf_header import TensorPlace

KINDS = (
    "gguf-q8_0",
    "gguf-q6_k",
    "gguf-q5_k_m",
    "gguf-q5_0",
    "gguf-q4_k_m",
    "gguf-q4_0-gptq",
    "gguf-iq4_nl-gptq",
    "gguf-q4_0",
    "onnx-int8",
    "onnx-int4",
    "litertlm-int8",
)
"""The artifacts that are tried by default."""


def default_kinds(limits: Limits) -> list[str]:
    """`KINDS`, and a mix of types within the size where one is set."""
    kinds = list(KINDS)
    if limits.max_mb is not None and is_artifact(mixed := f"gguf-{int(limits.max_mb)}mb"):
        kinds.append(mixed)
    return kinds


class Planned(Protocol):
    """What an artifact would be, before it is made."""

    @property
    def size_mb(self) -> float:
        """MB (10^6 bytes)."""

    @property
    def size_is_known(self) -> bool:
        """False where the size is a guess."""

    @property
    def tensors(self) -> dict[str, TensorPlace] | None:
        """Of a GGUF; None where they are not known before."""


class Maker(Protocol):
    """Plans and makes artifacts; the export does."""

    def plan(self, name: str) -> Planned:
        """What an artifact would be."""

    def make(self, name: str) -> Path:
        """Its folder; made unless it is there."""

    def size_mb(self, name: str) -> float:
        """Of one that is made."""


@dataclass
class Candidate:
    """An artifact on the way to a choice.

    Attributes:
        name: as `gguf-q4_0`.
        size_mb: of its files, MB; 0 where it cannot be made.
        prediction: on the device; None where there is none.
        margins: the limits beside it.
        made: whether it exists, so that size and prediction are of the file.
        checked: the verdict; None where it was not checked.
        kl: from the reference, nats a token; None where the check did not tell.
        skipped: why it was not made or not checked; empty where it was.
        unknown: what is not known of it, in words.
    """

    name: str
    size_mb: float = 0.0
    prediction: Prediction | None = None
    margins: list[Margin] = field(default_factory=list)
    made: bool = False
    checked: CheckedArtifact | None = None
    kl: float | None = None
    skipped: str = ""
    unknown: list[str] = field(default_factory=list)

    @property
    def state(self) -> State:
        """Whether it keeps to the limits."""
        return state_of(self.margins)

    @property
    def needs_unknown_memory(self) -> bool:
        """Whether the device's memory is a limit, and what the artifact needs of it cannot be predicted."""
        return any(margin.miss is None and margin.what.startswith(MEMORY) for margin in self.margins)

    @property
    def decode_tps(self) -> float:
        """Predicted tokens per second; 0 where unknown."""
        found = self.prediction.decode_tps if self.prediction else None
        return found.value if found else 0.0

    def kept(self, max_kl: float | None) -> bool:
        """Whether it kept the empathy: PASS, or undecided and near enough for the user."""
        if self.checked is None or self.checked.verdict == "FAIL":
            return False
        if self.checked.verdict == "PASS":
            return True
        return max_kl is not None and self.kl is not None and self.kl <= max_kl


def planned(
    name: str, maker: Maker, device: Device, limits: Limits, settings: PredictionSettings
) -> Candidate:
    """What is known before anything is made."""
    candidate = Candidate(name)
    try:
        plan = maker.plan(name)
    except EmpathyEdgeError as error:
        candidate.skipped = f"cannot be made: {' '.join(str(error).split())}"
        return candidate
    candidate.size_mb = plan.size_mb
    if not plan.size_is_known:
        candidate.unknown.append("its size, speed and memory, before it is made")
    elif plan.tensors is None:
        candidate.unknown.append("its speed and memory, before it is made")
    else:
        tensors = plan.tensors
        _predict(candidate, lambda: workload_of_tensors(tensors, name, plan.size_mb), device, settings)
    known_mb = plan.size_mb if plan.size_is_known else None
    candidate.margins = margins(known_mb, candidate.prediction, limits, memory_limit(device)[0])
    return candidate


def measure_made(
    candidate: Candidate, maker: Maker, device: Device, limits: Limits, settings: PredictionSettings
) -> Path:
    """Make it, and replace what was planned by what it is."""
    folder = maker.make(candidate.name)
    candidate.made = True
    candidate.size_mb = maker.size_mb(candidate.name)
    candidate.unknown.clear()
    _predict(candidate, lambda: workload_of(str(folder)), device, settings)
    candidate.margins = margins(candidate.size_mb, candidate.prediction, limits, memory_limit(device)[0])
    return folder


def _predict(
    candidate: Candidate, workload: Callable[[], Workload], device: Device, settings: PredictionSettings
) -> None:
    try:
        candidate.prediction = predict_workload(workload(), device, settings)
    except EmpathyEdgeError as error:
        candidate.prediction = None
        candidate.unknown.append(f"its speed and memory ({' '.join(str(error).split())})")
