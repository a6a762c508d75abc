"""Export: merged checkpoint → F16 GGUF → each artifact → check of each artifact against the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.export import merged, verify
from empathy_edge.export.artifact_files import (
    F16_GGUF,
    F32_GGUF,
    FLOAT_LITERT,
    GPTQ_GGUF,
    CalibrationData,
    ExportJob,
    copy_tokenizer,
    require_own_writer,
    require_writer,
    sources_of,
    write_files,
)
from empathy_edge.export.base_difference import tell_other_base
from empathy_edge.export.gguf.converter import require_script
from empathy_edge.export.litertlm.convert import require_environment as require_litert
from empathy_edge.export.merged import TOKENIZER_FILES, MergeResults
from empathy_edge.export.onnx.q4_0_grid import require_q4_0
from empathy_edge.export.record import ArtifactRecord, Details, OriginalBase, original_base
from empathy_edge.export.scratch import remove_scratch
from empathy_edge.export.verify import VerifyResults
from empathy_edge.export.weight_range import largest_weight
from empathy_edge.formats.artifact_names import ArtifactName, parse_artifact
from empathy_edge.formats.chat_format import DEFAULT
from empathy_edge.models.find import ModelRef, dequantized, gguf_of
from empathy_edge.models.templated_folder import template_for
from empathy_edge.models.templates import own_templates
from empathy_edge.runs.settings import ExportSettings
from empathy_edge.runs.stage import SCRATCH_OF_EXPORTS, open_stage
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.hash_cache import sha256_file
from empathy_edge.system.kept_models import mark_used
from empathy_edge.system.locks import holding, lock_in_cache
from empathy_edge.system.machine import require_space

_SHARE_OF_FP32 = {
    "f32": 1.05,
    "f16": 0.53,
    "bf16": 0.53,
    "q8_0": 0.3,
    "onnx-genai": 1.1,
    "onnx-portable": 2.2,
    "litertlm": 1.4,  # its parts lie beside it while it is made
    "fp32": 1.3,
    "8da4w": 0.35,
    "int8": 0.4,
}
"""The largest size of an artifact as a share of the fp32 checkpoint, by quantization or format."""

_SHARE_OF_OTHERS = 0.25

_NEEDS = {
    "gguf": ("gguf", "gguf"),
    "onnx-genai": ("onnxruntime_genai", "onnx"),
    "onnx-portable": ("onnxscript", "onnx"),
    "executorch": ("executorch", "executorch"),
    "litertlm": ("litert_lm", "litert"),
}
"""An artifact's format → the module that makes it, and our extra that installs it."""

_MODEL_FILES = ("model.gguf", "model.onnx.data", "model.onnx", "model.pte", "model.litertlm")
"""The file that stands for an artifact is the first of these that it has."""

_MODEL_SUFFIXES = (".gguf", ".onnx", ".data", ".pte", ".litertlm")
"""How the names of files end that count for an artifact's size."""


_FILES = (
    "model*", "adapter*", "*.onnx*", *TOKENIZER_FILES, "additional_chat_templates/*", "*.json", "*.jinja",
    *SCRATCH_OF_EXPORTS,
)  # fmt: skip
"""What the makers of artifacts write into an artifact's folder."""


@dataclass(frozen=True)
class ExportResults:
    """What an export found.

    Attributes:
        merge: how the merged checkpoint compares with the adapter model; None for a base without adapters.
        verify: how the artifacts compare with the checkpoint; None where that was not wanted.
    """

    merge: MergeResults | None
    verify: VerifyResults | None


def run(
    *,
    base: ModelRef,
    adapters: list[Path],
    out: Path,
    settings: ExportSettings,
    weights: Sequence[float] = (),
    update: bool = False,
) -> ExportResults:
    """Write `out/merged`, one folder for each artifact, and `out/verify/verify.json`.

    Without adapters the base itself is exported: it can be quantized first, and trained on as it will be
    deployed.

    Args:
        base: the checkpoint that the adapters were trained on.
        adapters: PEFT folders, in the order of training.
        out: the folder of the export.
        settings: which artifacts, and how.
        weights: by which each adapter's change is multiplied; none: 1 each.
        update: make again what was made with other settings or inputs.

    Raises:
        EmpathyEdgeError: an artifact cannot be made of this base, or another export is writing into `out`.
        VerdictFailed: the merge or an artifact is too far from what it was made of.
    """
    _require_all(settings, base, adapters, weights)

    def refuse() -> None:
        raise EmpathyEdgeError(
            f"{out}: another export is writing there. Wait until it has ended, or choose another --out."
        ) from None

    with holding(lock_in_cache(out), refuse):
        return _run(base, adapters, out, settings, weights, update)


