"""What a phone reached, read from the results of other programs: one number of threads, one length.

Layouts: llama-bench's JSON and JSONL (llama.cpp, tools/llama-bench), PocketPal AI's exported benchmark
JSON (its BenchmarkResult), and a CSV with the columns `prefill_tps`, `decode_tps` and perhaps `threads`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import lines_of

MAX_TPS = 20_000.0
"""Tokens per second beyond which a figure is a mistake, not a phone."""

USUAL_PROMPT, USUAL_NEW = 256, 64
"""Lengths with which the shipped rates were measured, tokens; of several lengths the nearest is taken."""

CPU_BACKENDS = {"CPU", "BLAS"}
"""What llama-bench calls the ways to compute on the CPU."""


@dataclass(frozen=True)
class PhoneSpeed:
    """What one run on a phone tells, in tokens per second; None where it does not tell."""

    threads: int | None = None
    prefill_tps: float | None = None
    decode_tps: float | None = None


@dataclass(frozen=True)
class _Row:
    """What a file says of one measurement: its settings and its speeds; None where it does not tell.

    `depth` are the tokens in the cache at its beginning.
    """

    threads: int | None
    depth: int = 0
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    prefill_tps: float | None = None
    decode_tps: float | None = None


def read_results(file: Path, model_bytes: int) -> PhoneSpeed:
    """The speed with the number of threads that was the fastest; says what else it leaves out.

    Args:
        file: in one of the known layouts.
        model_bytes: the size of the GGUF that is said to have been run.

    Raises:
        EmpathyEdgeError: the file is of no known layout, ran another model or on a GPU, or a figure in it
            cannot be.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EmpathyEdgeError(f"{file}: cannot be read: {error}.") from None
    if file.suffix.lower() == ".csv":
        return _one_setting(file, _from_csv(file, text))
    rows = _json_rows(file, text)
    if rows and "avg_ts" in rows[0]:
        return _one_setting(file, _from_llama_bench(file, rows, model_bytes))
    if rows and any(key in rows[0] for key in ("ppAvg", "benchmarks", "pp", "result")):
        return _one_setting(file, _from_pocketpal(file, rows, model_bytes))
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


def _from_llama_bench(file: Path, rows: list[dict[str, Any]], model_bytes: int) -> list[_Row]:
    """Rows of prefill alone (n_gen 0) and of decode alone (n_prompt 0), each with the least filled cache."""
    found = []
    for number, row in enumerate(rows, 1):
        place = f"{file}, row {number}"
        _check_size(place, row.get("model_size"), model_bytes)
        _check_backends(place, row)
        threads = _count(place, row, "n_threads")
        prompt, new = _count(place, row, "n_prompt"), _count(place, row, "n_gen")
        depth = _count(place, row, "n_depth") or 0
        if prompt and not new:
            tps = _tps(place, row.get("avg_ts"))
            found.append(_Row(threads, depth, prompt_tokens=prompt, prefill_tps=tps))
        elif new and not prompt:
            found.append(_Row(threads, depth, new_tokens=new, decode_tps=_tps(place, row.get("avg_ts"))))
        # Of both together neither speed can be told.
    if not found:
        raise EmpathyEdgeError(
            f"{file}: has no row of prefill alone or decode alone.\n"
            f"  Measure with: llama-bench -m MODEL -p {USUAL_PROMPT} -n {USUAL_NEW} -o jsonl"
        )
    prefill, decode = [row for row in found if row.prefill_tps], [row for row in found if row.decode_tps]
    return [*_least_deep(file, "prefill", prefill), *_least_deep(file, "decode", decode)]


def _least_deep(file: Path, phase: str, rows: list[_Row]) -> list[_Row]:
    """The rows with the least filled cache; says what is left out, and where that is not an empty one."""
    least = min((row.depth for row in rows), default=0)
    kept = [row for row in rows if row.depth == least]
    if len(kept) < len(rows):
        others = len(rows) - len(kept)
        say(f"{file}: {others} of {len(rows)} rows of {phase} began with more tokens in the cache; left out.")
    if least:
        say(f"{file}: {phase} was measured with {least} tokens in the cache, which makes it a little slower.")
    return kept


