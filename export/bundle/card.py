"""The model card, and where an artifact comes from, by the manifests of the stages in its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from empathy_edge.export.merged import TrainedAdapter
from empathy_edge.export.record import ArtifactManifest, ArtifactRecord, read_manifest
from empathy_edge.system.files import MANIFEST, read_json

STAGES = ("distill", "finetune/sft", "finetune/own-pairs", "finetune/dpo", "export/merged")
"""The folders in a run of the stages before an artifact, in their order."""

LIMITS = (
    "Not a therapist, and no help in a crisis: it does not notice danger. "
    "An app must offer people real help.",
    "It answers one message in English, in a few sentences; "
    "longer conversations were neither trained nor measured.",
    "It may misread who did what to whom, condole where there is joy, or claim a life of its own.",
    "Figures are of the machine and prompts named above. "
    "Measure again on your phone and with your users' words.",
)
"""What every model card says of what the model cannot do."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageOrigin(_Frozen):
    """A stage before the artifact: its settings, and the sha256 of each of its inputs."""

    settings: dict[str, Any]
    inputs: dict[str, str]


class DataFile(_Frozen):
    """The file of dialogues: its name, and its sha256."""

    path: str
    sha256: str


class Origin(_Frozen):
    """Where an artifact comes from, as far as there are manifests of it.

    Attributes:
        stages: by their folders in the run.
        trained: how each adapter was trained.
        base: the base's name.
        base_sha256: of the base's weights.
        data: the dialogues of the run.
    """

    stages: dict[str, StageOrigin]
    trained: list[TrainedAdapter] = []
    base: str | None = None
    base_sha256: str | None = None
    data: DataFile | None = None


def origin_of(artifact: Path) -> Origin:
    """Where an artifact comes from, back to base and data."""
    artifact = artifact.resolve()  # the folders above it say where it comes from
    run = artifact.parent.parent
    stages: dict[str, StageOrigin] = {}
    known: dict[str, Any] = {}
    for name in STAGES:
        file = _manifest_of(name, artifact)
        if file is None:
            continue
        manifest = read_json(file)
        settings = manifest.get("settings", {})
        inputs = {role: item["sha256"] for role, item in manifest.get("inputs", {}).items()}
        stages[name] = StageOrigin(settings=settings, inputs=inputs)
        if trained := manifest.get("results", {}).get("trained"):
            known["trained"] = trained
        if "base_sha256" in settings:
            known["base"], known["base_sha256"] = settings["base"], settings["base_sha256"]
    if "base" not in known and (artifact / MANIFEST).is_file():
        record = read_json(artifact / MANIFEST).get("artifact", {})
        known["base"], known["base_sha256"] = record.get("base"), record.get("base_sha256")
    if (run / "distill" / MANIFEST).is_file():
        data = read_json(run / "distill" / MANIFEST)["inputs"].get("data")
        if data:
            known["data"] = data
    return Origin(stages=stages, **known)


def _manifest_of(stage: str, artifact: Path) -> Path | None:
    """The manifest of a stage: a run has all of them; `export` alone has merged/ beside the artifact."""
    artifact = artifact.resolve()  # the folders above it say where it comes from
    run = artifact.parent.parent
    for file in (run / stage / MANIFEST, artifact.parent / Path(stage).name / MANIFEST):
        if file.is_file():
            return file
    return None


def model_card(artifact: Path, manifest: ArtifactManifest, origin: Origin) -> str:
    """Markdown: what the artifact is, what it was made from and how, its figures and its limits."""
    record = manifest.artifact
    data = f"{origin.data.path}{_short(origin.data.sha256)}" if origin.data else "not recorded"
    purpose = "fine-tuned to answer with empathy" if origin.trained else "for empathetic chat"
    kind = f"{record.format}, {record.quantization} ({record.method}), {record.size_mb} MB"
    lines = [
        f"# {record.name}: a small language model {purpose}",
        "",
        f"- Base: {origin.base or 'not recorded'}{_short(origin.base_sha256)}",
        f"- Data: {data}",
        f"- Method: {_method(origin.trained, record)}",
        f"- Format: {kind}{_short(record.sha256)}",
        f"- Made on {manifest.created[:10]} with empathy-edge {manifest.versions.get('empathy-edge', '?')}.",
        "",
        "## Figures",
        "",
        *_figures(artifact),
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in LIMITS),
        "",
    ]
    return "\n".join(lines)


def _short(sha256: str | None) -> str:
    return f" (sha256 {sha256[:16]}…)" if sha256 else ""


def _method(trained: list[TrainedAdapter], record: ArtifactRecord) -> str:
    if not trained:
        return "not recorded"
    steps = []
    for adapter in trained:
        step = f"{(adapter.step or 'training').upper()} with LoRA of rank {adapter.lora_rank}"
        if adapter.epochs is not None and adapter.learning_rate is not None:
            step += f", {adapter.epochs:g} epochs at {adapter.learning_rate:g}"
        steps.append(step)
    end = "laid beside the base as it is" if record.method == "lora" else "merged in full precision"
    return f"{', then '.join(steps)}, {end}"


def _figures(artifact: Path) -> list[str]:
    """What export, bench and check measured on this artifact, where they did."""
    artifact = artifact.resolve()  # the folders above it say where it comes from
    run = artifact.parent.parent
    lines = [
        _verify_line(artifact.parent / "verify" / "verify.json", artifact),
        _bench_line(run / "bench" / MANIFEST, artifact.name),
        _check_line(run / "check" / "check.json", artifact.name),
    ]
    measured = [line for line in lines if line is not None]
    return measured or [
        "- None were measured in this run: `empathy-edge bench` and `empathy-edge check` do it."
    ]


def _verify_line(file: Path, artifact: Path) -> str | None:
    rows = read_json(file) if file.is_file() else []
    sha256 = read_manifest(artifact).artifact.sha256  # another one was made again since
    found = [row for row in rows if row["artifact"] == artifact.name and "mean_kl" in row]
    found = [row for row in found if row.get("sha256") == sha256]
    if not found:
        return None
    row = found[0]
    return (
        f"- Against the full-precision checkpoint, {row['positions']} response tokens: mean KL "
        f"{row['mean_kl']:.4f} nats, p99 {row['p99_kl']:.3f}, top-1 agreement {row['top1_agreement']:.1%}; "
        f"the conversion is {'right' if row['verdict'] == 'PASS' else 'wrong'}."
    )


def _bench_line(file: Path, name: str) -> str | None:
    bench = read_json(file) if file.is_file() else {"results": {"artifacts": []}}
    found = [row for row in bench["results"]["artifacts"] if row["artifact"] == name]
    if not found:
        return None
    row, machine = found[0], bench["machine"]
    return (
        f"- On the host ({machine['cpu']}, {row['threads']} threads, no phone), {row['repetitions']} "
        f"repetitions, median: prefill {row['prefill_tps_median']:.0f}, "
        f"decode {row['decode_tps_median']:.0f} tokens/s."
    )


def _check_line(file: Path, name: str) -> str | None:
    rows = read_json(file)["artifacts"] if file.is_file() else []
    found = [row for row in rows if row["artifact"] == name]
    return f"- Check: {found[0]['verdict']}: {found[0]['sentence']}" if found else None