def _run(
    base: ModelRef,
    adapters: list[Path],
    out: Path,
    settings: ExportSettings,
    weights: Sequence[float],
    update: bool,
) -> ExportResults:
    """As `run`, whose arguments these are, in a folder that no other export writes into."""
    checkpoint = base.path
    merge: MergeResults | None = None
    if adapters:
        checkpoint = out / "merged"
        merge = merged.make(
            base=base,
            adapters=adapters,
            out=checkpoint,
            tolerance=settings.merge_tolerance,
            weights=weights,
            update=update,
        )
        difference = merge.merge_max_abs_logit_difference
        say(f"  merged: max logit difference {difference} to the adapter model")
        tell_other_base(base, adapters)
    folders = make_artifacts(checkpoint, out, settings, base=base, adapters=adapters, update=update)
    if settings.verify == "none":
        say("  Not compared with the checkpoint (--verify none): whether they are right is not known.")
        return ExportResults(merge, None)
    checked = verify.run(
        checkpoint=checkpoint,
        artifacts=folders,
        out=out / "verify",
        mode=settings.verify,
        update=update,
    )
    return ExportResults(merge, checked)


def _require_all(
    settings: ExportSettings, base: ModelRef, adapters: list[Path], weights: Sequence[float]
) -> None:
    """Check before the merge what would make an artifact fail after it."""
    names = [parse_artifact(text) for text in settings.artifacts]
    if settings.converter != "auto":
        require_script(Path(settings.converter))
    require_makers(names)
    require_own_writer(names, base.path, has_importance=settings.imatrix is not None)
    if settings.converter == "auto" and any(_has_weights_as_gguf(name) for name in names):
        require_writer(base.path)
    for name in names:
        if name.method == "lora":
            file = gguf_of(base)
            if not adapters:
                raise EmpathyEdgeError(
                    f"{name.text} needs adapters to put beside the base; give them with --adapter."
                )
            if any(weight != 1 for weight in weights):
                raise EmpathyEdgeError(f"{name.text}: adapters beside a base have no --weight; merge them.")
            if name.format == "onnx-genai":
                require_q4_0(file)
            else:
                _require_template_of(file, name, base, adapters)


def require_makers(names: Sequence[ArtifactName]) -> None:
    """Whether what makes these artifacts is installed.

    Raises:
        PrerequisiteError: a package is not.
    """
    for name in names:
        module, extra = _NEEDS[name.format]
        require_extra(module, extra, f"Making {name.text}")
    if any(name.format == "litertlm" for name in names):
        require_litert()


def _require_template_of(file: Path, name: ArtifactName, base: ModelRef, adapters: list[Path]) -> None:
    """Refuse to ship a base's GGUF, which stays as it is, with adapters that had another template."""
    own = own_templates(ModelRef(base.name, "gguf", file)).get(DEFAULT)
    if template_for(base.path, adapters) != own:
        raise EmpathyEdgeError(
            f"{name.text}: {file.name} stays as it is, and its chat template is another one than the "
            "adapters'. Merge them instead, as gguf-q4_0."
        )


def _has_weights_as_gguf(name: ArtifactName) -> bool:
    return name.format == "gguf" and name.method != "lora"


def make_artifacts(
    checkpoint: Path,
    out: Path,
    settings: ExportSettings,
    *,
    base: ModelRef,
    adapters: list[Path],
    update: bool = False,
    purpose: str = "",
) -> list[Path]:
    """Make each artifact of the settings from a checkpoint folder; returns their folders, in order.

    `purpose` says what they are for, where the user did not ask for them.
    """
    names = [parse_artifact(text) for text in settings.artifacts]
    largest = largest_weight(checkpoint)
    if F16_GGUF in settings.artifacts:
        largest.require_f16(F16_GGUF)
    float_source = F16_GGUF if largest.fits_f16 else F32_GGUF
    in_order = _with_sources_first(names, float_source)
    _require_space(in_order, checkpoint, out)
    job = ExportJob(checkpoint, out, settings, base, adapters, update, float_source)
    calibration = CalibrationData(job)
    for name in in_order:
        _make_artifact(name, job, calibration, purpose)
    return [out / name.text for name in names]


