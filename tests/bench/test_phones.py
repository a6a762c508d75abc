"""Predictions for phones: refused where nothing was measured, right about models that were left out."""

import csv
import json
import os
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from empathy_edge.bench.phones.device_folder import write_folder
from empathy_edge.bench.phones.model import PHASES, TYPES, Measurement, calibrate, fit
from empathy_edge.bench.phones.predict import predict
from empathy_edge.bench.phones.prediction_settings import PredictionSettings
from empathy_edge.bench.phones.profile import common_pattern
from empathy_edge.bench.phones.validate import SITUATIONS, leave_out, read_cells, summarize, validate
from empathy_edge.bench.phones.workload import Workload, workload_of
from empathy_edge.devices import Kind, device_ids, load_device, parse_device
from empathy_edge.errors import EmpathyEdgeError
from tests.conftest import assert_one_clear_error, run_command

RATES = {"q4_0": 25.0, "q4_k": 24.0, "q5_k": 18.0, "q6_k": 19.0, "q8_0": 33.0}


def artificial(speed: float, sizes: tuple[float, ...]) -> list[tuple[Workload, float]]:
    """Models whose time is their bytes over a type's known rate, on a phone of a known speed.

    Each layer takes 0.1 ms more.
    """
    found = []
    for size in sizes:
        for kind, rate in RATES.items():
            workload = Workload(f"m{size}", {kind: size}, {kind: 3 * size}, 28)
            found.append((workload, (size / rate + 28 * 1e-4) / speed))
    return found


def test_fit_finds_what_was_put_in() -> None:
    measurements = []
    for phone, speed in (("a", 1.0), ("b", 0.5), ("c", 2.0)):
        for workload, time_s in artificial(speed, (0.5, 1.0, 2.0, 4.0)):
            measurements.append(Measurement(phone, workload, time_s))
    rates, common = fit(measurements, "decode")
    for phone, workload, time_s in measurements:
        assert rates[phone].seconds(workload, "decode") == pytest.approx(time_s, rel=0.03)
    assert rates["b"].unmeasured_types(Workload("x", {"q5_0": 1.0}, {}, 28), "decode") == ["q5_0"]
    run = artificial(0.8, (1.5,))[0]
    scaled = calibrate(common, [run], "decode")
    for workload, time_s in artificial(0.8, (0.7, 3.0)):
        assert scaled.seconds(workload, "decode") == pytest.approx(time_s, rel=0.05)


def write_cells(path: Path, noise: float = 0.0) -> None:
    """A table in PocketPal's layout, of artificial phones and models."""
    with open(path, "w", newline="") as handle:
        table = csv.writer(handle)
        columns = "device_file model quant pp256_tps tg64_tps weights_total_MiB cpu_repack_MiB stream_GB_est"
        table.writerow(columns.split())
        per = {"q4_0": 4.5, "q6_k": 6.5625, "q8_0": 8.5}
        for place, (phone, speed) in enumerate({"one": 1.0, "two": 0.6, "three": 1.7}.items()):
            for number, weights in enumerate((0.8e9, 1.5e9, 3e9, 2e9)):
                for quant, bits in per.items():
                    size = weights * bits / 8 + (0.1e9 * 6.5625 / 8 if quant == "q4_0" else 0.1e9 * bits / 8)
                    wobble = 1 + noise * ((7 * number + 3 * place + len(quant)) % 5 - 2)
                    tps = speed * wobble / (size / 1e9 / RATES[quant])
                    total = size / 2**20 + 0.1e9 * 8.5 / 8 / 2**20
                    speeds = [f"{4 * tps:.3f}", f"{tps:.3f}"]
                    table.writerow([phone, f"model-{number}", quant, *speeds, total, size / 2**20, ""])


