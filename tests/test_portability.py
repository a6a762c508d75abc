"""Without what only Linux has, nothing ends in an AttributeError or an ImportError."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import pytest

from empathy_edge.bench import chat_suite, run_worker, worker
from empathy_edge.bench.conditions import conditions
from empathy_edge.bench.worker_records import ChatRun, ChatTurn
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.bundle import check
from empathy_edge.runs.stage import locked
from empathy_edge.system import machine, memory
from tests.conftest import ROOT

POSIX_ONLY = {"fcntl", "resource", "termios", "tty", "pty", "readline", "pwd", "grp"}


def test_no_module_needs_a_posix_module_to_be_imported() -> None:
    """Where one is used, it is imported inside of the function, which can do without it."""
    found = []
    for folder in ("empathy_edge", "bench", "devices", "prompts", "export"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                found += [f"{path}: {name}" for name in names if name.split(".")[0] in POSIX_ONLY]
    assert not found


def test_memory_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "PROC", tmp_path / "absent")
    found = memory.memory_mb()
    assert found["anonymous"] > 5 and found["peak_rss"] >= found["anonymous"] and found["file_backed"] >= 0
    memory.reset_peak()


@pytest.mark.parametrize("modules", [("resource",)])
def test_memory_and_faults_without_resource(
    modules: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "PROC", tmp_path / "absent")
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)
    assert memory.memory_mb()["peak_rss"] > 5
    assert all(count >= 0 for count in memory.minor_major_faults())


def test_machine_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "absent")
    machine._cpu_name.cache_clear()
    found = machine.machine()
    machine._cpu_name.cache_clear()
    assert found["cpu"] and found["cores"] == os.cpu_count() and found["memory_gb"] > 0


def test_conditions_where_psutil_knows_less(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    for name in ("sensors_temperatures", "getloadavg", "cpu_freq"):
        monkeypatch.delattr(psutil, name, raising=False)
    assert 0 <= conditions(0.01).background_busy <= 1


def test_a_cold_start_is_a_warm_one_where_the_page_cache_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.gguf").write_bytes(b"x")
    if hasattr(os, "posix_fadvise"):
        assert worker.drop_from_page_cache(tmp_path)
        monkeypatch.delattr(os, "posix_fadvise")
    assert not worker.drop_from_page_cache(tmp_path)
    run_worker.say_if_warm(cold=False)
    assert "warm start" in capsys.readouterr().err
    turn = ChatTurn(
        turn=1,
        cache_kept=True,
        prompt_tokens=9,
        cached_tokens=0,
        ttft_s=0.1,
        first_sentence_s=None,
        gaps_s=[0.1],
        decode_tps=9.0,
        stopped=True,
    )
    warm = ChatRun(runtime="R", threads=1, load_s=0.2, cold=False, memory_mb={}, turns=[turn])
    summary = chat_suite.summary(chat_suite.ChatArtifact(artifact="a", size_mb=1.0, runs=[warm]))
    assert summary.cold_load_s is None and summary.warm_load_s == 0.2


def test_a_template_is_rendered_where_memory_cannot_be_limited(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import resource

    def refused(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")  # macOS

    monkeypatch.setattr(resource, "setrlimit", refused)
    check._limit_memory(2**30)
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows
    check._limit_memory(2**30)


def test_a_run_is_locked_without_fcntls_own_call(tmp_path: Path) -> None:
    busy = pytest.raises(EmpathyEdgeError, match="another empathy-edge process")
    with locked(tmp_path / "run"), busy, locked(tmp_path / "run"):
        pass
    with locked(tmp_path / "run"):
        pass  # free again
