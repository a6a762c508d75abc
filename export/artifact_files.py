"""Write the files of one artifact from a checkpoint, in any format."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.calibration import Calibration, calibration_texts
from empathy_edge.export.executorch import write_executorch
from empathy_edge.export.gguf.converter import fetch_converter, require_packages, run_converter
from empathy_edge.export.gguf.families import NotWritten, family_of, read_config
from empathy_edge.export.gguf.gptq import round_layers
from empathy_edge.export.gguf.grids import LITERT_GRIDS
from empathy_edge.export.gguf.importance import collect, read_imatrix, write_imatrix
from empathy_edge.export.gguf.lora_file import write_lora
from empathy_edge.export.gguf.quantize import Importance, fallback_note, quantize, replace_tensors
from empathy_edge.export.gguf.size_budget import choose_types
from empathy_edge.export.gguf.tensor_types import type_name
from empathy_edge.export.gguf.writer import write_float
from empathy_edge.export.litertlm import convert as litertlm
from empathy_edge.export.merged import TOKENIZER_FILES
from empathy_edge.export.onnx.genai import write_genai
from empathy_edge.export.onnx.optimum import write_optimum
from empathy_edge.export.onnx.portable import write_portable
from empathy_edge.export.onnx.q4_0_grid import BUILDER_OPTIONS, write_joint_adapter
from empathy_edge.export.record import Details
from empathy_edge.export.rounded_checkpoint import matrices_of_gguf, matrices_of_packed, write_rounded
from empathy_edge.formats.artifact_names import FLOAT_TYPES, ArtifactName
from empathy_edge.formats.chat_format import eos_of, read_template, turn_end
from empathy_edge.formats.gguf_header import tensors_of
from empathy_edge.models.find import HUB_ID, ModelRef, gguf_of
from empathy_edge.models.shipped import SHIPPED
from empathy_edge.runs.settings import ExportSettings
from empathy_edge.runs.stage import open_stage
from empathy_edge.runtimes import default_threads
from empathy_edge.runtimes.pieces import ids_of
from empathy_edge.system.files import own_file, read_json, sha256_json, sha256_path, write_json
from empathy_edge.system.hash_cache import sha256_file

F16_GGUF = "gguf-f16"
F32_GGUF = "gguf-f32"
"""The artifact that all quantized GGUFs are made from."""

GPTQ_GGUF = "gguf-q4_0-gptq"
"""The artifact that onnx-int4-gptq is made from."""

FLOAT_LITERT = "litertlm-fp32"
"""The artifact that other artifacts for LiteRT-LM are made from."""

IMATRIX, IMATRIX_FILE = "imatrix", "imatrix.gguf"
"""The folder of the importance matrix that an export makes, and the file in it. A file of that name in the
export's own folder may be the user's."""


@dataclass(frozen=True)
class ExportJob:
    """What is exported, and where to.

    Attributes:
        checkpoint: the merged checkpoint; without adapters the base's own.
        out: the folder with one folder for each artifact.
        settings: of the whole export.
        base: the model that the adapters were trained on.
        adapters: PEFT folders, in the order of training; none for a base alone.
        update: make artifacts again whose settings or inputs changed.
    """

    checkpoint: Path
    out: Path
    settings: ExportSettings
    base: ModelRef
    adapters: list[Path]
    update: bool
    float_source: str = F16_GGUF

    def gguf(self, artifact: str) -> Path:
        """The model file of another artifact of this export."""
        return self.out / artifact / "model.gguf"


class CalibrationData:
    """What several artifacts of an export are calibrated on.

    Making it takes minutes: it is made when the first artifact asks for it, and kept for the next ones.
    """

    def __init__(self, job: ExportJob) -> None:
        self._job = job
        self._texts: Calibration | None = None
        self._importance: Importance | None = None

    def texts(self) -> Calibration:
        """Prompts with the checkpoint's own responses."""
        if self._texts is None:
            settings = self._job.settings
            dialogues = Path(settings.calibration) if settings.calibration else None
            self._texts = calibration_texts(self._job.checkpoint, dialogues, settings.calibration_dialogues)
        return self._texts

    def importance(self) -> Importance:
        """The importance matrix: the user's file, or one made from the texts, in a folder of its own."""
        if self._importance is None:
            own = self._job.settings.imatrix
            self._importance = read_imatrix(Path(own) if own else self._made_importance())
        return self._importance

    def _made_importance(self) -> Path:
        """The file of the importance matrix in the export's folder; made unless it is there."""
        job, texts = self._job, self._job.settings.calibration_dialogues
        inputs, folder = {"checkpoint": job.checkpoint}, job.out / IMATRIX
        usual_texts = ExportSettings.model_fields["calibration_dialogues"].default
        if job.settings.calibration is not None:
            inputs["calibration"] = Path(job.settings.calibration)
        if job.settings.calibration is not None or texts != usual_texts:
            # Other artifacts here may be made with the usual matrix.
            sha256 = sha256_json([texts, [sha256_path(path) for path in inputs.values()]])
            folder = job.out / f"{IMATRIX}-{sha256[:8]}"
        stage = open_stage(
            folder,
            "importance matrix",
            settings={"calibration_dialogues": job.settings.calibration_dialogues},
            inputs=inputs,
            files=(IMATRIX_FILE,),
            update=job.update,
        )
        if not stage.done:
            write_imatrix(folder / IMATRIX_FILE, collect(job.checkpoint, self.texts()), self.texts())
            stage.finish()
        return folder / IMATRIX_FILE


