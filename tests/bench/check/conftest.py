"""What several tests of the check need."""

from pathlib import Path

import pytest

from tests.conftest import made_once


@pytest.fixture(scope="session")
def damaged(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF of the tiny model with much noise on its weights."""
    from empathy_edge.export.artifacts import make_artifacts
    from empathy_edge.models.find import find_model
    from empathy_edge.runs.settings import ExportSettings
    from tests.known_bad import write_known_bad

    with made_once(tmp_path_factory, "damaged") as (folder, is_made):
        if not is_made:
            write_known_bad(tiny_model, folder / "model")
            settings = ExportSettings(artifacts=("gguf-f16",))
            base = find_model(str(tiny_model))
            make_artifacts(folder / "model", folder / "out", settings, base=base, adapters=[])
    return folder / "out" / "gguf-f16"
