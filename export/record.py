"""The record of an artifact in the manifest of its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from pydantic import BaseModel, ConfigDict, ValidationError

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.system.files import MANIFEST, read_json


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
        EmpathyEdgeError: there is no manifest, or not of an artifact.
    """
    try:
        return ArtifactManifest.model_validate(read_json(folder / MANIFEST))
    except ValidationError:
        raise EmpathyEdgeError(
            f"{folder}: is no artifact; give a folder that export made, as export/gguf-q4_0."
        ) from None