def _check_size(place: str, size: object, model_bytes: int) -> None:
    """Refuse another model. The programs count the tensors only, which are a few MB less than the file."""
    if size and not 0.9 * model_bytes <= _number(size) <= 1.01 * model_bytes:
        raise EmpathyEdgeError(
            f"{place}: ran a model of {_number(size) / 1e6:.0f} MB, --artifact has {model_bytes / 1e6:.0f}."
        )


def _check_backends(place: str, row: dict[str, Any]) -> None:
    """Refuse llama-bench on a GPU: fewer than 0 layers are all that fit."""
    backends = str(row.get("backends") or "CPU")
    if _number(row.get("n_gpu_layers") or 0) != 0 and not set(backends.split(",")) <= CPU_BACKENDS:
        raise EmpathyEdgeError(f"{place}: ran on {backends}; profiles are of the CPU (-ngl 0).")


def _from_pocketpal(file: Path, rows: list[dict[str, Any]], model_bytes: int) -> list[_Row]:
    found = []
    for number, row in enumerate(rows, 1):
        place = f"{file}, row {number}"
        items = row.get("benchmarks", [row.get("result", row)])
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise EmpathyEdgeError(f"{place}: holds no benchmarks of PocketPal.")
        found += [_pocketpal_row(place, item, model_bytes) for item in items]
    if not found:
        raise EmpathyEdgeError(f"{file}: has no benchmarks.")
    return found


def _pocketpal_row(place: str, item: dict[str, Any], model_bytes: int) -> _Row:
    prefill, decode = item.get("ppAvg", item.get("pp")), item.get("tgAvg", item.get("tg"))
    if prefill is None and decode is None:
        raise EmpathyEdgeError(f"{place}: has neither ppAvg nor tgAvg.")
    settings, lengths = _object(item.get("initSettings")), _object(item.get("config"))
    _check_size(place, item.get("modelSize"), model_bytes)
    _check_pocketpal_device(place, settings)
    return _Row(
        threads=_count(place, settings, "n_threads"),
        prompt_tokens=_count(place, lengths, "pp"),
        new_tokens=_count(place, lengths, "tg"),
        prefill_tps=None if prefill is None else _tps(place, prefill),
        decode_tps=None if decode is None else _tps(place, decode),
    )


def _check_pocketpal_device(place: str, settings: dict[str, Any]) -> None:
    """Refuse a run with layers on a GPU, unless only the CPU was allowed to compute."""
    layers, devices = settings.get("n_gpu_layers") or 0, settings.get("devices")
    only_cpu = devices == ["CPU"] or settings.get("no_gpu_devices") is True
    if _number(layers) != 0 and not only_cpu:
        raise EmpathyEdgeError(
            f"{place}: ran with {layers} layers on a GPU (devices: {devices or 'chosen by the app'}); "
            "profiles are of the CPU.\n  Choose the device CPU in PocketPal, and measure again."
        )


def _from_csv(file: Path, text: str) -> list[_Row]:
    table = csv.DictReader(io.StringIO(text))
    if not {"prefill_tps", "decode_tps"} & set(table.fieldnames or []):
        raise EmpathyEdgeError(f"{file}: needs a column prefill_tps or decode_tps; has {table.fieldnames}.")
    found = []
    for number, row in enumerate(table, 2):
        place = f"{file}, row {number}"
        prefill, decode = row.get("prefill_tps"), row.get("decode_tps")
        found.append(
            _Row(
                threads=_threads(place, row["threads"]) if row.get("threads") else None,
                prefill_tps=_tps(place, prefill) if prefill else None,
                decode_tps=_tps(place, decode) if decode else None,
            )
        )
    if not any(row.prefill_tps or row.decode_tps for row in found):
        raise EmpathyEdgeError(f"{file}: has no rows with a speed.")
    return found