def sources_of(name: ArtifactName, float_source: str = F16_GGUF) -> list[str]:
    """The artifacts of the same export that this one is made from, in the order in which they are made.

    Args:
        name: the artifact.
        float_source: what is quantized: `gguf-f16`, or `gguf-f32` where weights are beyond F16.
    """
    if name.format == "onnx-genai" and name.method == "gptq":
        return [float_source, GPTQ_GGUF]
    if name.format == "litertlm" and name.method == "gptq":
        return [float_source]
    if name.format == "litertlm" and name.quantization != "fp32":
        return [FLOAT_LITERT]
    if name.format == "gguf" and name.method != "lora" and name.quantization not in FLOAT_TYPES:
        return [float_source]
    return []


def write_files(name: ArtifactName, folder: Path, job: ExportJob, calibration: CalibrationData) -> Details:
    """Write the files of one artifact into `folder`; those that it is made from are there.

    Returns:
        What its record says besides.
    """
    if name.format == "gguf":
        return _write_gguf(name, folder, job, calibration)
    if name.format == "onnx-genai":
        _write_genai(name, folder, job)
    elif name.format == "onnx-portable":
        _write_portable(name, folder, job)
    elif name.format == "litertlm":
        _write_litertlm(name, folder, job, calibration)
    else:
        write_executorch(job.checkpoint, folder, name.quantization)
        _write_config(job.checkpoint, folder)
    return {}


def copy_tokenizer(checkpoint: Path, folder: Path) -> None:
    """Copy the files of the tokenizer and the template that are not in `folder` yet."""
    for name in TOKENIZER_FILES:
        if (checkpoint / name).is_file() and not (folder / name).is_file():
            shutil.copyfile(own_file(checkpoint / name), folder / name)


def _write_config(checkpoint: Path, folder: Path) -> None:
    """Write config.json with every token that ends a response, and the length of the context.

    A graph has no other place for them. The checkpoint's own may name a token that its chat template never
    writes, and leave the length to transformers.
    """
    from tokenizers import Tokenizer

    config = read_json(checkpoint / "config.json")
    generation = checkpoint / "generation_config.json"
    named = read_json(generation) if generation.is_file() else config
    stops = set(ids_of(named.get("eos_token_id")))
    end = turn_end(read_template(checkpoint), eos_of(checkpoint))
    token = Tokenizer.from_file(str(checkpoint / "tokenizer.json")).token_to_id(end)
    if token is not None:
        stops.add(token)
    context = read_config(checkpoint).get("max_position_embeddings")
    added = {} if context is None else {"max_position_embeddings": context}
    write_json(folder / "config.json", added | config | {"eos_token_id": sorted(stops)})


