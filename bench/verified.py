"""What `export` measured, read from its folder `verify`: how far each artifact is from its checkpoint."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.system.files import MANIFEST, read_json


class _Part(BaseModel):
    """A part of what `verify` wrote; `verify` may write more than is needed here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class VerifiedArtifact(_Part):
    """An artifact compared with its checkpoint.

    Attributes:
        artifact: its name.
        sha256: of the model file that was compared.
        golden_ids_equal: whether it gives a fixed conversation the same token ids.
        stop_ids_equal: whether it has the same stop tokens.
        top1_agreement: the share of positions at which both give the same token the highest probability.
        mean_kl: the mean Kullback-Leibler divergence from the checkpoint, nats a token.
        p99_kl: its 99th percentile.
        positions: how many response tokens were compared.
    """

    artifact: str
    sha256: str
    golden_ids_equal: bool
    stop_ids_equal: bool
    top1_agreement: float
    mean_kl: float
    p99_kl: float
    positions: int


class MergeCheck(_Part):
    """How far the merged checkpoint is from the adapter model.

    Attributes:
        merge_max_abs_logit_difference: the largest difference of a logit.
        merge_positions: over how many positions.
    """

    merge_max_abs_logit_difference: float
    merge_positions: int


def read_verified(folder: Path) -> dict[str, VerifiedArtifact]:
    """The artifacts in `verify.json`, by name, without those that did not load or were made again since."""
    file = folder / "verify.json"
    try:
        measured = [VerifiedArtifact.model_validate(row) for row in read_json(file) if "mean_kl" in row]
    except ValidationError as error:
        first = str(error).splitlines()[0]
        raise EmpathyEdgeError(
            f"{file}: was written by another version of empathy-edge; make it again with `export --update`.\n"
            f"  ({first})"
        ) from None
    return {row.artifact: row for row in measured if _is_of_now(row, folder.parent / row.artifact)}


def _is_of_now(row: VerifiedArtifact, artifact: Path) -> bool:
    """Whether an artifact is still the one that was compared."""
    file = artifact / MANIFEST
    return not file.is_file() or read_json(file)["artifact"]["sha256"] == row.sha256