def reference_gguf(reference: ModelRef) -> Path | None:
    """A checkpoint's F16 GGUF in the cache; None where its family has no converter here."""
    out = cache_folder() / "references" / reference.identity[:32]
    purpose = "the reference as an F16 GGUF, on which its replies are drawn"

    def wait() -> None:
        say(f"Waiting for another command that makes the F16 GGUF of {reference.name} …")

    try:
        settings = ExportSettings(artifacts=(F16_GGUF,))
        source = dequantized(reference)
        with holding(out.with_name(f"{out.name}.lock"), wait):
            (folder,) = make_artifacts(source.path, out, settings, base=source, adapters=[], purpose=purpose)
    except EmpathyEdgeError as error:
        say(f"  Replies are drawn on torch, which is slower: {error}")
        return None
    mark_used(out)
    return folder


def _with_sources_first(names: list[ArtifactName], float_source: str) -> list[ArtifactName]:
    """The artifacts in the order in which they are made: those that others are made from come first."""
    wanted = {name.text for name in names}
    for name in names:
        wanted.update(sources_of(name, float_source))
    first = [parse_artifact(text) for text in (float_source, GPTQ_GGUF, FLOAT_LITERT) if text in wanted]
    return first + [name for name in names if name not in first]


def _require_space(names: list[ArtifactName], checkpoint: Path, out: Path) -> None:
    checkpoint_mb = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors")) / 1e6
    shares = [_share_of_fp32(name) for name in names if not (out / name.text).exists()]
    require_space(out, checkpoint_mb * sum(shares), "the artifacts")


def _share_of_fp32(name: ArtifactName) -> float:
    key = name.quantization if name.format in ("gguf", "executorch") else name.format
    return _SHARE_OF_FP32.get(key, _SHARE_OF_OTHERS)


def _make_artifact(name: ArtifactName, job: ExportJob, calibration: CalibrationData, purpose: str) -> None:
    """Make one artifact's folder, unless it is there already."""
    folder = job.out / name.text
    stage = open_stage(
        folder,
        f"export {name.text}",
        settings=_stage_settings(name, job.settings),
        inputs=_stage_inputs(name, job),
        files=_FILES,
        update=job.update,
    )
    remove_scratch(folder, stage.manifest.get("outputs", ()))
    if stage.done:
        return
    details = write_files(name, folder, job, calibration)
    copy_tokenizer(job.checkpoint, folder)
    model_files = [file for file in folder.iterdir() if file.suffix in _MODEL_SUFFIXES]
    size_mb = sum(file.stat().st_size for file in model_files) / 1e6
    origin = original_base(job.checkpoint, job.base)
    stage.finish(artifact=_record(name, folder, size_mb, origin, details).as_json())
    note = f" ({purpose})" if purpose else ""
    note += f"; {details['note']}" if "note" in details else ""
    say(f"  {name.text}: {size_mb:.0f} MB{note}")


def _stage_settings(name: ArtifactName, settings: ExportSettings) -> dict[str, Any]:
    """The settings that change this artifact."""
    found: dict[str, Any] = {"artifact": name.text}
    if sources_of(name) and settings.tensor_types:
        found["tensor_types"] = settings.tensor_types
    if name.format == "onnx-genai" and name.method == "plain" and settings.genai_options:
        found["genai_options"] = settings.genai_options
    if name.format == "onnx-portable":
        found["exporter"] = settings.exporter
    if name.format == "gguf" and settings.converter != "auto":
        found["converter"] = sha256_file(Path(settings.converter))[:16]
    if _is_calibrated(name):
        found["calibration_dialogues"] = settings.calibration_dialogues
    return found


def _stage_inputs(name: ArtifactName, job: ExportJob) -> dict[str, Path]:
    """The files that change this artifact."""
    inputs = {"checkpoint": job.checkpoint}
    if _is_calibrated(name) and job.settings.calibration is not None:
        inputs["calibration"] = Path(job.settings.calibration)
    if _is_calibrated(name) and job.settings.imatrix is not None:
        inputs["imatrix"] = Path(job.settings.imatrix)
    return inputs


def _is_calibrated(name: ArtifactName) -> bool:
    return name.method in ("imatrix", "gptq", "budget")


def _record(
    name: ArtifactName, folder: Path, size_mb: float, origin: OriginalBase, details: Details
) -> ArtifactRecord:
    file = next(folder / item for item in _MODEL_FILES if (folder / item).exists())
    return ArtifactRecord(
        name=name.text,
        format=name.format,
        quantization=name.quantization,
        method=name.method,
        file=file.name,
        sha256=sha256_file(file),
        size_mb=round(size_mb, 1),
        **origin,
        **details,
    )
