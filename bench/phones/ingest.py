"""Results that come back from a phone: read, checked, labelled `measured-device`, and put into its profile.

A browser's result (`phone`) makes a profile of its own: its figures are never mixed with native ones.

Layouts: llama-bench's JSON and JSONL (llama.cpp, tools/llama-bench), PocketPal AI's exported benchmark
JSON, and a CSV with the columns `prefill_tps`, `decode_tps` and perhaps `threads`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from empathy_edge.bench.phones.device_folder import gguf_file
from empathy_edge.bench.phones.predict import Estimate, predict
from empathy_edge.bench.phones.workload import Workload, workload_of
from empathy_edge.console import say
from empathy_edge.devices import Device, Run, load_device
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import lines_of
from empathy_edge.system.files import write_atomically
from empathy_edge.system.hash_cache import sha256_file

if TYPE_CHECKING:
    from empathy_edge.bench.browser.results import BrowserResult

MAX_TPS = 20_000.0
"""Tokens per second beyond which a figure is a mistake, not a phone."""


@dataclass(frozen=True)
class PhoneSpeed:
    """What one run on a phone tells, in tokens per second; None where it does not tell."""

    threads: int | None = None
    prefill_tps: float | None = None
    decode_tps: float | None = None


def ingest(file: Path, artifact: str, device_id: str, out: Path) -> Device:
    """Add a phone's results to its profile, and show what had been predicted beside what was measured.

    Args:
        file: the results.
        artifact: the GGUF that was run; where the results tell its size, it must be the same.
        device_id: the profile to begin with.
        out: the new profile.

    Raises:
        EmpathyEdgeError: the file is of no known layout, or a figure in it cannot be.
    """
    if browser_result := _browser_result(file):
        return _ingest_browser(browser_result, file, artifact, device_id, out)
    model = gguf_file(artifact)
    workload = workload_of(artifact)
    device = load_device(device_id)
    speeds = read_results(file, model.stat().st_size)
    source = f"measured-device ({file.name}, sha256 {sha256_file(file)[:12]})"
    new = [_run_of(speed, workload, source) for speed in speeds]
    _show_predicted_and_measured(artifact, device_id, new)
    profile = device.model_dump(exclude={"id"}, exclude_none=True, exclude_defaults=True)
    profile["runs"] = [
        run.model_dump(exclude_none=True, exclude_defaults=True) for run in (*device.runs, *new)
    ]
    text = yaml.safe_dump(profile, sort_keys=False, width=118, allow_unicode=True)
    write_atomically(out, text)
    recalibrated = load_device(str(out))
    say(
        f"{out}: {len(new)} runs added, labelled measured-device. "
        f"Predictions with --device {out} are based on them."
    )
    return recalibrated


def _browser_result(file: Path) -> BrowserResult | None:
    """The result of a browser; None where the file is of another layout.

    Raises:
        EmpathyEdgeError: it is one of another version.
    """
    from empathy_edge.bench.browser.results import is_browser_result, read_browser_result

    return read_browser_result(file) if is_browser_result(file) else None


def _ingest_browser(result: BrowserResult, file: Path, artifact: str, device_id: str, out: Path) -> Device:
    """A profile of the phone's browser: what the phone is, the new run, and none of its native figures."""
    if sha256_file(gguf_file(artifact)) != result.model_sha256:
        raise EmpathyEdgeError(f"{file}: ran {result.artifact}, which is another file than --artifact.")
    if result.tokens == "differ":
        raise EmpathyEdgeError(f"{file}: the tokens were not those of the host; nothing is based on it.")
    device = load_device(device_id)
    speed = PhoneSpeed(result.threads, round(result.prefill_tps, 3), round(result.decode_tps, 3))
    source = f"{result.label} ({file.name}, sha256 {sha256_file(file)[:12]}, {result.runtime})"
    native = ("decode_", "prefill_")
    profile = device.model_dump(exclude={"id", "runs", "elsewhere"}, exclude_none=True, exclude_defaults=True)
    profile["name"] = f"{device.name} (browser)"
    profile["figures"] = {
        name: figure for name, figure in profile.get("figures", {}).items() if not name.startswith(native)
    }
    run = _run_of(speed, workload_of(artifact), source)
    profile["runs"] = [run.model_dump(exclude_none=True, exclude_defaults=True)]
    write_atomically(out, yaml.safe_dump(profile, sort_keys=False, width=118, allow_unicode=True))
    say(
        f"{out}: a profile of its own, based on one run labelled {result.label}. "
        f"Predictions with --device {out} are of the browser; the phone's native profile stays as it is."
    )
    return load_device(str(out))


