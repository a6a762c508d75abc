"""The curve's limits, and runs under them that do not end."""

from collections.abc import Callable
from pathlib import Path

import pytest

from empathy_edge.bench import memory_curve
from empathy_edge.bench.run_worker import run_worker
from empathy_edge.bench.worker_records import GridRun, GridSettings
from empathy_edge.errors import EmpathyEdgeError
from tests.bench.made_results import grid_run

GRID = GridSettings(threads=1, prompt_tokens=[16], decode_tokens=8, context=88)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for cgroup v2 and limits nothing."""
    monkeypatch.setattr(memory_curve, "_V1", tmp_path / "none")
    monkeypatch.setattr(memory_curve, "_V2", tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory\n")
    return tmp_path


def test_groups_without_a_memory_limit_are_refused_before_anything_runs(groups: Path) -> None:
    """The free runs were made, and the first limit then failed with a traceback."""
    (groups / "cgroup.subtree_control").write_text("cpu\n")
    with pytest.raises(EmpathyEdgeError, match=r"echo \+memory > .*cgroup\.subtree_control"):
        memory_curve.ControlGroup()


def test_who_may_make_groups_is_said(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(EmpathyEdgeError, match=r"Permission denied\)\. Only root may make") as error:
        memory_curve.ControlGroup()
    assert "delegated" not in str(error.value)


def replaced(found: list[float | None]) -> Callable[..., GridRun]:
    """A worker that runs without a limit only, and keeps how long each run may take."""

    def run(*arguments: object) -> GridRun:
        timeout_s = arguments[4]
        assert timeout_s is None or isinstance(timeout_s, float)
        found.append(timeout_s)
        if timeout_s is not None:
            raise EmpathyEdgeError("it was not done in time")
        return grid_run(16, loaded_mb=500, decoded_mb=300)

    return run


def test_limits_begin_above_the_peak_of_loading_and_a_run_that_does_not_end_did_not_run(
    groups: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peak was that of decoding, so that all limits lay below what loading takes; nothing ended a run."""
    timeouts: list[float | None] = []
    monkeypatch.setattr(memory_curve, "run_worker", replaced(timeouts))
    found = memory_curve.memory_curve(
        str(exported / "gguf-f16"), threads=1, prompt_tokens=16, decode_tokens=8
    )
    free, first = found.points
    assert free.ran and free.limit_mb is None and found.peak_rss_mb == 500
    assert first.limit_mb == 650 and not first.ran
    assert timeouts[:3] == [None] * 3 and timeouts[3] is not None and timeouts[3] > 0
    assert found.smallest_limit_that_keeps_90_percent_mb is None


def test_a_worker_that_takes_too_long_is_ended(exported: Path) -> None:
    with pytest.raises(EmpathyEdgeError, match="was not done after"):
        run_worker(str(exported / "gguf-f16"), GRID, GridRun, timeout_s=0.05)
