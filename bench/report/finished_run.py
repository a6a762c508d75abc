"""A finished run, read from its folder: what the report tells about it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from empathy_edge.bench.browser.results import BesideNative, beside_native, read_browser_results
from empathy_edge.bench.check.report import CheckedArtifact, CheckReport
from empathy_edge.bench.check.stage import CheckResults
from empathy_edge.bench.latency import LatencyResults
from empathy_edge.bench.latency_summary import LatencySummary
from empathy_edge.bench.release.responses import ResponseRow, by_id, known_responses, read_rows
from empathy_edge.bench.release.results import FULL, KNOWN, ReleaseResults
from empathy_edge.bench.release.stage import SHIPPED
from empathy_edge.bench.verified import MergeCheck, VerifiedArtifact, read_verified
from empathy_edge.distill.distill_results import DistillResults
from empathy_edge.distill.own_pairs import OwnPairsResults
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.finetune.training_results import DpoResults, SftResults
from empathy_edge.formats.dialogue import Dialogue, read_dialogues
from empathy_edge.runs.recipe import Recipe
from empathy_edge.runs.run_folder import RunFolder
from empathy_edge.runs.stage import results_of
from empathy_edge.system.files import MANIFEST, read_json

RUN = "RUN"
"""Stands for the run's folder where its path is one of this machine only."""

SAMPLES = 8
"""How many test prompts are shown with every arm's response, spread evenly over the split."""


class _Record(BaseModel):
    """A part of a run's files; there may be more in them than is needed here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


R = TypeVar("R", bound=_Record)


class StageCost(_Record):
    """What a stage took: seconds, and the peak memory of the process and its children (MB, 10^6 bytes)."""

    seconds: float
    peak_memory_mb: float


class RunRecord(_Record):
    """run.json: the recipe, and what each stage took."""

    recipe: Recipe
    stages: dict[str, StageCost] = {}


class FileRecord(_Record):
    """An input or output of a stage: its name (inputs only) and hash."""

    path: str = ""
    sha256: str


class MachineRecord(_Record):
    """The machine that a stage ran on, as `system.machine` describes it; memory in GiB."""

    cpu: str
    cores: int | None
    memory_gb: int | float
    system: str
    python: str


class Manifest(_Record):
    """A stage's manifest.

    Attributes:
        created: when the stage was finished (ISO 8601).
        seconds: how long it took.
        settings: everything that its result depends on.
        inputs: by role.
        outputs: by path in the stage's folder.
        results: as JSON, for tables that show all of them.
        versions: of the packages.
        machine: what it ran on.
    """

    created: str
    seconds: float
    settings: dict[str, Any]
    inputs: dict[str, FileRecord]
    outputs: dict[str, FileRecord]
    results: dict[str, Any]
    versions: dict[str, str]
    machine: MachineRecord


@dataclass(frozen=True)
class Sample:
    """A test dialogue and what every arm answered."""

    dialogue: Dialogue
    responses: dict[str, ResponseRow]


@dataclass(frozen=True)
class ArtifactRow:
    """All that a run knows of one artifact.

    Attributes:
        checked: its verdict.
        latency: its size, speed and memory; None where they were not measured.
        verified: its distance from the checkpoint; None where it was made again since.
    """

    checked: CheckedArtifact
    latency: LatencySummary | None
    verified: VerifiedArtifact | None

    @property
    def name(self) -> str:
        """The artifact's."""
        return self.checked.artifact

    @property
    def size_mb(self) -> float | None:
        """Of the model's files, MB (10^6 bytes); None where it is not known."""
        return self.latency.size_mb if self.latency else None

    @property
    def memory_mb(self) -> dict[str, float] | None:
        """After decoding, MB by kind; None where the system does not tell."""
        return (self.latency.memory_mb.get("after_decode") if self.latency else None) or None


