"""Latency and memory: measured in processes of their own, labelled, with spread."""

import json
import math
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from empathy_edge.bench import latency, memory_curve
from empathy_edge.bench.chat_suite import ChatResult, bench_chat
from empathy_edge.bench.chat_suite import summary as chat_summary
from empathy_edge.bench.latency_summary import LatencySummary, summary, unstable_figures
from empathy_edge.bench.overhead import compare
from empathy_edge.bench.own_names import own_names
from empathy_edge.bench.result_file import read_result
from empathy_edge.bench.timing_intervals import median_interval, percentile, ratio_interval
from empathy_edge.bench.worker_records import GridRun, GridSample
from empathy_edge.cli import run_cli
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.runs.settings import BenchSettings
from tests.commands.tree import assert_reported
from tests.conftest import assert_one_clear_error, run_command

ARGUMENTS = ("--prompt-tokens", "16", "--decode-tokens", "8", "--threads", "1")


@pytest.fixture(scope="module")
def measured(exported: Path, exported_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of two artifacts at two prompt lengths, in every layout."""
    folder = tmp_path_factory.mktemp("bench")
    result = run_command(
        "bench", exported / "gguf-f16", exported_onnx / "onnx-int4", *ARGUMENTS, "--prompt-tokens", "32",
        "--json", folder / "out.json", "--llama-bench", folder / "out.jsonl", "--markdown", folder / "out.md",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "measured-host" in result.stdout and "gguf-f16 @16" in result.stdout
    return folder


def test_bench_keeps_every_raw_sample(measured: Path) -> None:
    figures = read_result(measured / "out.json")
    assert figures.label == "measured-host" and figures.machine["cpu"]
    assert 0 <= figures.conditions.before.background_busy <= 1
    for row in figures.artifacts:
        assert row.threads == 1 and len(row.load_s) == 5
        for test, length in zip(row.tests, (16, 32), strict=True):
            assert test.prompt_tokens == length and len(test.samples) == 5
            assert all(len(sample.token_times_s) == 8 for sample in test.samples)
        assert set(row.memory_mb) == {"baseline", "loaded"}
        assert all(set(sample.memory_mb) == {"after_prefill", "after_decode"} for sample in test.samples)
        found = summary(row, 1)
        assert set(found.memory_mb) == {"baseline", "loaded", "after_prefill", "after_decode"}
        assert found.memory_mb["after_decode"]["anonymous"] > row.memory_mb["baseline"]["anonymous"]
        low, high = found.decode_tps_interval
        assert low <= found.decode_tps_median <= high and found.interval_coverage == 0.938
    gguf = figures.artifacts[0].tests[0].samples[0]
    assert gguf.forward_s is not None and 0 < gguf.forward_s <= gguf.token_times_s[-1]


def test_a_figure_that_is_not_stable_is_named() -> None:
    """It named the artifact alone, and nobody knew which of its figures was meant."""
    steady = LatencySummary.model_construct(
        artifact="gguf-f16",
        prompt_tokens=16,
        prefill_tps_median=812.0,
        prefill_tps_interval=(640.0, 900.0),
        decode_tps_median=126.4,
        decode_tps_interval=(121.0, 133.0),
        interval_coverage=0.938,
        stable=True,
    )
    shaky = steady.model_copy(update={"artifact": "gguf-q8_0", "stable": False})
    prefill = "gguf-q8_0, prefill 812 [640, 900] tok/s"
    assert unstable_figures([steady, shaky]) == [prefill]
    both = shaky.model_copy(update={"decode_tps_interval": (90.0, 133.0), "prompt_tokens": 32})
    assert unstable_figures([shaky, both]) == [
        "gguf-q8_0 @16, prefill 812 [640, 900] tok/s",
        "gguf-q8_0 @32, prefill 812 [640, 900] tok/s",
        "gguf-q8_0 @32, decode 126 [90, 133] tok/s",
    ]


def test_the_layout_of_the_json_file(measured: Path) -> None:
    figures = json.loads((measured / "out.json").read_text())
    assert list(figures) == [
        "format", "label", "suite", "settings", "machine", "versions", "conditions", "artifacts",
    ]  # fmt: skip
    assert list(figures["settings"]) == [
        "suite", "threads", "prompt_tokens", "decode_tokens", "context", "cold", "repetitions",
    ]  # fmt: skip
    assert all(value is not None for value in figures["conditions"]["before"].values())
    row = figures["artifacts"][0]
    assert list(row) == [
        "artifact", "size_mb", "runtime", "threads", "load_s", "tokenize_us_per_token", "tests", "memory_mb",
    ]  # fmt: skip
    assert list(row["tests"][0]["samples"][0]) == [
        "ttft_s", "prefill_tps", "decode_tps", "token_times_s", "forward_s", "major_faults", "minor_faults",
        "own_prefill_tps", "own_decode_tps", "memory_mb",
    ]  # fmt: skip


def test_bench_writes_llama_benchs_rows_and_markdown(measured: Path) -> None:
    rows = [json.loads(line) for line in (measured / "out.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    prefill, decode = rows[0], rows[1]
    assert (prefill["n_prompt"], prefill["n_gen"], decode["n_prompt"], decode["n_depth"]) == (16, 0, 0, 16)
    assert prefill["avg_ts"] > 0 and len(decode["samples_ts"]) == 5
    lines = (measured / "out.md").read_text().splitlines()
    assert lines[0].startswith("measured-host") and len(lines) == 8


@pytest.mark.slow
def test_bench_against_itself_shows_no_difference(measured: Path, exported: Path, tmp_path: Path) -> None:
    same = run_command("bench", "compare", measured / "out.json", measured / "out.json")
    assert same.returncode == 0 and "no difference seen" in same.stdout and "faster" not in same.stdout
    baseline = json.loads((measured / "out.json").read_text())
    for row in baseline["artifacts"]:
        for test in row["tests"]:
            for sample in test["samples"]:
                sample["decode_tps"] *= 10
    (tmp_path / "fast.json").write_text(json.dumps(baseline))
    slower = run_command("bench", "compare", measured / "out.json", tmp_path / "fast.json")
    assert "slower" in slower.stdout
    gate = run_command("bench", exported / "gguf-f16", *ARGUMENTS, "--baseline", tmp_path / "fast.json")
    assert gate.returncode == 1 and "FAIL gguf-f16 @16 decode_tps" in gate.stderr
    (tmp_path / "other.json").write_text("{}")
    assert_one_clear_error(
        run_command("bench", "compare", tmp_path / "other.json", tmp_path / "fast.json"), 2, "other.json"
    )
    again = run_command("bench", exported / "gguf-f16", "--json", measured / "out.json")
    assert_one_clear_error(again, 2, "out.json", "exists already")


def test_chat_suite(exported: Path, tmp_path: Path) -> None:
    said = [{"turns": ["I moved here last week.", "I know nobody.", "Maybe on Sunday."]}]
    spoken = {
        "turns": [{"speaker": "speaker", "text": "My cat died."}, {"speaker": "listener", "text": "Oh no."}]
    }
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*said, spoken]))
    arguments = ["--dialogues", tmp_path / "talk.jsonl", "--max-new-tokens", "6", "--threads", "1"]
    arguments += ["--json", tmp_path / "chat.json"]
    result = run_command("bench", exported / "gguf-f16", "--suite", "chat", *arguments)
    assert result.returncode == 0, result.stderr
    assert "cache kept" in result.stdout and "by turn" in result.stdout
    figures = ChatResult.model_validate_json((tmp_path / "chat.json").read_text())
    by_turn = chat_summary(figures.artifacts[0]).by_turn
    first_kept, third_kept, third_dropped = (
        by_turn[0].cache_kept,
        by_turn[2].cache_kept,
        by_turn[2].cache_dropped,
    )
    assert first_kept and third_kept and third_dropped
    assert third_kept.read_tokens < third_dropped.read_tokens
    assert third_kept.n == 1 and first_kept.n == 2
    (tmp_path / "wrong.jsonl").write_text('{"turns": [3]}\n')
    wrong = run_command(
        "bench", exported / "gguf-f16", "--suite", "chat", "--dialogues", tmp_path / "wrong.jsonl"
    )
    assert_one_clear_error(wrong, 2, "wrong.jsonl", "row 1")


def test_chat_of_one_token_has_no_speed(exported: Path, tmp_path: Path) -> None:
    """No gap between tokens, and so neither a gap nor a decode speed: it crashed."""
    (tmp_path / "talk.jsonl").write_text(json.dumps({"turns": ["I moved here last week."]}) + "\n")
    arguments = ["--dialogues", tmp_path / "talk.jsonl", "--max-new-tokens", "1", "--threads", "1"]
    arguments += ["--json", tmp_path / "chat.json"]
    result = run_command("bench", exported / "gguf-f16", "--suite", "chat", *arguments)
    assert result.returncode == 0, result.stderr
    found = chat_summary(ChatResult.model_validate_json((tmp_path / "chat.json").read_text()).artifacts[0])
    first = found.by_turn[0].cache_kept
    assert found.gap_ms_p95 is None and first and first.decode_tps is None
    assert "–" in result.stdout


def test_lengths_beyond_the_context_window_are_refused(exported: Path) -> None:
    lengths = ("--prompt-tokens", "500", "--decode-tokens", "64", "--threads", "1")
    result = run_command("bench", exported / "gguf-f16", *lengths)
    assert_one_clear_error(result, 2, "its context window holds 512 tokens", "a prompt of 500")


@pytest.mark.slow
def test_sustained(exported: Path, tmp_path: Path) -> None:
    arguments = ["--minutes", "0.1", "--threads", "1", "--json", tmp_path / "s.json"]
    result = run_command("bench", "sustained", exported / "gguf-f16", *arguments)
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "s.json").read_text())
    assert figures["artifacts"][0]["windows"][-1]["end_s"] >= 6
    assert figures["last_over_first"] > 0 and "first half" in result.stderr


@pytest.mark.slow
def test_memory_curve(
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where control groups can be made, the smallest limits are slow or do not run.

    Elsewhere it is one error, and the same is done in a folder that limits nothing.
    """
    monkeypatch.setattr(memory_curve, "REPETITIONS", 1)
    monkeypatch.setattr(memory_curve, "SHARES", (1.3, 0.9, 0.5))
    file = tmp_path / "curve.json"
    command = ["bench", "memory", str(exported / "gguf-f16"), *ARGUMENTS, "--json", str(file)]
    if run_cli(command) != 0:
        assert "group" in capsys.readouterr().err and not file.exists()
        monkeypatch.setattr(memory_curve, "_V1", tmp_path / "none")
        monkeypatch.setattr(memory_curve, "_V2", tmp_path)
        (tmp_path / "cgroup.controllers").write_text("memory\n")
        (tmp_path / "cgroup.subtree_control").write_text("memory\n")
        assert run_cli(command) == 0
    assert f"Next: empathy-edge bench predict --device all --artifact {command[2]}" in capsys.readouterr().err
    content = assert_reported(file, "bench 2")
    assert (content["label"], content["suite"], content["artifact"]) == (
        "measured-host",
        "memory",
        "gguf-f16",
    )
    assert content["settings"]["cgroup"] in (1, 2) and content["peak_rss_mb"] > 0  # type: ignore[index, operator]
    assert "smallest_limit_that_keeps_90_percent_mb" in content and content["machine"]["cpu"]  # type: ignore[index]
    figures = memory_curve.MemoryResult.model_validate(content)
    points = figures.points
    assert points[0].limit_mb is None and points[0].ran and len(points) >= 3
    limits = [point.limit_mb or 0 for point in points[1:]]
    assert limits == sorted(limits, reverse=True)
    assert all(point.decode_tps for point in points if point.ran)


def test_the_harness_is_small() -> None:
    """The worker without a model: under 150 MB, no torch."""
    script = (
        "import sys\n"
        "from empathy_edge.bench.worker import import_libraries; import_libraries('gguf')\n"
        "from empathy_edge.system.memory import memory_mb\n"
        "print(memory_mb()['peak_rss'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    peak, torch = done.stdout.split()
    assert float(peak) < 150 and torch == "False"


def test_median_and_ratio_intervals_cover() -> None:
    """95 % intervals of few samples hold the true value in at least about 95 % of 1000 trials."""
    chance = random.Random(5)
    medians = ratios = 0
    for _ in range(1000):
        new = [chance.lognormvariate(0.2, 0.1) for _ in range(7)]
        old = [chance.lognormvariate(0.0, 0.1) for _ in range(6)]
        found = median_interval(new)
        medians += found.low <= math.exp(0.2) <= found.high
        ratio = ratio_interval(new, old)
        ratios += ratio.low <= math.exp(0.2) <= ratio.high
    assert medians >= 940 and ratios >= 940
    assert median_interval([3.0, 1.0, 2.0, 5.0, 4.0])[:3] == (3.0, 1.0, 5.0)
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5


def test_bench_finds_every_artifact_before_it_runs_one(exported: Path, tmp_path: Path) -> None:
    assert_one_clear_error(run_command("bench", exported / "gguf-f16", tmp_path / "nothing"), 2, "nothing")


MEMORY_OF_EACH_KIND = """
import json, mmap, sys
from pathlib import Path
from empathy_edge.system.memory import memory_mb
figures = [memory_mb()]
block = b"1" * 50_000_000
figures.append(memory_mb())
with Path(sys.argv[1]).open("rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    pages = sum(mapped[start] for start in range(0, len(mapped), mmap.PAGESIZE))
    figures.append(memory_mb())
print(json.dumps(figures))
"""


def test_memory_tells_anonymous_from_file_backed(tmp_path: Path) -> None:
    # In a process of its own: threads of other libraries take and return memory in this one.
    (tmp_path / "weights").write_bytes(b"\1" * 50_000_000)
    command = (sys.executable, "-c", MEMORY_OF_EACH_KIND, tmp_path / "weights")
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    before, with_anonymous, with_file = json.loads(output)
    assert 45 < with_anonymous["anonymous"] - before["anonymous"] < 60
    assert 45 < with_file["file_backed"] - with_anonymous["file_backed"] < 60
    assert abs(with_file["anonymous"] - with_anonymous["anonymous"]) < 10


def test_our_loop_makes_the_raw_loops_tokens(exported: Path, exported_onnx: Path) -> None:
    for artifact in (exported / "gguf-f16", exported_onnx / "onnx-int4"):
        assert compare(str(artifact), rounds=2).same_tokens


@pytest.mark.slow
@pytest.mark.parametrize(("bound", "rounds"), [(math.inf, 5), (0.0, 7)])
def test_until_stable_stops_when_it_is_and_at_the_limit(
    exported: Path, monkeypatch: pytest.MonkeyPatch, bound: float, rounds: int
) -> None:
    monkeypatch.setattr(latency, "STABLE", bound)
    monkeypatch.setattr(latency, "MAX_ROUNDS", 7)
    settings = BenchSettings(prompt_tokens=16, decode_tokens=8, threads=1)
    found = latency.bench([str(exported / "gguf-f16")], settings, until_stable=True)
    assert found.settings.repetitions == rounds == len(found.artifacts[0].load_s)


def run_at(decode_tps: float) -> GridRun:
    sample = GridSample(
        ttft_s=0.1,
        prefill_tps=100.0,
        decode_tps=decode_tps,
        token_times_s=[],
        forward_s=None,
        major_faults=0,
        minor_faults=0,
    )
    return GridRun(
        runtime="R",
        threads=1,
        load_s=0.1,
        cold=False,
        memory_mb={},
        samples={"16": sample},
        tokenize_us_per_token=1.0,
    )


def test_the_widest_median_decides_whether_a_run_is_stable() -> None:
    calm = [run_at(tps) for tps in (100, 101, 99, 100, 100)]
    noisy = [run_at(tps) for tps in (50, 60, 40, 50, 50)]
    assert latency.widest_side({"a": calm}) == pytest.approx(0.01)
    assert latency.widest_side({"a": calm, "b": noisy}) == pytest.approx(0.2)


def test_the_wider_side_of_an_interval_decides() -> None:
    """Half of the width was taken, which an interval to one side alone is twice as wide as."""
    to_one_side = [run_at(tps) for tps in (100, 100, 100, 100, 104)]
    widest = latency.widest_side({"a": to_one_side})
    assert widest == pytest.approx(0.04) and widest > latency.STABLE


def test_more_rounds_than_until_stable_allows_are_refused(exported: Path) -> None:
    settings = BenchSettings(repetitions=latency.MAX_ROUNDS + 1)
    with pytest.raises(EmpathyEdgeError, match="ends after 40 rounds"):
        latency.bench([str(exported / "gguf-f16")], settings, until_stable=True)


def test_artifacts_with_one_last_name_are_told_apart(exported: Path, tmp_path: Path) -> None:
    """Their figures were written under the same name, and a baseline took one for the other."""
    other = shutil.copytree(exported / "gguf-f16", tmp_path / "other" / "gguf-f16")
    both = [exported / "gguf-f16", other]
    expected = [f"{exported.name}/gguf-f16", "other/gguf-f16"]
    assert list(own_names(both).values()) == expected
    assert own_names([other, tmp_path / "gguf-q8_0"])[other] == "gguf-f16"
    settings = BenchSettings(repetitions=5, prompt_tokens=8, decode_tokens=8, threads=1)
    measured = latency.bench([str(path) for path in both], settings)
    assert [row.artifact for row in measured.artifacts] == expected
    with pytest.raises(EmpathyEdgeError, match="is given twice"):
        latency.bench([str(other), str(other)], settings)
    with pytest.raises(EmpathyEdgeError, match="is given twice"):
        bench_chat([str(other)] * 2, conversations=[["Hello."]], rounds=1, threads=1, max_new_tokens=2)


def test_the_group_speaks_cgroup_v2_where_there_is_no_v1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files' names and words only (Linux, Documentation/admin-guide/cgroup-v2.rst)."""
    monkeypatch.setattr(memory_curve, "_V1", tmp_path / "none")
    monkeypatch.setattr(memory_curve, "_V2", tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory\n")
    group = memory_curve.ControlGroup()
    group.limit(200)
    assert group.version == 2 and (group.folder / "memory.high").read_text() == "200000000"
    group.limit(None)
    assert (group.folder / "memory.high").read_text() == "max"
    done = subprocess.run([*group.prefix(), "echo", "in"], capture_output=True, text=True)
    assert done.stdout == "in\n" and (group.folder / "cgroup.procs").read_text().strip().isdigit()
    (tmp_path / "cgroup.controllers").write_text("cpu pids\n")
    with pytest.raises(EmpathyEdgeError, match="No memory control groups"):
        memory_curve.ControlGroup()
