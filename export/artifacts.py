"""Export: merge, then one folder per artifact, then the proof that each says what the checkpoint says."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.export import merged, verify
from empathy_edge.export.calibration import Calibration, calibration_texts
from empathy_edge.export.executorch import write_executorch
from empathy_edge.export.gguf.budget import choose_types
from empathy_edge.export.gguf.compensate import compensate
from empathy_edge.export.gguf.converter import run_converter
from empathy_edge.export.gguf.importance import collect, read_imatrix, write_imatrix
from empathy_edge.export.gguf.lora import write_lora
from empathy_edge.export.gguf.quantize import Importance, fallback_note, quantize, replace_tensors
from empathy_edge.export.gguf.writer import write_float
from empathy_edge.export.onnx.genai import write_genai
from empathy_edge.export.onnx.optimum import write_optimum
from empathy_edge.export.onnx.portable import write_portable
from empathy_edge.export.onnx.q4_0_grid import (
    BUILDER_OPTIONS,
    require_q4_0,
    write_joint_adapter,
    write_rounded,
)
from empathy_edge.formats.artifact_names import FLOAT_TYPES, ArtifactName, parse_artifact
from empathy_edge.formats.chat_format import read_template
from empathy_edge.formats.gguf_header import tensors_of
from empathy_edge.models.find import ModelRef, gguf_of
from empathy_edge.runs.recipe import ExportSettings
from empathy_edge.runs.stage import open_stage
from empathy_edge.runtimes import default_threads
from empathy_edge.system.files import read_json, sha256_file, write_json
from empathy_edge.system.machine import require_space

_SHARE_OF_FP32 = {
    "f32": 1.05,
    "f16": 0.53,
    "bf16": 0.53,
    "q8_0": 0.3,
    "onnx-genai": 1.1,
    "onnx-portable": 2.2,
    "executorch": 1.1,
}
"""What an artifact takes at most, as a share of the fp32 checkpoint; for the check of the disk beforehand."""

_NEEDS = {
    "gguf": ("gguf", "gguf"),
    "onnx-genai": ("onnxruntime_genai", "onnx"),
    "onnx-portable": ("onnxscript", "onnx"),
    "executorch": ("executorch", "executorch"),
}
"""An artifact's format → the module that makes it, and our extra that brings it."""

SOURCE = "gguf-f16"
"""What quantizations are made from."""

COMPENSATED = "gguf-q4_0-gptq"
"""What onnx-int4-gptq is made from."""


def run(
    *, base: ModelRef, adapters: list[Path], out: Path, settings: ExportSettings, update: bool = False
) -> dict[str, Any]:
    """Write `out/merged` and one folder per artifact, then `out/verify/verify.json`; returns its manifest.

    Without adapters the base itself is exported, so that a base can be quantized first and trained on as it will ship.
    """
    wanted = [parse_artifact(name) for name in settings.artifacts]
    for name in wanted:  # an error here, and not after the merge
        require_extra(*_NEEDS[name.format], f"Making {name.text}")
    for name in wanted:
        if name.method == "lora":
            file = gguf_of(base)
            if not adapters:
                raise EmpathyEdgeError(
                    f"{name.text} needs adapters to lay beside the base; give them with --adapter."
                )
            if name.format == "onnx-genai":
                require_q4_0(file)
    checkpoint = out / "merged" if adapters else base.path
    if adapters:
        figures = merged.make(
            base=base, adapters=adapters, out=checkpoint, tolerance=settings.merge_tolerance, update=update
        )["results"]
        say(
            f"  merged: max logit difference {figures['merge_max_abs_logit_difference']} to the adapter model"
        )
    artifacts = make_artifacts(checkpoint, out, settings, base=base, adapters=adapters, update=update)
    return verify.run(
        checkpoint=checkpoint,
        artifacts=artifacts,
        out=out / "verify",
        prompts=settings.verify_prompts,
        update=update,
    )


