"""The apps and runtimes that a bundle can be made for: which formats each opens, and what files it needs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.bundle.app_settings import AppSettings
from empathy_edge.export.bundle.lm_studio import preset, preset_name
from empathy_edge.export.bundle.ollama import MODELFILE, modelfile
from empathy_edge.export.record import ArtifactRecord
from empathy_edge.formats.vocabulary import vocabulary_of_gguf


@dataclass(frozen=True)
class App:
    """An app or runtime.

    Attributes:
        title: its name.
        format: of the artifacts that it opens.
        takes_adapter: whether it opens a LoRA beside a model.
    """

    title: str
    format: str
    takes_adapter: bool = False


APPS = {
    "llama-cpp": App("llama.cpp", "gguf", takes_adapter=True),
    "ollama": App("Ollama", "gguf", takes_adapter=True),
    "lm-studio": App("LM Studio", "gguf"),
    "pocketpal": App("PocketPal", "gguf"),
    "onnxruntime-genai": App("ONNX Runtime GenAI", "onnx-genai", takes_adapter=True),
    "onnxruntime": App("ONNX Runtime and transformers.js", "onnx-portable"),
    "executorch": App("ExecuTorch", "executorch"),
    "litert-lm": App("LiteRT-LM", "litertlm"),
}
"""By the name that `--for` takes; the steps of each are in NAME.md. The first that fits is the default."""

EXTRA_FILES = (MODELFILE, "*.preset.json")
"""What apps get beside the artifact's own files."""


def chosen_apps(record: ArtifactRecord, names: Sequence[str]) -> list[str]:
    """The apps of a bundle: those that were named, or the artifact's own runtime.

    Raises:
        EmpathyEdgeError: one of them cannot open the artifact; names those that can.
    """
    fitting = [name for name, app in APPS.items() if app.format == record.format]
    if not fitting:
        raise EmpathyEdgeError(f"{record.name}: no app is known here that opens the format {record.format}.")
    if not names:
        return fitting[:1]
    for name in names:
        app = APPS[name]
        if app.format != record.format:
            raise EmpathyEdgeError(
                f"{app.title} cannot open {record.name}: it opens {app.format}, this is {record.format}.\n"
                f"  For {record.format} there is: {', '.join(f'--for {other}' for other in fitting)}. "
                f"For {app.title} export an artifact of the format {app.format}."
            )
        if record.adapter and not app.takes_adapter:
            raise EmpathyEdgeError(
                f"{app.title} cannot open {record.name}: it takes no adapter beside a model.\n"
                "  Export a merged artifact (as gguf-q8_0), or take: "
                f"{', '.join(f'--for {other}' for other in fitting if APPS[other].takes_adapter)}."
            )
    return list(dict.fromkeys(names))


def files_for(names: Sequence[str], artifact: Path, settings: AppSettings) -> dict[str, str]:
    """What the apps need beside the artifact's own files: name → text; README.md has the steps of each.

    Raises:
        EmpathyEdgeError: an app cannot be given the prompt of training.
    """
    steps = [settings.filled(_instructions(name)) for name in names]
    files = {"README.md": "\n".join(steps)}
    if "ollama" in names:
        files[MODELFILE] = modelfile(settings, vocabulary_of_gguf(artifact / settings.model_file))
    if "lm-studio" in names:
        files[preset_name(settings)] = json.dumps(preset(settings), indent=2, ensure_ascii=False) + "\n"
    return files


def _instructions(name: str) -> str:
    file = resources.files("empathy_edge.export.bundle") / f"{name}.md"
    return file.read_text(encoding="utf-8")
