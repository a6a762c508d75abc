"""Fixtures of these tests."""

from pathlib import Path

import pytest

from empathy_edge.data import sample_dialogues
from empathy_edge.distill import from_ratings as distill
from empathy_edge.runs.settings import DistillSettings


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rows") / "distill"
    settings = DistillSettings(reference="first-draft", models=("editor",), max_sft=12, max_pairs=12)
    distill.run(data=sample_dialogues(), out=out, settings=settings)
    return out