def _threads(place: str, value: str) -> int:
    if not value.strip().isdecimal() or int(value) == 0:
        raise EmpathyEdgeError(f"{place}: {value!r} is no number of threads.")
    return int(value)


def _tps(place: str, value: object) -> float:
    speed = _number(value)
    if not 0 < speed <= MAX_TPS:
        raise EmpathyEdgeError(f"{place}: {value!r} is no speed in tokens/s.")
    return round(speed, 3)


def _count(place: str, row: dict[str, Any], name: str) -> int | None:
    """A number of tokens or threads; None where it is 0 or not told."""
    value = row.get(name) or 0
    if not isinstance(value, int) or value < 0:
        raise EmpathyEdgeError(f"{place}: {name} is {value!r}, which is no count.")
    return value or None


def _number(value: Any) -> float:
    """As a float; NaN for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _one_setting(file: Path, rows: list[_Row]) -> PhoneSpeed:
    """The speed with one number of threads: the mean over several is the speed of no setting.

    Decode says which is the fastest, or prefill where no decode was measured.
    """
    by_threads: dict[int | None, list[_Row]] = {}
    for row in rows:
        by_threads.setdefault(row.threads, []).append(row)
    speeds = [_speed_of(of_them) for of_them in by_threads.values()]
    fastest = max(speeds, key=lambda speed: (speed.decode_tps or 0.0, speed.prefill_tps or 0.0))
    _say_what_is_taken(file, rows, by_threads[fastest.threads], fastest)
    return fastest


def _speed_of(rows: list[_Row]) -> PhoneSpeed:
    """Of rows with one number of threads: the length nearest to the usual one, and of several the fastest.

    Another app or a hot phone only slows down, so the fastest is the phone's own speed.
    """
    prompt, new = _nearest(_prompt_lengths(rows), USUAL_PROMPT), _nearest(_new_lengths(rows), USUAL_NEW)
    prefill = [row.prefill_tps for row in rows if row.prefill_tps and row.prompt_tokens == prompt]
    decode = [row.decode_tps for row in rows if row.decode_tps and row.new_tokens == new]
    return PhoneSpeed(rows[0].threads, max(prefill, default=None), max(decode, default=None))


def _prompt_lengths(rows: list[_Row]) -> set[int | None]:
    return {row.prompt_tokens for row in rows if row.prefill_tps}


def _new_lengths(rows: list[_Row]) -> set[int | None]:
    return {row.new_tokens for row in rows if row.decode_tps}


def _nearest(lengths: Collection[int | None], usual: int) -> int | None:
    """The length nearest to the usual one, the shorter of two; None where none is told."""
    known = [length for length in lengths if length is not None]
    return min(known, key=lambda length: (abs(length - usual), length), default=None)


def _say_what_is_taken(file: Path, rows: list[_Row], of_fastest: list[_Row], taken: PhoneSpeed) -> None:
    """Name the setting whose speed is taken, where there are others."""
    measured = sum(bool(row.prefill_tps) + bool(row.decode_tps) for row in rows)
    if measured <= bool(taken.prefill_tps) + bool(taken.decode_tps):
        return
    said = []
    if any(row.threads != taken.threads for row in rows):
        said.append(f"{taken.threads or 'an unknown number of'} threads, the fastest")
    if len(prompts := _prompt_lengths(of_fastest)) > 1:
        said.append(f"a prompt of {_nearest(prompts, USUAL_PROMPT)} tokens, nearest to {USUAL_PROMPT}")
    if len(lengths := _new_lengths(of_fastest)) > 1:
        said.append(f"{_nearest(lengths, USUAL_NEW)} new tokens, nearest to {USUAL_NEW}")
    say(f"{file}: several runs. Taken: {'; '.join(said) or 'the fastest of equal ones'}.")