@pytest.mark.slow
def test_validation_leaves_models_out(tmp_path: Path) -> None:
    write_cells(tmp_path / "cells.csv", noise=0.02)
    cells, skipped = read_cells(tmp_path / "cells.csv")
    assert len(cells) == 36 and skipped == 0
    found = validate(cells)
    for phase in PHASES:
        assert {name for name in found if name.startswith(phase)} == {
            f"{phase}, {kind}" for kind in SITUATIONS
        }
    for item in found.values():
        assert item.mean_absolute_error < 0.12 and item.refused == 0
    only = leave_out(cells, "profile", "decode", {"model-1", "model-2"})[0]
    assert {guess.cell.model for guess in only} == {"model-1", "model-2"}
    assert summarize(only, 0).n == len(only) == 18


@pytest.mark.slow
def test_validate_command_and_its_errors(tmp_path: Path) -> None:
    write_cells(tmp_path / "cells.csv")
    result = run_command(
        "bench", "predict", "--validate", tmp_path / "cells.csv", "--json", tmp_path / "errors.json"
    )
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "errors.json").read_text())["errors"]["decode, profile"]["n"] == 36
    (tmp_path / "wrong.csv").write_text("device_file,model\na,b\n")
    assert_one_clear_error(
        run_command("bench", "predict", "--validate", tmp_path / "wrong.csv"), 2, "tg64_tps"
    )
    text = (tmp_path / "cells.csv").read_text().replace("model-0,q4_0,", "model-0,q4_0,fast", 1)
    (tmp_path / "nan.csv").write_text(text)
    assert_one_clear_error(
        run_command("bench", "predict", "--validate", tmp_path / "nan.csv"), 2, "line 2", "fast"
    )


def test_a_table_of_cells_with_a_short_row_is_refused(tmp_path: Path) -> None:
    write_cells(tmp_path / "cells.csv")
    header, first, *others = (tmp_path / "cells.csv").read_text().splitlines()
    (tmp_path / "short.csv").write_text("\n".join([header, first.rsplit(",", 3)[0], *others]))
    with pytest.raises(EmpathyEdgeError, match=r"short\.csv, line 2: has too few columns"):
        read_cells(tmp_path / "short.csv")


def test_every_profile_loads_and_every_number_has_a_source() -> None:
    profiles = [load_device(name) for name in device_ids()]
    assert len(profiles) >= 15
    assert {profile.tier for profile in profiles} == {"flagship", "mid-range", "low", "iphone", "board"}
    for profile in profiles:
        for figure in profile.figures.values():
            assert len(figure.source) >= 8 and figure.kind in get_args(Kind)
            if figure.kind == "assumed":
                assert "not found" in figure.source or "disagree" in figure.source
        assert all(set(run.decode_gb) <= set(TYPES) for run in profile.runs)


def test_a_number_without_a_source_is_refused() -> None:
    text = (
        "name: X\nsoc: Y\ntier: low\nfigures:\n"
        "  ram_gb: {value: 4, kind: measured}\n"
        "  x: {value: 1, kind: guess, source: somewhere}\n"
    )
    with pytest.raises(EmpathyEdgeError) as error:
        parse_device(text, "x", "x.yaml")
    assert "figures.ram_gb.source" in str(error.value) and "figures.x.kind" in str(error.value)


def test_the_workload_of_a_real_file(exported: Path) -> None:
    """The tiny model's Q8_0: the head is its embedding table, streamed and not computed for prompts."""
    workload = workload_of(str(exported / "gguf-q8_0"))
    size = (exported / "gguf-q8_0" / "model.gguf").stat().st_size
    assert 0 < sum(workload.decode_gb.values()) * 1e9 < size
    assert workload.kv_mb_per_token > 0 and workload.vocabulary > 40_000 and not workload.extra
    head = workload.vocabulary * 34 / 32 / 1e9
    assert sum(workload.prefill_gflop.values()) / 2 < sum(workload.decode_gb.values()) - head