def read_results(file: Path, model_bytes: int) -> list[PhoneSpeed]:
    """The speed of each run.

    Args:
        file: in one of the known layouts.
        model_bytes: the size of the GGUF that is said to have been run.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EmpathyEdgeError(f"{file}: cannot be read: {error}.") from None
    if file.suffix.lower() == ".csv":
        return _from_csv(file, text)
    rows = _json_rows(file, text)
    if rows and "avg_ts" in rows[0]:
        return _from_llama_bench(file, rows, model_bytes)
    if rows and any(key in rows[0] for key in ("ppAvg", "benchmarks", "pp", "result")):
        return _from_pocketpal(file, rows)
    raise EmpathyEdgeError(
        f"{file}: is neither llama-bench's JSON (avg_ts), nor PocketPal's (ppAvg, tgAvg), nor a .csv with "
        "prefill_tps and decode_tps."
    )


def _json_rows(file: Path, text: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(text)
        rows = content if isinstance(content, list) else [content]
    except ValueError:
        rows = _json_lines(file, text)
    if not all(isinstance(row, dict) for row in rows):
        raise EmpathyEdgeError(f"{file}: holds something that is not an object.")
    return rows


def _json_lines(file: Path, text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise EmpathyEdgeError(f"{file}: line {number} is not JSON ({error}).") from None
    return rows


def _from_llama_bench(file: Path, rows: list[dict[str, Any]], model_bytes: int) -> list[PhoneSpeed]:
    """Prefill rows (n_gen 0) and decode rows (n_prompt 0) of the same threads belong together."""
    by_threads: dict[int, PhoneSpeed] = {}
    for number, row in enumerate(rows, 1):
        _check_llama_bench_row(f"{file}, row {number}", row, model_bytes)
        threads = int(row.get("n_threads", 0))
        speed = by_threads.setdefault(threads, PhoneSpeed(threads or None))
        prompt, new = int(row.get("n_prompt", 0)), int(row.get("n_gen", 0))
        if prompt and new:
            continue  # of both together neither speed can be told
        tps = _tps(file, number, row["avg_ts"])
        if prompt:
            by_threads[threads] = replace(speed, prefill_tps=tps)
        else:
            by_threads[threads] = replace(speed, decode_tps=tps)
    return list(by_threads.values())


def _check_llama_bench_row(place: str, row: dict[str, Any], model_bytes: int) -> None:
    """Refuse a row of another model or of a GPU."""
    size = row.get("model_size")
    # llama-bench counts the tensors only, which are a few MB less than the file.
    if size and not 0.9 * model_bytes <= float(size) <= 1.01 * model_bytes:
        raise EmpathyEdgeError(
            f"{place}: ran a model of {float(size) / 1e6:.0f} MB, --artifact has {model_bytes / 1e6:.0f}."
        )
    backends = str(row.get("backends", "CPU"))
    if int(row.get("n_gpu_layers") or 0) > 0 and backends not in ("CPU", "BLAS", ""):
        raise EmpathyEdgeError(f"{place}: ran on {backends}; profiles are of the CPU (-ngl 0).")


def _from_pocketpal(file: Path, rows: list[dict[str, Any]]) -> list[PhoneSpeed]:
    results = []
    for number, row in enumerate(rows, 1):
        for item in row.get("benchmarks", [row.get("result", row)]):
            prefill, decode = item.get("ppAvg", item.get("pp")), item.get("tgAvg", item.get("tg"))
            if prefill is None and decode is None:
                raise EmpathyEdgeError(f"{file}, row {number}: has neither ppAvg nor tgAvg.")
            results.append(
                PhoneSpeed(
                    threads=(item.get("initSettings") or {}).get("n_threads"),
                    prefill_tps=None if prefill is None else _tps(file, number, prefill),
                    decode_tps=None if decode is None else _tps(file, number, decode),
                )
            )
    return results


def _from_csv(file: Path, text: str) -> list[PhoneSpeed]:
    table = csv.DictReader(io.StringIO(text))
    if not {"prefill_tps", "decode_tps"} & set(table.fieldnames or []):
        raise EmpathyEdgeError(f"{file}: needs a column prefill_tps or decode_tps; has {table.fieldnames}.")
    results = []
    for number, row in enumerate(table, 2):
        prefill, decode = row.get("prefill_tps"), row.get("decode_tps")
        results.append(
            PhoneSpeed(
                threads=_threads(file, number, row["threads"]) if row.get("threads") else None,
                prefill_tps=_tps(file, number, prefill) if prefill else None,
                decode_tps=_tps(file, number, decode) if decode else None,
            )
        )
    if not results:
        raise EmpathyEdgeError(f"{file}: has no rows.")
    return results


def _threads(file: Path, number: int, value: str) -> int:
    if not value.strip().isdecimal() or int(value) == 0:
        raise EmpathyEdgeError(f"{file}, row {number}: {value!r} is no number of threads.")
    return int(value)


def _tps(file: Path, number: int, value: Any) -> float:
    try:
        speed = float(value)
    except (TypeError, ValueError):
        speed = math.nan
    if not 0 < speed <= MAX_TPS:
        raise EmpathyEdgeError(f"{file}, row {number}: {value!r} is no speed in tokens/s.")
    return round(speed, 3)


def _run_of(speed: PhoneSpeed, workload: Workload, source: str) -> Run:
    """As a profile has it."""
    return Run(
        model=workload.name,
        decode_gb={kind: round(amount, 5) for kind, amount in workload.decode_gb.items()},
        prefill_gflop={kind: round(amount, 5) for kind, amount in workload.prefill_gflop.items()},
        layers=workload.layers,
        extra=workload.extra,
        source=source,
        threads=speed.threads,
        prefill_tps=speed.prefill_tps,
        decode_tps=speed.decode_tps,
    )


def _show_predicted_and_measured(artifact: str, device_id: str, new: list[Run]) -> None:
    try:
        before = predict(artifact, device_id)
    except EmpathyEdgeError:
        say("Nothing could be predicted for this device before.")
        return
    for run in new:
        _show_one("decode_tps", run.decode_tps, before.decode_tps)
        _show_one("prefill_tps", run.prefill_tps, before.prefill_tps)


def _show_one(name: str, measured: float | None, predicted: Estimate | None) -> None:
    if measured and predicted:
        inside = "inside" if predicted.low <= measured <= predicted.high else "OUTSIDE"
        say(
            f"{name}: measured-device {measured:g}, predicted {predicted.value:g} "
            f"[{predicted.low:g}, {predicted.high:g}]: {inside}"
        )
