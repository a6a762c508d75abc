"""The cache: what is shown, what is removed when unused, and what stays."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from empathy_edge.models.find import checkpoint_of
from empathy_edge.system.kept_models import kept_models, remove_unused
from tests.conftest import run_command

DAY_S = 86400


def age(path: Path, days: float) -> None:
    past = time.time() - days * DAY_S
    os.utime(path, (past, past))


@pytest.fixture
def cache(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a converted model, a model's GGUF and replies, all of them last used 40 days ago."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(cache))
    checkpoint_of(str(exported / "gguf-f16"))
    shutil.copytree(exported / "gguf-f16", cache / "references" / "0123" / "gguf-f16")
    (cache / "replies").mkdir()
    (cache / "replies" / "paid.jsonl").write_text("{}\n")
    for kept in [item.path for item in kept_models()]:
        age(kept, 40)
    return cache


def test_unused_models_are_removed_and_answers_stay(cache: Path) -> None:
    result = run_command("cache", "--json", "-")
    shown = json.loads(result.stdout)
    assert shown["format"] == "empathy-edge cache 1" and not shown["removed"]
    assert [item["kind"] for item in shown["kept"]] == ["checkpoints", "references"]  # the largest first
    assert [item["model"] for item in shown["kept"]] == ["model.gguf", "tiny-model"]
    assert all(39 < item["unused_days"] < 41 and item["mb"] > 1 for item in shown["kept"])
    assert "Next: empathy-edge cache --remove-unused 30" in result.stderr
    nothing = run_command("cache", "--remove-unused", "50")
    assert "Removed: 0 models" in nothing.stdout and len(kept_models()) == 2
    removed = run_command("cache", "--remove-unused", "30")
    assert removed.returncode == 0 and "Removed: 2 models" in removed.stdout
    assert "No models are kept in" in removed.stdout and not kept_models()
    assert (cache / "replies" / "paid.jsonl").exists()


def test_what_was_used_now_stays(cache: Path, exported: Path) -> None:
    reference = cache / "references" / "0123"
    checkpoint_of(str(exported / "gguf-f16"))
    assert [item.path for item in remove_unused(30)] == [reference]
    assert [item.kind for item in kept_models()] == ["checkpoints"]
    assert not remove_unused(0)  # used within the hour


def test_no_cache_is_nothing(tmp_path: Path) -> None:
    result = run_command("cache", env=os.environ | {"EMPATHY_EDGE_CACHE": str(tmp_path / "none")})
    assert result.returncode == 0 and "No models are kept in" in result.stdout and "Next" not in result.stderr