def test_predictions_and_refusals(exported: Path, tmp_path: Path) -> None:
    arguments = ["--device", "all", "--artifact", exported / "gguf-q8_0", "--json", tmp_path / "p.json"]
    result = run_command("bench", "predict", *arguments)
    assert result.returncode == 0, result.stderr
    assert "predicted" in result.stdout and "redmi-note-12" in result.stderr
    for item in json.loads((tmp_path / "p.json").read_text())["predictions"]:
        assert item["label"] == "predicted"
        assert 0 < item["decode_tps"]["low"] < item["decode_tps"]["value"] < item["decode_tps"]["high"]
    artifact = exported / "gguf-q8_0"
    unknown = run_command("bench", "predict", "--device", "redmi-note-12", "--artifact", artifact)
    assert_one_clear_error(unknown, 2, "Redmi Note 12", "cores and clocks", "bench device android")
    half = run_command("bench", "predict", "--device", "galaxy-s23", "--artifact", exported / "gguf-f16")
    assert_one_clear_error(half, 2, "F16", "q4_0")


def test_no_prediction_for_onnx(exported_onnx: Path) -> None:
    onnx = run_command(
        "bench", "predict", "--device", "galaxy-s23", "--artifact", exported_onnx / "onnx-int4"
    )
    assert_one_clear_error(onnx, 2, "llama.cpp")


def test_the_first_token_comes_from_the_prompts_own_logits(exported: Path) -> None:
    """A decode step was added to the time that the prompt takes."""
    found = predict(str(exported / "gguf-q8_0"), "galaxy-s23")
    assert found.ttft_s and found.prefill_tps
    assert found.ttft_s.value == pytest.approx(256 / found.prefill_tps.value, rel=0.01)
    assert found.ttft_s.high == pytest.approx(256 / found.prefill_tps.low, rel=0.01)


def test_deeper_is_slower(exported: Path) -> None:
    artifact = str(exported / "gguf-q8_0")
    shallow = predict(artifact, "galaxy-s23").decode_tps
    deep = predict(artifact, "galaxy-s23", PredictionSettings(depth=1_000_000)).decode_tps
    assert shallow and deep and deep.value < shallow.value


def test_the_shipped_pattern_is_complete() -> None:
    for phase in PHASES:
        pattern = common_pattern().phase(phase)
        assert set(pattern.rates().per_unit_s) == set(TYPES)
        assert set(pattern.interval) == set(SITUATIONS)


LLAMA_BENCH = Path(__file__).parent / "llama-bench.jsonl"
"""What llama-bench of llama.cpp printed for a 92 MB Q4_0 of SmolLM2-135M on an x86 host with 2 threads."""


def test_ingest_recalibrates(exported: Path, tmp_path: Path) -> None:
    size = (exported / "gguf-q8_0" / "model.gguf").stat().st_size
    rows = [json.loads(line) for line in LLAMA_BENCH.read_text().splitlines()]
    (tmp_path / "r.jsonl").write_text(
        "".join(json.dumps({**row, "model_size": size - 4000}) + "\n" for row in rows)
    )
    arguments = ["--artifact", exported / "gguf-q8_0", "--device", "pixel-8", "--out", tmp_path / "mine.yaml"]
    result = run_command("bench", "ingest", tmp_path / "r.jsonl", *arguments)
    assert result.returncode == 0, result.stderr
    run = load_device(str(tmp_path / "mine.yaml")).runs[0]
    assert run.source.startswith("measured-device") and run.threads == 2
    found = predict(str(exported / "gguf-q8_0"), str(tmp_path / "mine.yaml"))
    assert found.decode_tps and found.decode_tps.value == pytest.approx(run.decode_tps, rel=0.01)
    again = run_command("bench", "ingest", tmp_path / "r.jsonl", *arguments)
    assert_one_clear_error(again, 2, "mine.yaml", "exists already")


