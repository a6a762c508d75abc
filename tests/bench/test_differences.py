"""Two results side by side: tests are told apart by name and length, and each length has its own memory."""

from pathlib import Path

import pytest

from empathy_edge.bench.differences import differences, not_compared
from empathy_edge.bench.latency_summary import summary
from empathy_edge.bench.result_file import read_result, write_result
from tests.bench.made_results import artifact, memory_of, result
from tests.conftest import run_command


def test_each_length_has_its_own_memory() -> None:
    """All had that of the longest."""
    row = artifact("a", {16: 100.0, 512: 300.0})
    short, long = summary(row, 0).memory_mb, summary(row, 1).memory_mb
    assert (short["after_decode"]["peak_rss"], long["after_decode"]["peak_rss"]) == (100, 300)
    assert short["loaded"]["peak_rss"] == 80
    (shorter, longer) = differences(result(row), result(row))
    assert (shorter.anonymous_mb, longer.old_anonymous_mb) == (50, 150)


def test_a_result_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """There the artifact has the memory of its longest prompt."""
    old = artifact("a", {16: 0.0}, {"loaded": memory_of(80), "after_decode": memory_of(200)})
    write_result(tmp_path / "old.json", result(old))
    (item,) = differences(result(artifact("a", {16: 100.0})), read_result(tmp_path / "old.json"))
    assert (item.anonymous_mb, item.old_anonymous_mb) == (50, 100)


def test_what_only_one_result_has_is_named(tmp_path: Path) -> None:
    new = result(artifact("a", {16: 1.0, 32: 1.0}), artifact("b", {16: 1.0}))
    old = result(artifact("a", {16: 1.0}), artifact("c", {16: 1.0}))
    assert not_compared(new, old) == [
        "a @32 (only in the new result)",
        "b @16 (only in the new result)",
        "c @16 (only in the old result)",
    ]
    write_result(tmp_path / "new.json", new)
    write_result(tmp_path / "old.json", old)
    shown = run_command("bench", "compare", tmp_path / "new.json", tmp_path / "old.json")
    assert shown.returncode == 0 and "Not compared: a @32" in shown.stderr, shown.stderr


def test_of_a_result_with_one_name_twice_the_others_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = result(artifact("a", {16: 1.0}), artifact("a", {16: 2.0}), artifact("b", {16: 2.0}))
    write_result(tmp_path / "old.json", twice)
    assert [row.artifact for row in read_result(tmp_path / "old.json").artifacts] == ["b"]
    assert "several artifacts with the name a" in capsys.readouterr().err