@dataclass(frozen=True)
class FinishedRun:
    """A run whose stages are all done.

    Attributes:
        folder: where its stages are.
        recipe: its settings.
        costs: by stage, for those that were recorded.
        manifests: by stage.
        distill: what training rows were made.
        sft: the first step of fine-tuning; None where the recipe leaves it out.
        own_pairs: the student's own preference pairs; None where there are none.
        dpo: the second step of fine-tuning; None where the recipe leaves it out.
        merge: how far the merged checkpoint is from the adapter model.
        verified: each artifact's distance from the merged checkpoint.
        latency: each artifact's latency and memory.
        release: the fine-tuned model beside its base.
        check: the verdicts on the artifacts.
        phones: what browsers of phones measured, with the ratio to the host's figures.
    """

    folder: RunFolder
    recipe: Recipe
    costs: dict[str, StageCost]
    manifests: dict[str, Manifest]
    distill: DistillResults
    sft: SftResults | None
    own_pairs: OwnPairsResults | None
    dpo: DpoResults | None
    merge: MergeCheck
    verified: dict[str, VerifiedArtifact]
    latency: list[LatencySummary]
    release: ReleaseResults
    check: CheckReport
    phones: list[BesideNative]

    @property
    def shown_folder(self) -> str:
        """The run's folder in commands: as it was given, if relative, else `RUN`.

        An absolute path is of one machine, and may name its user.
        """
        return RUN if self.folder.root.is_absolute() else self.folder.root.as_posix()

    @property
    def about_folder(self) -> str:
        """What `RUN` stands for in the commands; empty where the folder itself is in them."""
        return "RUN is the folder of this run." if self.shown_folder == RUN else ""

    @property
    def command(self) -> str:
        """The command that made the run."""
        command = f"empathy-edge run {self.recipe.name}"
        if self.recipe.data != "sample":
            command += f" --data {shlex.quote(self.manifests['distill'].inputs['data'].path)}"
        if self.shown_folder not in (RUN, f"runs/{self.recipe.name}"):
            command += f" --out {shlex.quote(self.shown_folder)}"
        return command

    @property
    def artifacts(self) -> list[ArtifactRow]:
        """The checked artifacts, the largest first; those of unknown size at the end."""
        measured = {row.artifact: row for row in self.latency}
        rows = []
        for item in self.check.artifacts:
            name = item.artifact
            rows.append(ArtifactRow(item, measured.get(name), self.verified.get(name)))
        return sorted(rows, key=lambda row: -(row.size_mb or 0.0))

    @property
    def trained(self) -> dict[str, SftResults | DpoResults]:
        """The steps of fine-tuning, in their order."""
        steps = {"sft": self.sft, "dpo": self.dpo}
        return {step: results for step, results in steps.items() if results is not None}

    def samples(self) -> list[Sample]:
        """Some of the prompts of the release with every arm's response."""
        shipped, test = self.folder.release / SHIPPED, self.folder.distill / "test.jsonl"
        file = shipped if self.release.shipped_prompts else test
        dialogues = read_dialogues(file)[: self.release.prompts]
        responses = {}
        for arm in self.release.format:
            rows = (
                known_responses(dialogues, self.recipe.distill.reference)
                if arm == KNOWN
                else read_rows(self.folder.release / "responses" / f"{arm}.jsonl")
            )
            responses[arm] = by_id(rows or [])
        answered = [dialogue for dialogue in dialogues if dialogue.id in responses[FULL]]
        step = max(1, len(answered) // SAMPLES)
        return [
            Sample(dialogue, {arm: responses[arm][dialogue.id] for arm in responses})
            for dialogue in answered[::step][:SAMPLES]
        ]


def parts_of(run_folder: Path) -> dict[str, Path]:
    """The stages of this run → their folders; a recipe can leave out some.

    Raises:
        EmpathyEdgeError: a stage is not finished.
    """
    folder = RunFolder(run_folder)
    parts = {
        "distill": folder.distill,
        "sft": folder.sft,
        "own-pairs": folder.own_pairs,
        "dpo": folder.dpo,
        "merged": folder.merged,
        "verify": folder.verify,
        "bench": folder.bench,
        "release": folder.release,
        "check": folder.check,
    }
    recipe = _read_record(folder).recipe
    left_out = {"sft", "dpo"} - set(recipe.steps)
    if "own" not in recipe.dpo.pairs or "dpo" in left_out:
        left_out.add("own-pairs")
    parts = {name: part for name, part in parts.items() if name not in left_out}
    missing = [
        part.relative_to(run_folder).as_posix() for part in parts.values() if not (part / MANIFEST).is_file()
    ]
    if missing:
        raise EmpathyEdgeError(f"{run_folder}: not a finished run: {', '.join(missing)} is missing.")
    return parts


def read_run(run_folder: Path) -> FinishedRun:
    """Read everything that the report tells.

    Raises:
        EmpathyEdgeError: a stage is not finished, or was made by another version.
    """
    folder = RunFolder(run_folder)
    record = _read_record(folder)
    manifests = {name: _read(part / MANIFEST, Manifest) for name, part in parts_of(run_folder).items()}
    latency = results_of(folder.bench, LatencyResults).artifacts
    return FinishedRun(
        folder=folder,
        recipe=record.recipe,
        costs=record.stages,
        manifests=manifests,
        distill=results_of(folder.distill, DistillResults),
        sft=results_of(folder.sft, SftResults) if "sft" in manifests else None,
        own_pairs=results_of(folder.own_pairs, OwnPairsResults) if "own-pairs" in manifests else None,
        dpo=results_of(folder.dpo, DpoResults) if "dpo" in manifests else None,
        merge=MergeCheck.model_validate(manifests["merged"].results),
        verified=read_verified(folder.verify),
        latency=latency,
        release=results_of(folder.release, ReleaseResults),
        check=results_of(folder.check, CheckResults).report,
        phones=beside_native(read_browser_results(folder.phone), latency),
    )


def _read_record(folder: RunFolder) -> RunRecord:
    return _read(folder.record, RunRecord)


def _read(file: Path, kind: type[R]) -> R:
    try:
        return kind.model_validate(read_json(file))
    except ValidationError as error:
        first = str(error).splitlines()[0]
        raise EmpathyEdgeError(
            f"{file}: was written by another version of empathy-edge.\n  ({first})"
        ) from None