ADB = """#!/bin/sh
# Behaves as adb does with one phone. Its storage is the folder PHONE_ROOT: its paths are paths below that.
set -eu
say() { echo "$*" >> "$PHONE_ROOT/../adb.log"; }
case $1 in
  devices) printf 'List of devices attached\\nR5CT000000\\tdevice\\n\\n' ;;
  push) say push "$3"; cp "$2" "$PHONE_ROOT$3" ;;
  pull) say pull "$2"; cp "$PHONE_ROOT$2" "$3" ;;
  shell) say shell "$2"; mkdir -p "$PHONE_ROOT/data/local/tmp"
    command=$(printf '%s' "$2" | sed "s#/data/local/tmp#$PHONE_ROOT/data/local/tmp#g")
    case $2 in
      dumpsys*) echo 'Thermal Status: 0'; echo '  level: 87' ;;
      getprop*) echo 'Pixel 8' ;;
      *) sh -c "$command" ;;
    esac ;;
esac
"""


def test_the_adb_folder_runs_and_cleans_up(exported: Path, tmp_path: Path) -> None:
    """adb is replaced by a program that behaves as it does; llama-bench's output is a real one."""
    bench = tmp_path / "llama-bench"
    bench.write_text(
        f'#!/bin/sh\n[ -f model.gguf ] || exit 9\necho "$@" > "{tmp_path}/arguments"\ncat "{LLAMA_BENCH}"\n'
    )
    bench.chmod(0o755)
    folder = tmp_path / "phone"
    artifact = str(exported / "gguf-q8_0")
    write_folder("android", artifact, folder, binary=bench, prompt_tokens=64, decode_tokens=32, threads=3)
    (tmp_path / "adb").write_text(ADB)
    (tmp_path / "adb").chmod(0o755)
    (tmp_path / "root").mkdir()
    environment = {**os.environ, "ADB": str(tmp_path / "adb"), "PHONE_ROOT": str(tmp_path / "root")}
    done = subprocess.run([folder / "run.sh"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (folder / "results" / "results.jsonl").read_text() == LLAMA_BENCH.read_text()
    assert "level: 87" in (folder / "results" / "before.txt").read_text()
    assert "-p 64 -n 32 -t 3" in (tmp_path / "arguments").read_text()
    assert not (tmp_path / "root/data/local/tmp/empathy-edge-bench").exists()
    again = subprocess.run([folder / "run.sh"], env=environment, capture_output=True, text=True)
    assert again.returncode == 2 and "exists already" in again.stderr
    with pytest.raises(EmpathyEdgeError, match="not an empty folder"):
        write_folder("android", artifact, folder, binary=None, prompt_tokens=64, decode_tokens=32, threads=3)
    with pytest.raises(EmpathyEdgeError, match="64-bit ARM"):
        write_folder(
            "android",
            artifact,
            tmp_path / "x",
            binary=Path("/bin/sh").resolve(),
            prompt_tokens=8,
            decode_tokens=8,
            threads=1,
        )


def test_a_failing_run_on_the_phone_keeps_nothing(exported: Path, tmp_path: Path) -> None:
    bench = tmp_path / "llama-bench"
    bench.write_text("#!/bin/sh\necho 'error: cannot load' >&2\nexit 1\n")
    bench.chmod(0o755)
    write_folder(
        "android",
        str(exported / "gguf-q8_0"),
        tmp_path / "phone",
        binary=bench,
        prompt_tokens=64,
        decode_tokens=32,
        threads=3,
    )
    (tmp_path / "adb").write_text(ADB)
    (tmp_path / "adb").chmod(0o755)
    (tmp_path / "root").mkdir()
    environment = {**os.environ, "ADB": str(tmp_path / "adb"), "PHONE_ROOT": str(tmp_path / "root")}
    done = subprocess.run([tmp_path / "phone" / "run.sh"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "cannot load" in done.stderr
    assert not (tmp_path / "phone/results/results.jsonl").exists()
    assert not (tmp_path / "root/data/local/tmp/empathy-edge-bench").exists()
