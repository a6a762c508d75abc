"""The record of an artifact in the manifest of its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from pydantic import BaseModel, ConfigDict, ValidationError

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.models.find import ModelRef, refuse_unfinished
from empathy_edge.system.files import MANIFEST, read_json, read_json_object

LONGEST_CHAIN = 8
"""So many merged checkpoints, each made of the one before, are followed to the first base."""


class ArtifactRecord(BaseModel):
    """What a runtime, the bench and a bundle need to know of an artifact.

    Attributes:
        name: as `gguf-q4_0`.
        format: `gguf`, `onnx-genai`, `onnx-portable` or `executorch`.
        quantization: as `q4_0`; of a LoRA that of the adapter.
        method: `plain`, `imatrix`, `gptq`, `lora` or `budget`.
        file: the model file's name.
        sha256: of the model file.
        size_mb: of all model files, in MB (10^6 bytes).
        base: the name of the model that it was made of, before any training.
        base_sha256: of that model's weights.
        adapter: the file name of the LoRA beside the model.
        adapter_sha256: of that file.
        rank: of the LoRA.
        estimated_mb: what llama.cpp said beforehand that the tensors would take.
        note: a sentence for the user.
    """

    # Keys that a later version adds are kept, as a bundle copies the record.
    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    format: str
    quantization: str
    method: str = "plain"
    file: str
    sha256: str
    size_mb: float
    base: str | None = None
    base_sha256: str | None = None
    adapter: str | None = None
    adapter_sha256: str | None = None
    rank: int | None = None
    estimated_mb: float | None = None
    note: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The record as it is in a manifest."""
        return self.model_dump(mode="json", exclude_unset=True)


class Details(TypedDict, total=False):
    """The fields of an artifact's record that only some artifacts have."""

    adapter: str
    adapter_sha256: str
    rank: int
    estimated_mb: float
    note: str


class OriginalBase(TypedDict):
    """The fields of an artifact's record that name the model before any training."""

    base: str
    base_sha256: str


def original_base(checkpoint: Path, base: ModelRef) -> OriginalBase:
    """The model that an artifact comes from: of a merged checkpoint or of an artifact, what it was made of.

    Of a folder on this machine the last part of its path is given: a bundle says no more than that.

    Args:
        checkpoint: the folder that the artifact is made of.
        base: the base of the export.
    """
    found = OriginalBase(base=base.name, base_sha256=base.sha256)
    folder = checkpoint if (checkpoint / MANIFEST).is_file() else Path(base.name).expanduser()
    for _ in range(LONGEST_CHAIN):
        if not (folder / MANIFEST).is_file():
            break
        manifest = read_json_object(folder / MANIFEST)
        known = manifest.get("artifact") or manifest.get("settings") or {}
        if not {"base", "base_sha256"} <= known.keys():
            break
        found = OriginalBase(base=known["base"], base_sha256=known["base_sha256"])
        if "artifact" in manifest:  # its record names the original already
            break
        folder = Path(found["base"]).expanduser()
    return OriginalBase(base=_public_name(found["base"]), base_sha256=found["base_sha256"])


def _public_name(name: str) -> str:
    """A shipped name or a hub id as it is; of a path its last part."""
    path = Path(name).expanduser()
    return path.resolve().name if path.exists() else name


class OutputFile(BaseModel):
    """A file in a folder: its sha256 and how many bytes it has."""

    sha256: str
    bytes: int


class ArtifactManifest(BaseModel):
    """The manifest of an artifact's folder, as far as a bundle needs it.

    Attributes:
        artifact: its record.
        created: date and time, ISO 8601.
        outputs: each file's path in the folder → its hash and size.
        versions: of empathy-edge and of the libraries.
    """

    artifact: ArtifactRecord
    created: str
    outputs: dict[str, OutputFile]
    versions: dict[str, str]

    @property
    def size_mb(self) -> float:
        """Of all files together, in MB (10^6 bytes)."""
        return sum(file.bytes for file in self.outputs.values()) / 1e6


def read_manifest(folder: Path) -> ArtifactManifest:
    """Read the manifest of an artifact's folder.

    Raises:
        EmpathyEdgeError: it is unfinished, or there is no manifest of an artifact.
    """
    refuse_unfinished(folder)
    try:
        return ArtifactManifest.model_validate(read_json(folder / MANIFEST))
    except ValidationError:
        raise EmpathyEdgeError(
            f"{folder}: is no artifact; give a folder that export made, as export/gguf-q4_0."
        ) from None
