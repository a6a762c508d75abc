"""What several tests of the Python API need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from empathy_edge.api import (
    DistillResult,
    DistillSettings,
    DpoSettings,
    ExportResult,
    FinetuneResult,
    TrainSettings,
    distill,
    export,
    finetune,
)
from tests.conftest import made_once

FEW_ROWS = DistillSettings(reference="first-draft", models=("editor",), max_sft=8, max_pairs=8)
"""Of the shipped dialogues, as many rows as two steps take."""


@dataclass(frozen=True)
class Made:
    """The whole path in miniature."""

    rows: DistillResult
    tuned: FinetuneResult
    exported: ExportResult


@pytest.fixture(scope="session")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Rows, adapters and artifacts of the tiny model; a second worker finds what the first one made."""
    with made_once(tmp_path_factory, "api") as (folder, _):
        rows = distill("sample", folder / "rows", settings=FEW_ROWS)
        tuned = finetune(
            rows,
            folder / "tuned",
            base=tiny_model,
            sft=TrainSettings(batch_size=4, weights="fp32"),
            dpo=DpoSettings(batch_size=4, weights="fp32", length_probes=0),
        )
        exported = export(
            tuned.base, folder / "exported", adapters=tuned.adapters, to=["gguf-f16", "gguf-q8_0"]
        )
    return Made(rows, tuned, exported)