def _write_gguf(name: ArtifactName, folder: Path, job: ExportJob, calibration: CalibrationData) -> Details:
    if name.method == "lora":
        return _write_gguf_with_lora(name, folder, job)
    if name.quantization in FLOAT_TYPES:
        _write_float_gguf(name, folder / "model.gguf", job)
        return {}
    return _write_quantized_gguf(name, folder / "model.gguf", job, calibration)


def _write_gguf_with_lora(name: ArtifactName, folder: Path, job: ExportJob) -> Details:
    """The base's own GGUF as it is, and the adapters as a LoRA beside it."""
    adapter = folder / "adapter.gguf"
    shutil.copyfile(gguf_of(job.base), folder / "model.gguf")
    rank = write_lora(job.base.path, job.adapters, adapter, name.quantization)
    return {"adapter": adapter.name, "adapter_sha256": sha256_file(adapter), "rank": rank}


def require_writer(checkpoint: Path) -> None:
    """Fetch llama.cpp's script where our own writer does not know a checkpoint's family.

    Raises:
        PrerequisiteError: the script, or a package that it imports, is not available.
    """
    try:
        family_of(checkpoint, read_config(checkpoint))
    except NotWritten:
        require_packages()
        fetch_converter()


def require_own_writer(names: Sequence[ArtifactName], checkpoint: Path, has_importance: bool) -> None:
    """Refuse artifacts that only our own GGUF writer can make, where it does not know the family.

    Args:
        names: of the artifacts.
        checkpoint: the base's folder; it has the architecture of what is exported.
        has_importance: the importance matrix is the user's own, and need not be made.

    Raises:
        EmpathyEdgeError: names the artifacts, and what can be made instead.
    """
    methods = {"gptq", "budget"} if has_importance else {"gptq", "budget", "imatrix"}
    ours = [name.text for name in names if name.method in methods]
    if not ours:
        return
    try:
        family_of(checkpoint, read_config(checkpoint))
    except NotWritten as unknown:
        raise EmpathyEdgeError(
            f"{', '.join(ours)}: cannot be made of this family. {unknown}\n"
            "  Plain types can, as gguf-q4_k_m; with --imatrix FILE also gguf-TYPE-imatrix."
        ) from None


def _write_float_gguf(name: ArtifactName, file: Path, job: ExportJob) -> None:
    """Write a GGUF by our own writer, or by llama.cpp's script where ours does not know the family."""
    if job.settings.converter != "auto":
        run_converter(Path(job.settings.converter), job.checkpoint, file, name.quantization)
        return
    try:
        write_float(job.checkpoint, file, name.quantization, _public_name(job))
    except NotWritten as unknown:
        say(f"  {unknown}\n  llama.cpp's own script converts it.")
        run_converter(fetch_converter(), job.checkpoint, file, name.quantization)


def _public_name(job: ExportJob) -> str:
    """The name of the base if it is a public one, and what was made of it; nothing of a folder here."""
    name = job.base.name
    is_public = name in SHIPPED or (re.fullmatch(HUB_ID, name) and not Path(name).exists())
    if not is_public:
        return ""
    return f"{name.rpartition('/')[2]}-fine-tuned" if job.adapters else name.rpartition("/")[2]


