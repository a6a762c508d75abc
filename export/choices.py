"""What an artifact would be before it is made, and making it: what `choose` needs of the export."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.artifact_files import F16_GGUF, require_own_writer
from empathy_edge.export.artifacts import make_artifacts, require_makers
from empathy_edge.export.gguf.quantize import planned_types
from empathy_edge.export.gguf.tensor_types import type_number
from empathy_edge.formats.artifact_names import FLOAT_TYPES, ArtifactName, parse_artifact
from empathy_edge.formats.gguf_header import TensorPlace, tensors_of
from empathy_edge.models.find import ModelRef
from empathy_edge.runs.settings import ExportSettings
from empathy_edge.system.files import read_json
from empathy_edge.system.locks import holding, lock_in_cache


@dataclass(frozen=True)
class PlannedArtifact:
    """An artifact that is not made yet.

    Attributes:
        size_mb: how large it would be, MB (10^6 bytes).
        tensors: of a GGUF, what it would hold; None where that is not known before.
        size_is_known: False where the size is a guess.
    """

    size_mb: float
    tensors: dict[str, TensorPlace] | None
    size_is_known: bool = True


_LIKELY_SHARE = {"int4": 0.17, "int8": 0.45, "fp32": 1.05}
"""The likely size of what is no GGUF as a share of the fp32 checkpoint; it depends on embeddings and head."""


@dataclass
class ArtifactMaker:
    """Plans and makes artifacts of one checkpoint in the folder of an export.

    Attributes:
        base: the checkpoint.
        out: the export's folder; what is there is used again.
        calibration: dialogues for compensated and mixed types; None: the shipped ones.
    """

    base: ModelRef
    out: Path
    calibration: str | None = None
    _types: dict[str, dict[str, str]] = field(default_factory=dict)

    def prepare(self, names: list[str]) -> None:
        """Make what all GGUFs are planned from.

        Raises:
            EmpathyEdgeError: it cannot be made: the folder is of another model, or the disk is full.
        """
        if any(parse_artifact(name).format == "gguf" for name in names):
            self.make(F16_GGUF)

    def plan(self, name: str) -> PlannedArtifact:
        """What an artifact would be. A GGUF's types are llama.cpp's own choice, by its dry run.

        Raises:
            EmpathyEdgeError: it cannot be made, or a package is not installed.
        """
        parsed = parse_artifact(name)
        require_makers([parsed])
        require_own_writer([parsed], self.base.path, has_importance=False)
        if parsed.format != "gguf":
            checkpoint_mb = sum(file.stat().st_size for file in self.base.path.glob("*.safetensors")) / 1e6
            share = _LIKELY_SHARE.get(parsed.quantization, 1.0)
            return PlannedArtifact(checkpoint_mb * share, None, size_is_known=False)
        if parsed.method == "budget":
            return PlannedArtifact(float(parsed.budget_mb or 0), None)
        return self._planned_gguf(parsed)

    def _planned_gguf(self, name: ArtifactName) -> PlannedArtifact:
        source = self.make(F16_GGUF) / "model.gguf"
        tensors = tensors_of(source)
        if name.quantization not in FLOAT_TYPES:
            if name.quantization not in self._types:
                self._types[name.quantization] = planned_types(source, name.quantization)
            types = self._types[name.quantization]
            tensors = {key: _as_type(place, types.get(key)) for key, place in tensors.items()}
        other = source.stat().st_size - sum(place.nbytes for place in tensors_of(source).values())
        return PlannedArtifact((sum(place.nbytes for place in tensors.values()) + other) / 1e6, tensors)

    def make(self, name: str) -> Path:
        """The artifact's folder; made unless it is there."""
        settings = ExportSettings(artifacts=(name,), calibration=self.calibration)

        def wait() -> None:
            say(f"Waiting for another command that writes into {self.out} …")

        with holding(lock_in_cache(self.out), wait):
            (folder,) = make_artifacts(self.base.path, self.out, settings, base=self.base, adapters=[])
        return folder

    def size_mb(self, name: str) -> float:
        """Of an artifact that is made."""
        record = read_json(self.out / name / "manifest.json").get("artifact", {})
        if "size_mb" not in record:
            raise EmpathyEdgeError(f"{self.out / name}: is no artifact that export made.")
        return float(record["size_mb"])


def _as_type(place: TensorPlace, kind: str | None) -> TensorPlace:
    """A tensor in another type; as it is where llama.cpp would leave it."""
    if kind is None:
        return place
    import gguf

    number = type_number(kind)
    block, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(number)]
    weights = 1
    for length in place.shape:
        weights *= length
    return place._replace(kind=number, nbytes=weights // block * block_bytes)