def make_artifacts(
    checkpoint: Path,
    out: Path,
    settings: ExportSettings,
    *,
    base: ModelRef,
    adapters: list[Path],
    update: bool = False,
) -> list[Path]:
    """Make each artifact of the settings from a checkpoint folder; returns their folders, in order."""
    names = [parse_artifact(name) for name in settings.artifacts]
    todo = list(names)
    if any(_needs_source(name) for name in names) and SOURCE not in settings.artifacts:
        todo.insert(0, parse_artifact(SOURCE))
    full = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors")) / 1e6
    require_space(
        out, full * sum(_share(name) for name in todo if not (out / name.text).exists()), "the artifacts"
    )
    kitchen = _Kitchen(checkpoint, out, settings, base, adapters, update)
    for name in sorted(todo, key=lambda item: item.text != SOURCE):
        _make_artifact(name, kitchen)
    return [out / name.text for name in names]


@dataclass(frozen=True)
class _Kitchen:
    """What artifacts are made from; what several of them need is made once, and only if one needs it."""

    checkpoint: Path
    out: Path
    settings: ExportSettings
    base: ModelRef
    adapters: list[Path]
    update: bool

    @property
    def source(self) -> Path:
        return self.out / SOURCE / "model.gguf"

    @cached_property
    def compensated(self) -> Path:
        """The GGUF with Q4_0's compensated rounding, which ONNX takes over."""
        name = parse_artifact(COMPENSATED)
        _make_artifact(name, self)
        return self.out / name.text / "model.gguf"

    @cached_property
    def texts(self) -> Calibration:
        dialogues = Path(self.settings.calibration) if self.settings.calibration else None
        return calibration_texts(self.checkpoint, dialogues, self.settings.calibration_dialogues)

    @cached_property
    def importance(self) -> Importance:
        if self.settings.imatrix:
            return read_imatrix(Path(self.settings.imatrix))
        importance = collect(self.checkpoint, self.texts)
        write_imatrix(self.out / "imatrix.gguf", importance, self.texts)
        return importance


def _make_artifact(name: ArtifactName, kitchen: _Kitchen) -> None:
    folder = kitchen.out / name.text
    settings: dict[str, Any] = {"artifact": name.text}
    inputs: dict[str, Path] = {"checkpoint": kitchen.checkpoint}
    if _needs_source(name) and kitchen.settings.tensor_types:
        settings["tensor_types"] = kitchen.settings.tensor_types
    if name.format == "onnx-genai" and name.method == "plain" and kitchen.settings.genai_options:
        settings["genai_options"] = kitchen.settings.genai_options
    if name.format == "onnx-portable":
        settings["exporter"] = kitchen.settings.exporter
    if name.format == "gguf" and kitchen.settings.converter:
        settings["converter"] = Path(kitchen.settings.converter).name
    if name.method in ("imatrix", "gptq", "budget"):
        settings["calibration_dialogues"] = kitchen.settings.calibration_dialogues
        inputs |= {
            key: Path(value)
            for key in ("calibration", "imatrix")
            if (value := getattr(kitchen.settings, key)) is not None
        }
    stage = open_stage(folder, f"export {name.text}", settings=settings, inputs=inputs, update=kitchen.update)
    if stage.done:
        return
    more = _MAKERS[name.format](name, folder, kitchen)
    for item in merged.TOKENIZER_FILES:
        if (kitchen.checkpoint / item).is_file() and not (folder / item).is_file():
            shutil.copyfile(kitchen.checkpoint / item, folder / item)
    file = next(
        folder / item
        for item in ("model.gguf", "model.onnx.data", "model.onnx", "model.pte")
        if (folder / item).exists()
    )
    size_mb = (
        sum(
            path.stat().st_size
            for path in folder.iterdir()
            if path.suffix in (".gguf", ".onnx", ".data", ".pte")
        )
        / 1e6
    )
    stage.finish(
        artifact={
            "name": name.text,
            "format": name.format,
            "quantization": name.quantization,
            "method": name.method,
            "file": file.name,
            "sha256": sha256_file(file),
            "size_mb": round(size_mb, 1),
            **more,
        }
    )
    say(f"  {name.text}: {size_mb:.0f} MB" + "".join(f"; {more[key]}" for key in ("note",) if key in more))


