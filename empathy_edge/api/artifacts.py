"""`export` makes artifacts of a model and its adapters; `bench` measures them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from empathy_edge.api.calls import AnyPath, Device, called, listed, model_of, path_of, with_fields
from empathy_edge.api.shown import Shown, Table

if TYPE_CHECKING:
    from empathy_edge.bench.latency_summary import LatencySummary
    from empathy_edge.bench.result_file import StandardResult
    from empathy_edge.export.merged import MergeResults
    from empathy_edge.export.verify import CheckedArtifact, UnloadableArtifact, VerifyResults
    from empathy_edge.runs.settings import BenchSettings, ExportSettings


@dataclass(frozen=True)
class ExportedArtifact:
    """One artifact. It stands for its folder: `check`, `bench` and `chat` take it.

    Attributes:
        name: as `gguf-q8_0`.
        folder: with the model's files and `manifest.json`.
        file: the model file that an app opens; of ONNX the one with the graph or its weights.
        size_mb: of all model files, MB (10^6 bytes).
        verified: the comparison with the checkpoint; None where that was not wanted.
    """

    name: str
    folder: Path
    file: Path
    size_mb: float
    verified: CheckedArtifact | UnloadableArtifact | None

    @property
    def ok(self) -> bool | None:
        """Whether it computes what the checkpoint computes, within its bounds; None: not compared."""
        return None if self.verified is None else self.verified.verdict == "PASS"

    @property
    def failed(self) -> tuple[str, ...]:
        """The comparisons that it does not pass, in words."""
        return () if self.verified is None else tuple(self.verified.failed)

    @property
    def mean_kl(self) -> float | None:
        """Mean KL divergence from the checkpoint, nats a token; None where it was not compared."""
        return getattr(self.verified, "mean_kl", None)

    @property
    def top1_agreement(self) -> float | None:
        """Share of response tokens at which the likeliest token is the same; None: not compared."""
        return getattr(self.verified, "top1_agreement", None)

    def __fspath__(self) -> str:
        return os.fspath(self.folder)


@dataclass(frozen=True, repr=False)
class ExportResult(Shown):
    """The artifacts that `export` made, in the order of `to`; also by name: `made["gguf-q8_0"]`.

    Attributes:
        folder: with a folder for each artifact.
        checkpoint: the full-precision model that they were made of: adapters merged, or the base itself.
        merge: how the merged checkpoint compares with the adapter model; None without adapters.
        artifacts: each with its size and how near it is to the checkpoint.
    """

    folder: Path
    checkpoint: Path
    merge: MergeResults | None
    artifacts: tuple[ExportedArtifact, ...]

    @property
    def ok(self) -> bool | None:
        """Whether all artifacts are; None where they were not compared."""
        found = [item.ok for item in self.artifacts]
        return None if None in found else all(found)

    def __iter__(self) -> Iterator[ExportedArtifact]:
        return iter(self.artifacts)

    def __len__(self) -> int:
        return len(self.artifacts)

    def __getitem__(self, name: str) -> ExportedArtifact:
        for item in self.artifacts:
            if item.name == name:
                return item
        raise KeyError(f"{name}; there are {', '.join(item.name for item in self.artifacts)}")

    def _table(self) -> Table:
        rows = []
        for item in self.artifacts:
            top1 = "–" if item.top1_agreement is None else f"{item.top1_agreement:.1%}"
            mean_kl = "–" if item.mean_kl is None else f"{item.mean_kl:.4f}"
            conversion = {None: "not compared", True: "right", False: "wrong"}[item.ok]
            rows.append([item.name, f"{item.size_mb:.1f}", top1, mean_kl, conversion])
        notes = [f"{item.name}: {reason}" for item in self.artifacts for reason in item.failed]
        title = f"Artifacts in {self.folder}, beside their checkpoint"
        return Table(title, ("artifact", "MB", "top-1", "mean KL", "conversion"), rows, notes)


def export(  # noqa: PLR0913 - as the command
    model: AnyPath | None,
    out: AnyPath,
    *,
    adapters: Sequence[AnyPath] = (),
    weights: Sequence[float] = (),
    to: str | Sequence[str] | None = None,
    verify: Literal["quick", "full", "none"] | None = None,
    settings: ExportSettings | None = None,
    template: str | None = None,
    device: Device | None = None,
    update: bool = False,
) -> ExportResult:
    """Merge adapters into a model, write artifacts, and compare each with the full-precision checkpoint.

    An artifact that is not what the checkpoint is, is in the result with `ok` False; no error is raised for
    it. What is there already with the same settings is not made again.

    Args:
        model: a shipped name, a hub id, a checkpoint's folder or a .gguf file: the one that the first
            adapter was trained on. None: the one that the adapter names.
        out: the folder to write into; new, empty, or from an earlier `export`.
        adapters: PEFT folders in the order of training; a folder that `finetune` made stands for its
            adapters.
        weights: by what each adapter's change is multiplied; none: 1 each.
        to: the artifacts, as gguf-q8_0 or ["gguf-f16", "onnx-int4"]. Replaces those of the settings.
        verify: how much is compared: quick (4 prompts, 24 tokens each), full (8 prompts, 48 tokens) or none.
            Replaces that of the settings, which is quick.
        settings: how artifacts are made; by default the defaults.
        template: another chat template than the model's: a name or a Jinja file.
        device: where torch computes; by default what it finds.
        update: make again what was made with other settings or inputs.

    Raises:
        EmpathyEdgeError: an artifact cannot be made of this model.
        VerdictFailed: the merged checkpoint is too far from the adapter model; then no artifact was made.
        PrerequisiteError: a package, memory or disk space is missing.
    """
    from empathy_edge.errors import EmpathyEdgeError
    from empathy_edge.export import artifacts as stage
    from empathy_edge.export.merged import MergeResults
    from empathy_edge.export.verify import ArtifactsDiffer
    from empathy_edge.models.adapter_folder import adapters_of
    from empathy_edge.models.find import base_of_adapter
    from empathy_edge.models.templates import checkpoint_with_template
    from empathy_edge.runs.settings import ExportSettings
    from empathy_edge.runs.stage import results_of

    folder, added = path_of(out), adapters_of(path_of(adapter) for adapter in adapters)
    if model is None and not added:
        raise EmpathyEdgeError("export: give a model or adapters.")
    if weights and len(weights) != len(added):
        raise EmpathyEdgeError(
            f"export: {len(added)} adapters but {len(weights)} weights; give one for each."
        )
    artifacts = None if to is None else [to] if isinstance(to, str) else list(to)
    with called(device):
        chosen = with_fields(settings or ExportSettings(), artifacts=artifacts, verify=verify)
        chosen = _with_calibration_file(chosen)
        named = base_of_adapter(added[0]) if model is None else model_of(model)
        base = checkpoint_with_template(named, template, added)
        try:
            verified = stage.run(
                base=base, adapters=added, out=folder, settings=chosen, weights=weights, update=update
            ).verify
        except ArtifactsDiffer as differ:
            verified = differ.results
        merge = results_of(folder / "merged", MergeResults) if added else None
        made = _artifacts(folder, chosen.artifacts, verified)
    return ExportResult(folder, folder / "merged" if added else base.path, merge, made)


def _with_calibration_file(settings: ExportSettings) -> ExportSettings:
    """The settings with the file of the dialogues that the user named."""
    from empathy_edge.runs.given_data import data_file

    if settings.calibration is None:
        return settings
    return with_fields(settings, calibration=str(data_file(path_of(settings.calibration))))


def _artifacts(
    folder: Path, names: Sequence[str], verified: VerifyResults | None
) -> tuple[ExportedArtifact, ...]:
    from empathy_edge.export.record import read_manifest

    compared = {row.artifact: row for row in verified.artifacts} if verified else {}
    made = []
    for name in names:
        record = read_manifest(folder / name).artifact
        file = folder / name / record.file
        made.append(ExportedArtifact(name, folder / name, file, record.size_mb, compared.get(name)))
    return tuple(made)


@dataclass(frozen=True, repr=False)
class BenchResult(Shown):
    """What `bench` measured on this machine.

    Attributes:
        rows: for each artifact and prompt length: time to first token (s), prefill and decode speed
            (tokens/s) with intervals, memory (MB) and more.
        samples: every sample, the machine and its state, as `bench --json` writes them.
    """

    rows: tuple[LatencySummary, ...]
    samples: StandardResult

    def _table(self) -> Table:
        from empathy_edge.bench.latency_summary import speed_cells, unstable_figures

        rows = []
        for row in self.rows:
            name, size, load, first_token, prefill, decode = speed_cells(row)
            low, high = row.decode_tps_interval
            decode += f" [{low:.0f}, {high:.0f}]"
            rows.append([name, str(row.prompt_tokens), size, load, first_token, prefill, decode])
        notes = [f"Not stable, its interval is wide: {figure}" for figure in unstable_figures(self.rows)]
        columns = ("artifact", "prompt", "MB", "load s", "TTFT s (p95)", "prefill tok/s", "decode tok/s")
        return Table("Latency on this machine (measured-host)", columns, rows, notes)


def bench(
    artifacts: AnyPath | Iterable[AnyPath],
    *,
    prompt_tokens: Sequence[int] | None = None,
    settings: BenchSettings | None = None,
    until_stable: bool = False,
    cold: bool = False,
    template: str | None = None,
) -> BenchResult:
    """Measure load time, first token, prefill and decode speed, and memory of artifacts on this machine.

    Every round runs each artifact in a process of its own; nothing else should run meanwhile.

    Args:
        artifacts: one or several: what `export` returned, artifact folders, .gguf files, shipped names.
        prompt_tokens: lengths of prompts; by default the one of the settings.
        settings: rounds, new tokens, threads; by default the defaults.
        until_stable: go on until every median is known to 3 %, at most 40 rounds.
        cold: drop the model from the page cache before each load, where the system can do that.
        template: another chat template than the artifacts' own: a name or a Jinja file.

    Raises:
        EmpathyEdgeError: an artifact is not there or cannot be run.
        PrerequisiteError: a runtime is not installed.
    """
    from empathy_edge.bench.latency import bench as measure
    from empathy_edge.bench.latency_summary import summaries
    from empathy_edge.models.templates import names_with_template
    from empathy_edge.runs.settings import BenchSettings

    lengths = sorted(set(prompt_tokens)) if prompt_tokens else None
    with called():
        opened = names_with_template([model_of(item) for item in listed(artifacts)], template)
        found = measure(
            opened, settings or BenchSettings(), prompts=lengths, until_stable=until_stable, cold=cold
        )
        return BenchResult(tuple(summaries(found)), found)
