"""What several tests of export need."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def f16(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from empathy_edge.export.gguf import writer

    file = tmp_path_factory.mktemp("f16") / "model.gguf"
    writer.write_float(tiny_model, file)
    return file