def _make_gguf(name: ArtifactName, folder: Path, kitchen: _Kitchen) -> dict[str, Any]:
    """Write one GGUF artifact's files; returns what its manifest says besides."""
    file = folder / "model.gguf"
    if name.quantization in FLOAT_TYPES and name.method == "plain":
        if kitchen.settings.converter:
            run_converter(Path(kitchen.settings.converter), kitchen.checkpoint, file, name.quantization)
        else:
            write_float(kitchen.checkpoint, file, name.quantization)
        return {}
    if name.method == "lora":
        shutil.copyfile(gguf_of(kitchen.base), file)
        rank = write_lora(kitchen.base.path, kitchen.adapters, folder / "adapter.gguf", name.quantization)
        return {
            "adapter": "adapter.gguf",
            "adapter_sha256": sha256_file(folder / "adapter.gguf"),
            "rank": rank,
        }
    types: dict[str, str] = dict(kitchen.settings.tensor_types)
    quantization = name.quantization
    if name.budget_mb:
        chosen = choose_types(kitchen.checkpoint, kitchen.source, kitchen.texts, name.budget_mb)
        types, quantization = (
            {f"^{re.escape(tensor)}$": kind for tensor, kind in chosen.items()} | types,
            "q4_0",
        )
    to_type = partial(
        quantize,
        kitchen.source,
        file,
        quantization,
        threads=default_threads(),
        importance=kitchen.importance if name.method == "imatrix" else None,
        types=types,
    )
    estimated = to_type(only_estimate=True)
    to_type()
    if name.method in ("gptq", "budget"):
        kinds = {tensor: _type_name(place.kind) for tensor, place in tensors_of(file).items()}
        replace_tensors(file, compensate(kitchen.checkpoint, kitchen.texts, kinds))
    note = fallback_note(file, name.quantization)
    return {"estimated_mb": round(estimated, 1), **({"note": note} if note else {})}


def _type_name(kind: int) -> str:
    import gguf

    return gguf.GGMLQuantizationType(kind).name.lower()


def _make_genai(name: ArtifactName, folder: Path, kitchen: _Kitchen) -> dict[str, Any]:
    if name.method == "plain":
        write_genai(kitchen.checkpoint, folder, name.quantization, kitchen.settings.genai_options)
        return {}
    with tempfile.TemporaryDirectory(prefix=".source-", dir=folder) as scratch:
        if name.method == "gptq":
            write_rounded(kitchen.checkpoint, kitchen.compensated, Path(scratch))
            write_genai(Path(scratch), folder, name.quantization, BUILDER_OPTIONS)
            return {}
        options = write_joint_adapter(kitchen.adapters, Path(scratch))
        write_genai(kitchen.base.path, folder, name.quantization, {**BUILDER_OPTIONS, **options})
        return {}


def _make_portable(name: ArtifactName, folder: Path, kitchen: _Kitchen) -> dict[str, Any]:
    write = write_optimum if kitchen.settings.exporter == "optimum" else write_portable
    write(kitchen.checkpoint, folder, name.quantization)
    shutil.copyfile(kitchen.checkpoint / "config.json", folder / "config.json")
    # transformers.js reads the template there, and not from chat_template.jinja.
    config = read_json(kitchen.checkpoint / "tokenizer_config.json")
    write_json(
        folder / "tokenizer_config.json", {**config, "chat_template": read_template(kitchen.checkpoint)}
    )
    return {}


def _make_executorch(name: ArtifactName, folder: Path, kitchen: _Kitchen) -> dict[str, Any]:
    write_executorch(kitchen.checkpoint, folder)
    shutil.copyfile(kitchen.checkpoint / "config.json", folder / "config.json")
    return {}


_MAKERS: dict[str, Callable[[ArtifactName, Path, _Kitchen], dict[str, Any]]] = {
    "gguf": _make_gguf,
    "onnx-genai": _make_genai,
    "onnx-portable": _make_portable,
    "executorch": _make_executorch,
}


def _needs_source(name: ArtifactName) -> bool:
    if name.format == "onnx-genai":
        return name.method == "gptq"
    return name.format == "gguf" and name.method != "lora" and name.quantization not in FLOAT_TYPES


def _share(name: ArtifactName) -> float:
    return _SHARE_OF_FP32.get(name.quantization if name.format == "gguf" else name.format, 0.25)
