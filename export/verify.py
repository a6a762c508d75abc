"""Does an artifact compute what its checkpoint computes? Token ids, greedy text, top-1, KL divergence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from rich.markup import escape

from empathy_edge.console import out as stdout
from empathy_edge.console import progress, say, table
from empathy_edge.errors import EmpathyEdgeError, VerdictFailed
from empathy_edge.export import merged
from empathy_edge.export.fidelity import fidelity_of
from empathy_edge.export.fidelity_bounds import NOTABLE_MEAN_KL, Bounds, bounds_of
from empathy_edge.export.gguf.app_warnings import app_warnings, has_ggufdoctor
from empathy_edge.export.record import ArtifactRecord, read_manifest
from empathy_edge.export.verify_reference import Extent, Reference, reference_of
from empathy_edge.formats.artifact_names import is_artifact
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION
from empathy_edge.runs.stage import Results, open_stage, results_of
from empathy_edge.runtimes import default_threads, open_runtime
from empathy_edge.system.files import MANIFEST, read_json, write_json

WHAT_RIGHT_MEANS = (
    "  right: it computes what the checkpoint computes, up to the rounding of its format. Whether it kept "
    "its empathy is another question: empathy-edge check"
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


EXTENTS = {"quick": Extent(prompts=4, response_tokens=24), "full": Extent(prompts=8, response_tokens=48)}

CONTEXT = 1024
"""Tokens in the context window in which an artifact is opened."""


class CheckedArtifact(_Frozen):
    """An artifact beside its checkpoint.

    Attributes:
        artifact: its name.
        sha256: of its model file.
        size_mb: of its model files.
        failed: the checks that it does not pass, in words.
        golden_ids_equal: whether the golden conversation has the same token ids.
        stop_ids_equal: whether its own files name the same end tokens.
        greedy_same: for how many prompts it gives the same greedy response.
        top1_agreement: the share of response tokens at which the likeliest token is the same.
        mean_kl: mean KL divergence from the checkpoint in nats a token.
        p99_kl: its 99th percentile.
        positions: how many response tokens were compared.
        bounds: that it must keep.
        verdict: PASS without failed checks.
        warnings: what apps would do wrong with it, and the fix, one line each; no part of the verdict.
    """

    artifact: str
    sha256: str
    size_mb: float
    failed: list[str]
    golden_ids_equal: bool
    stop_ids_equal: bool
    greedy_same: int
    top1_agreement: float
    mean_kl: float
    p99_kl: float
    positions: int
    bounds: Bounds
    verdict: Literal["PASS", "FAIL"]
    warnings: list[str] = []


class UnloadableArtifact(_Frozen):
    """An artifact that cannot be compared, mostly since its runtime cannot open it; `failed` says why."""

    artifact: str
    sha256: str
    size_mb: float
    failed: list[str]
    verdict: Literal["FAIL"]


class MergeFigures(_Frozen):
    """What the merge found that made the checkpoint, as in `MergeResults`."""

    merge_max_abs_logit_difference: float
    merge_positions: int


class VerifyResults(Results):
    """What verify found.

    Attributes:
        artifacts: one row each, in the order in which they were given.
        merge: None for a checkpoint that `export` did not merge.
    """

    artifacts: list[CheckedArtifact | UnloadableArtifact]
    merge: MergeFigures | None


class ArtifactsDiffer(VerdictFailed):
    """An artifact is beyond its bounds.

    Attributes:
        results: of all artifacts.
    """

    def __init__(self, message: str, results: VerifyResults) -> None:
        super().__init__(
            message,
            "do not ship what failed; make it in another way (--to, --template, --converter, --exporter). "
            "What each check means: docs/export.md",
        )
        self.results = results


def run(
    *,
    checkpoint: Path,
    artifacts: list[Path],
    out: Path,
    mode: Literal["quick", "full"] = "quick",
    update: bool = False,
) -> VerifyResults:
    """Compare each artifact with the checkpoint on torch; writes `verify.json`.

    Args:
        checkpoint: the merged checkpoint folder.
        artifacts: artifact folders.
        out: the stage's folder.
        mode: how much is compared: one of `EXTENTS`.
        update: do it again where inputs changed.

    Raises:
        ArtifactsDiffer: an artifact is beyond its bounds; all figures are in `verify.json`.
    """
    extent = EXTENTS[mode]
    stage = open_stage(
        out,
        "verify",
        settings=asdict(extent),
        inputs={"checkpoint": checkpoint, **{folder.name: folder for folder in artifacts}},
        files=("verify.json",),
        update=update,
    )
    if stage.done:
        results = stage.results(VerifyResults)
    else:
        rows = _compare(checkpoint, artifacts, extent)
        write_json(out / "verify.json", [row.model_dump(mode="json") for row in rows])
        results = VerifyResults(artifacts=rows, merge=_merge_figures(checkpoint))
        stage.finish(results)
    _show(results, extent.prompts)
    failed = [row for row in results.artifacts if row.verdict == "FAIL"]
    if failed:
        reasons = ", ".join(f"{row.artifact} ({'; '.join(row.failed)})" for row in failed)
        raise ArtifactsDiffer(
            f"{reasons}: not the model that was exported; see {out / 'verify.json'}.", results
        )
    return results


def _compare(
    checkpoint: Path, artifacts: list[Path], extent: Extent
) -> list[CheckedArtifact | UnloadableArtifact]:
    reference = reference_of(checkpoint, extent)
    rows: list[CheckedArtifact | UnloadableArtifact] = []
    with progress() as bar:
        task = bar.add_task("verify", total=len(artifacts))
        for folder in artifacts:
            bar.update(task, note=folder.name)
            rows.append(_check(folder, reference))
            bar.advance(task)
    return rows


def _check(folder: Path, reference: Reference) -> CheckedArtifact | UnloadableArtifact:
    """Compare one artifact with the checkpoint."""
    record = read_manifest(folder).artifact
    try:
        runtime = open_runtime(folder, threads=default_threads(), context=CONTEXT, exact_logits=True)
    except EmpathyEdgeError as error:
        return _unloadable(folder, record, f"does not load: {error}")
    try:
        fidelity = fidelity_of(runtime, reference.replies)
    except EmpathyEdgeError as error:
        return _unloadable(folder, record, str(error))
    golden_ids_equal = runtime.encode(GOLDEN_CONVERSATION) == reference.golden_ids
    stops = runtime.declared_stop_ids
    stop_ids_equal = reference.end_of_turn in stops and stops <= reference.stop_ids
    runtime.close()
    bounds = bounds_of(record)
    failed = []
    if not golden_ids_equal:
        failed.append("other token ids for the golden conversation")
    if not stop_ids_equal:
        failed.append("other stop tokens")
    failed += fidelity.broken(bounds)
    return CheckedArtifact(
        artifact=folder.name,
        sha256=record.sha256,
        size_mb=record.size_mb,
        failed=failed,
        golden_ids_equal=golden_ids_equal,
        stop_ids_equal=stop_ids_equal,
        greedy_same=fidelity.greedy_same,
        top1_agreement=fidelity.top1_agreement,
        mean_kl=fidelity.mean_kl,
        p99_kl=fidelity.p99_kl,
        positions=fidelity.positions,
        bounds=bounds,
        verdict="FAIL" if failed else "PASS",
        warnings=app_warnings(folder / record.file) if record.format == "gguf" else [],
    )


def _unloadable(folder: Path, record: ArtifactRecord, reason: str) -> UnloadableArtifact:
    return UnloadableArtifact(
        artifact=folder.name, sha256=record.sha256, size_mb=record.size_mb, failed=[reason], verdict="FAIL"
    )


def _merge_figures(checkpoint: Path) -> MergeFigures | None:
    """What the merge found that made the checkpoint; None for a checkpoint from elsewhere."""
    file = checkpoint / MANIFEST
    if not file.is_file() or read_json(file).get("stage") != merged.STAGE:
        return None
    results = results_of(checkpoint, merged.MergeResults)
    return MergeFigures(
        merge_max_abs_logit_difference=results.merge_max_abs_logit_difference,
        merge_positions=results.merge_positions,
    )


def _show(results: VerifyResults, prompts: int) -> None:
    """Print the table, and advice where there is some."""
    columns = (
        "artifact",
        "MB",
        "token ids",
        "stop ids",
        "top-1",
        "mean KL",
        "p99 KL",
        "conversion",
    )
    title = f"Verified against the merged checkpoint (torch, fp32), {prompts} prompts"
    stdout.print(table(title, columns, [_cells(row) for row in results.artifacts]))
    if any(row.verdict == "PASS" for row in results.artifacts):
        say(escape(WHAT_RIGHT_MEANS))
    mean_kls: dict[str, float | None] = {}
    for row in results.artifacts:
        mean_kls[row.artifact] = row.mean_kl if isinstance(row, CheckedArtifact) else None
    for line in (*advice(mean_kls), *_warning_lines(results)):
        say(line)


def _warning_lines(results: VerifyResults) -> list[str]:
    """Each warning once, with the artifacts that it is of."""
    of: dict[str, list[str]] = {}
    for row in results.artifacts:
        for warning in row.warnings if isinstance(row, CheckedArtifact) else ():
            of.setdefault(warning, []).append(row.artifact)
    lines = [f"  Warning: {', '.join(names)}: {warning}." for warning, names in of.items()]
    if not has_ggufdoctor() and any(row.artifact.startswith("gguf-") for row in results.artifacts):
        lines.append("  What apps make of the template was not looked at: pip install 'empathy-edge[apps]'")
    return lines


def _cells(row: CheckedArtifact | UnloadableArtifact) -> list[str]:
    if isinstance(row, UnloadableArtifact):
        return [row.artifact, f"{row.size_mb:.0f}", *["–"] * 5, "wrong: does not load"]
    return [
        row.artifact,
        f"{row.size_mb:.0f}",
        "equal" if row.golden_ids_equal else "DIFFER",
        "equal" if row.stop_ids_equal else "DIFFER",
        f"{row.top1_agreement:.1%}",
        f"{row.mean_kl:.4f}",
        f"{row.p99_kl:.3f}",
        "right" if row.verdict == "PASS" else "wrong",
    ]


def advice(mean_kls: Mapping[str, float | None]) -> list[str]:
    """For artifacts that rounding took far from the checkpoint, what loses less at the same size.

    Args:
        mean_kls: artifact → its mean KL divergence in nats a token; None where it does not load.
    """
    bound = NOTABLE_MEAN_KL
    lines = []
    for name, mean_kl in mean_kls.items():
        better = f"{name}-gptq"
        if mean_kl is not None and mean_kl > bound and is_artifact(better) and better not in mean_kls:
            lines.append(
                f"  {name}: rounding alone took it to a mean KL of {mean_kl:.2f} (look closer above {bound});"
                f" --to {better} compensates the errors at about the same size."
            )
    return lines
