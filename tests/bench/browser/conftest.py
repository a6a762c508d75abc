"""What the server needs beside this package; without it these tests are skipped with a word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from empathy_edge.errors import PrerequisiteError
from tests.bench.browser.serving import Served, serving


@pytest.fixture(scope="session")
def wllama() -> dict[str, bytes]:
    """wllama's files, from the cache or the npm registry."""
    for package in ("starlette", "uvicorn", "segno", "cryptography"):
        pytest.importorskip(package, reason="the extra 'phone' is not installed")
    from empathy_edge.bench.browser.wllama import wllama_files

    try:
        return wllama_files()
    except PrerequisiteError as error:
        pytest.skip(f"wllama cannot be had: {error.missing}")


@pytest.fixture(scope="module")
def served(
    exported: Path, wllama: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The tiny model's F16, for the tests of a module."""
    with serving(exported / "gguf-f16", tmp_path_factory.mktemp("results")) as running:
        yield running
