"""Export: merge, then one folder per artifact, then the proof that each says what the checkpoint says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from empathy_edge.console import say
from empathy_edge.models import ModelRef
from empathy_edge.recipe import ExportSettings
from empathy_edge.run import open_stage, require_space, sha256_file
from empathy_edge.runtimes import default_threads

from . import gguf, merged, onnx, verify

# What each kind of file takes, as a share of the fp32 checkpoint; for the check of the disk beforehand.
_SIZE_OF_FP32 = {"gguf-f16": 0.51, "gguf-q8_0": 0.28, "gguf-q4_0": 0.18, "gguf-q4_k_m": 0.2, "onnx-int4": 0.4}


def run(
    *, base: ModelRef, adapters: list[Path], out: Path, settings: ExportSettings, update: bool = False
) -> dict[str, Any]:
    """Write `out/merged` and one folder per artifact, then `out/verify/verify.json`; returns its manifest.

    Without adapters the base itself is exported, so that a base can be quantized first and trained on as it will ship.
    """
    checkpoint = out / "merged" if adapters else base.path
    if adapters:
        figures = merged.make(
            base=base, adapters=adapters, out=checkpoint, tolerance=settings.merge_tolerance, update=update
        )["results"]
        say(f"  merged: max logit difference {figures['merge_max_abs_logit_difference']} to the adapter model")
    artifacts = make_artifacts(checkpoint, out, settings.artifacts, update=update)
    return verify.run(
        checkpoint=checkpoint,
        artifacts=artifacts,
        out=out / "verify",
        prompts=settings.verify_prompts,
        update=update,
    )


def make_artifacts(checkpoint: Path, out: Path, names: tuple[str, ...], *, update: bool = False) -> list[Path]:
    """Make each named artifact from a checkpoint folder; returns their folders, in order."""
    full = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors")) / 1e6
    if any(name.startswith("gguf-q") for name in names) and "gguf-f16" not in names:
        names = ("gguf-f16", *names)  # what the quantizations are made from
    require_space(
        out, full * sum(_SIZE_OF_FP32[name] for name in names if not (out / name).exists()), "the artifacts"
    )
    for name in sorted(names, key=lambda item: item != "gguf-f16"):
        _make_artifact(checkpoint, out, name, update)
    return [out / name for name in names]


def _make_artifact(checkpoint: Path, out: Path, name: str, update: bool) -> None:
    kind, quantization = name.split("-", 1)
    folder = out / name
    stage = open_stage(
        folder,
        f"export {name}",
        settings={"artifact": name},
        inputs={"checkpoint": checkpoint},
        update=update,
    )
    if stage.done:
        return
    if kind == "onnx":
        onnx.write_genai(checkpoint, folder, quantization)
        file = folder / "model.onnx.data"
        file = file if file.exists() else folder / "model.onnx"
    else:
        file = folder / "model.gguf"
        if quantization == "f16":
            gguf.write_f16(checkpoint, file)
        else:
            gguf.quantize(out / "gguf-f16" / "model.gguf", file, quantization, default_threads())
    for item in merged.TOKENIZER_FILES:
        if (checkpoint / item).is_file() and not (folder / item).is_file():
            shutil.copyfile(checkpoint / item, folder / item)
    size_mb = sum(path.stat().st_size for path in folder.iterdir() if path.name.startswith("model")) / 1e6
    stage.finish(
        artifact={
            "name": name,
            "format": "onnx-genai" if kind == "onnx" else "gguf",
            "quantization": quantization,
            "file": file.name,
            "sha256": sha256_file(file),
            "size_mb": round(size_mb, 1),
        }
    )
    say(f"  {name}: {size_mb:.0f} MB")
