"""The process that measures: which libraries it loads before the clock starts, and what it counts."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from empathy_edge.bench import sustained as sustained_suite
from empathy_edge.bench.sustained import first_and_last
from empathy_edge.bench.worker import sustained
from empathy_edge.bench.worker_records import SustainedRun, SustainedSettings, Window, WorkerRun
from empathy_edge.cli import run_cli
from empathy_edge.runtimes import Reply

BEFORE_THE_CLOCK = """
import json, sys
from empathy_edge.bench import worker
from empathy_edge.bench.worker_records import GridSettings
loaded = []
open_runtime = worker.open_runtime
def opened(*arguments, **options):
    loaded.extend(sys.modules)
    return open_runtime(*arguments, **options)
worker.open_runtime = opened
settings = GridSettings(threads=1, prompt_tokens=[16], decode_tokens=8, context=64)
worker.measure(sys.argv[1], settings)
print(json.dumps(loaded))
"""


def loaded_before_the_clock(artifact: Path) -> set[str]:
    """The modules that are there when the model begins to be loaded."""
    command = (sys.executable, "-c", BEFORE_THE_CLOCK, artifact)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_gguf_is_measured_with_llama_cpp_alone(exported: Path) -> None:
    """The libraries of all runtimes were in the memory of each."""
    loaded = loaded_before_the_clock(exported / "gguf-f16")
    assert {"llama_cpp", "jinja2.sandbox"} <= loaded
    assert not loaded & {"onnxruntime_genai", "onnxruntime", "litert_lm", "torch"}


def test_the_import_of_torch_is_not_in_the_load_time(tiny_model: Path) -> None:
    loaded = loaded_before_the_clock(tiny_model)
    assert {"torch", "transformers.models.llama.modeling_llama"} <= loaded
    assert not loaded & {"llama_cpp", "onnxruntime_genai", "litert_lm"}


def test_the_import_of_onnx_runtime_is_not_in_the_load_time(exported_onnx: Path) -> None:
    loaded = loaded_before_the_clock(exported_onnx / "onnx-portable-int8")
    assert {"onnxruntime", "tokenizers"} <= loaded and not loaded & {"llama_cpp", "onnxruntime_genai"}
    if find_spec("onnxruntime_genai"):
        loaded = loaded_before_the_clock(exported_onnx / "onnx-int4")
        assert "onnxruntime_genai" in loaded and not loaded & {"llama_cpp", "torch"}


class Steady:
    """A model that says it takes 5 s for each prompt, and 0.1 s for each token after the first."""

    context = 512

    def __init__(self) -> None:
        self.replies: list[tuple[int, int]] = []

    def tokenize(self, text: str) -> list[int]:
        return list(range(len(text.split())))

    def forget(self) -> None: ...

    def reply(self, ids: list[int], *, max_new_tokens: int, ignore_stop: bool) -> Reply:
        self.replies.append((len(ids), max_new_tokens))
        times = tuple(5 + number / 10 for number in range(max_new_tokens))
        return Reply("", (), len(ids), times[0], times, "length")


def test_sustained_counts_decode_alone_and_warms_up() -> None:
    """New tokens were counted over all of the time, the prefill of each reply included."""
    loaded = WorkerRun(runtime="R", threads=1, load_s=0.1, cold=False, memory_mb={})
    settings = SustainedSettings(threads=1, context=512, decode_tokens=11, seconds=0.05)
    model = Steady()
    found = sustained(model, settings, loaded)  # type: ignore[arg-type]
    assert model.replies[:2] == [(16, 8), (32, 11)]
    assert found.windows and {window.tps for window in found.windows} == {10.0}


def windows(*ends_s: float) -> list[Window]:
    """Windows with these ends; the first has 1 token/s, the second 2, and so on."""
    return [Window(end_s=end_s, tps=float(number)) for number, end_s in enumerate(ends_s, 1)]


@pytest.mark.parametrize(
    ("ends_s", "expected"),
    [
        (range(10, 310, 10), (3.5, 27.5)),  # the first six windows and the last six
        (range(10, 130, 10), (3.5, 9.5)),
        ((10, 20, 30, 40), (1.5, 3.5)),  # below two minutes the halves
        ((10, 20, 30), (1.5, 3.0)),  # none is in both
        ((1.5, 6), (1.0, 2.0)),
        ((150, 300), (1.0, 2.0)),  # one reply is longer than a minute: no window ended in the first
        ((6,), None),
    ],
)
def test_the_first_windows_beside_the_last(
    ends_s: tuple[float, ...], expected: tuple[float, float] | None
) -> None:
    assert first_and_last(windows(*ends_s)) == expected


def test_windows_are_kept_where_they_cannot_be_compared(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def one_window(*_: object) -> SustainedRun:
        one = windows(7.0)
        return SustainedRun(runtime="R", threads=1, load_s=0.1, cold=False, memory_mb={}, windows=one)

    monkeypatch.setattr(sustained_suite, "run_worker", one_window)
    file = tmp_path / "s.json"
    command = ["bench", "sustained", str(exported / "gguf-f16"), "--minutes", "0.1", "--json", str(file)]
    assert run_cli(command) == 0
    figures = json.loads(file.read_text())
    assert figures["artifacts"][0]["windows"] == [{"end_s": 7.0, "tps": 1.0}]
    assert figures["first_minute_tps"] is None and figures["last_over_first"] is None
    assert "Measure longer: --minutes" in " ".join(capsys.readouterr().err.split())
