"""The JSON that `bench --json` writes: raw samples, and the machine, versions and conditions they come from.

docs/formats.md describes the layout. Times are in seconds, rates (`_tps`) in tokens per second, memory in MB
(10^6 bytes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from empathy_edge.bench.conditions import Conditions
from empathy_edge.bench.worker_records import GridSample, GridSettings, MemoryByPhase
from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.system.files import read_json, write_json

FORMAT: Literal["empathy-edge bench 2"] = "empathy-edge bench 2"
"""The layout and its version."""
MEASURED_HOST: Literal["measured-host"] = "measured-host"
"""The label of every figure that was measured on this machine."""


class Record(BaseModel):
    """A record of the file; what is not set is not written."""

    model_config = ConfigDict(frozen=True, extra="forbid")


SettingsKind = TypeVar("SettingsKind")


class BenchResult(Record, Generic[SettingsKind]):
    """What the results of all suites have in common.

    Attributes:
        format: the layout and its version.
        label: where the figures come from.
        suite: what was run.
        settings: of the suite.
        machine: the CPU, cores, memory and system.
        versions: of the libraries.
    """

    format: Literal["empathy-edge bench 2"]
    label: Literal["measured-host"]
    suite: str
    settings: SettingsKind
    machine: Mapping[str, object]
    versions: dict[str, str]


class ConditionsAround(Record):
    """The machine's state before and after all rounds."""

    before: Conditions
    after: Conditions


@dataclass(frozen=True, kw_only=True)
class StandardSettings(GridSettings):
    """The worker's settings, and how many rounds were run."""

    repetitions: int


class LengthSamples(Record):
    """The samples at one prompt length, one of each round."""

    prompt_tokens: int
    samples: list[GridSample]


class ArtifactSamples(Record):
    """One artifact's rounds.

    Attributes:
        artifact: the name of its file or folder.
        size_mb: of the model's files.
        runtime: the class that ran it.
        threads: of the CPU.
        load_s: of each round.
        tokenize_us_per_token: of each round, microseconds.
        tests: samples by prompt length.
        memory_mb: before the model was loaded and after, medians over the rounds. In files of earlier
            versions also after prefill and decode, of the longest prompt.
    """

    artifact: str
    size_mb: float
    runtime: str
    threads: int
    load_s: list[float]
    tokenize_us_per_token: list[float]
    tests: list[LengthSamples]
    memory_mb: MemoryByPhase

    def memory_at(self, test: LengthSamples) -> MemoryByPhase:
        """At each phase, with the prompt length of one of its tests."""
        return {**self.memory_mb, **median_memory([sample.memory_mb for sample in test.samples])}


def median_memory(rounds: Sequence[MemoryByPhase]) -> MemoryByPhase:
    """Each figure's median over several rounds."""
    medians: MemoryByPhase = {}
    for phase, figures in rounds[0].items():
        medians[phase] = {name: median(one[phase][name] for one in rounds) for name in figures}
    return medians


class StandardResult(BenchResult[StandardSettings]):
    """The standard suite: prefill and decode of fixed lengths."""

    suite: Literal["standard"]
    conditions: ConditionsAround
    artifacts: list[ArtifactSamples]


def read_result(path: Path) -> StandardResult:
    """A result of the standard suite that `bench --json` wrote.

    Raises:
        EmpathyEdgeError: it is another file, or of another version.
    """
    try:
        result = StandardResult.model_validate(read_json(path))
    except ValidationError:
        raise EmpathyEdgeError(
            f"{path}: is not what `bench --json` of this version writes ({FORMAT}, suite standard)."
        ) from None
    names = [row.artifact for row in result.artifacts]
    kept = [row for row in result.artifacts if names.count(row.artifact) == 1]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:  # earlier versions wrote such
            say(f"{path}: has several artifacts with the name {name}; they are left out.")
    return result.model_copy(update={"artifacts": kept})


def write_result(path: Path, result: BenchResult[Any]) -> None:
    """Write a result of any suite."""
    write_json(path, as_json(result))


def as_json(result: BenchResult[Any]) -> dict[str, Any]:
    """A result of any suite as it is written."""
    return result.model_dump(mode="json", exclude_unset=True)