def _write_quantized_gguf(
    name: ArtifactName, file: Path, job: ExportJob, calibration: CalibrationData
) -> Details:
    """Quantize the F16 GGUF by llama.cpp; GPTQ then replaces the bytes of the matrices by its own."""
    source = job.gguf(job.float_source)
    quantization = name.quantization
    types: dict[str, str] = dict(job.settings.tensor_types)
    if name.budget_mb:
        quantization = "q4_0"
        chosen = choose_types(job.checkpoint, source, calibration.texts(), name.budget_mb)
        types = {f"^{re.escape(tensor)}$": kind for tensor, kind in chosen.items()} | types
    importance = calibration.importance() if name.method == "imatrix" else None

    def run_llama_cpp(*, only_estimate: bool) -> float:
        return quantize(
            source,
            file,
            quantization,
            threads=default_threads(),
            importance=importance,
            types=types,
            only_estimate=only_estimate,
        )

    estimated_mb = run_llama_cpp(only_estimate=True)
    run_llama_cpp(only_estimate=False)
    if name.method in ("gptq", "budget"):
        kinds = {tensor: type_name(place.kind) for tensor, place in tensors_of(file).items()}
        replace_tensors(file, round_layers(job.checkpoint, calibration.texts(), kinds))
    details: Details = {"estimated_mb": round(estimated_mb, 1)}
    note = fallback_note(file, name.quantization)
    if note:
        details["note"] = note
    return details


def _write_genai(name: ArtifactName, folder: Path, job: ExportJob) -> None:
    if name.method == "plain":
        write_genai(job.checkpoint, folder, name.quantization, job.settings.genai_options)
        return
    with tempfile.TemporaryDirectory(prefix=".source-", dir=folder) as scratch:
        if name.method == "gptq":
            matrices = matrices_of_gguf(job.gguf(GPTQ_GGUF))
            write_rounded(job.checkpoint, matrices, Path(scratch))
            write_genai(Path(scratch), folder, name.quantization, BUILDER_OPTIONS)
        else:
            options = BUILDER_OPTIONS | write_joint_adapter(job.adapters, Path(scratch))
            write_genai(job.base.path, folder, name.quantization, options)


def _write_litertlm(name: ArtifactName, folder: Path, job: ExportJob, calibration: CalibrationData) -> None:
    _write_config(job.checkpoint, folder)
    if name.method == "gptq":
        _write_compensated_litertlm(folder, job, calibration)
    elif name.quantization == "fp32":
        litertlm.write_float(job.checkpoint, folder)
    else:
        litertlm.write_quantized(job.out / FLOAT_LITERT, folder, name.quantization)


def _write_compensated_litertlm(folder: Path, job: ExportJob, calibration: CalibrationData) -> None:
    """Round the layers with compensation onto LiteRT's grid; that is converted, and quantized as it is."""
    litertlm.require_memory_for(job.checkpoint)  # before minutes of calibration
    places = tensors_of(job.gguf(job.float_source))
    matrices = [name for name, place in places.items() if name.startswith("blk.") and len(place.shape) == 2]
    packed = round_layers(
        job.checkpoint, calibration.texts(), dict.fromkeys(matrices, "q4_0"), grids=LITERT_GRIDS
    )
    with tempfile.TemporaryDirectory(prefix=".source-", dir=folder) as scratch:
        rounded, converted = Path(scratch) / "rounded", Path(scratch) / "converted"
        for made in (rounded, converted):
            made.mkdir()
        write_rounded(job.checkpoint, matrices_of_packed(packed), rounded)
        copy_tokenizer(job.checkpoint, converted)
        _write_config(job.checkpoint, converted)
        litertlm.write_float(rounded, converted)
        litertlm.write_quantized(converted, folder, "int4-gptq")


def _write_portable(name: ArtifactName, folder: Path, job: ExportJob) -> None:
    write = write_optimum if job.settings.exporter == "optimum" else write_portable
    write(job.checkpoint, folder, name.quantization)
    _write_config(job.checkpoint, folder)
    # transformers.js reads the template there, and not from chat_template.jinja.
    config = read_json(job.checkpoint / "tokenizer_config.json")
    config["chat_template"] = read_template(job.checkpoint)
    write_json(folder / "tokenizer_config.json", config)
