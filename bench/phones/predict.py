"""What an artifact would do on a phone: decode, prefill, first token and memory, each with an interval, `predicted`.

Rests on measurements of llama.cpp on phones' CPUs (bench/phones/phone_cpu.yaml, devices/*.yaml); how wrong it is with
models it has not seen: `bench predict --validate`, docs/phones.md.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from empathy_edge.bench.phones.model import Phase, Rates, calibrate
from empathy_edge.bench.phones.profile import common_pattern, common_rates, rates_of
from empathy_edge.bench.phones.validate import read_cells, validate
from empathy_edge.bench.phones.workload import Workload, workload_of
from empathy_edge.console import out as stdout
from empathy_edge.console import say, table
from empathy_edge.devices import Device, Run, device_ids, load_device
from empathy_edge.errors import EmpathyEdgeError

SMALLEST_GB = 0.45
"""What the smallest measured model streams; below it the toll of layers decides, which is known less well."""


def predict(
    artifact: str, device_id: str, *, prompt_tokens: int = 256, depth: int = 0, context: int = 2048
) -> dict[str, Any]:
    """Predict one artifact on one device.

    Args:
        artifact: a GGUF: a file, an artifact folder or a shipped model.
        device_id: a shipped profile, or a .yaml file.
        prompt_tokens: for the time to first token.
        depth: tokens in the cache while decoding.
        context: the window that memory is reserved for.

    Returns:
        `decode_tps`, `prefill_tps`, `ttft_s` as {value, low, high}; `memory` in MB; `rests_on`; all `predicted`.

    Raises:
        EmpathyEdgeError: the artifact's types, or the device, were not measured.
    """
    device, workload = load_device(device_id), workload_of(artifact)
    pattern = common_pattern()
    result: dict[str, Any] = {
        "label": "predicted",
        "artifact": workload.name,
        "device": device.id,
        "claimed": pattern["claimed"],
        "prompt_tokens": prompt_tokens,
        "depth": depth,
        "memory": _memory(workload, device, context),
        "rests_on": {},
    }
    phases: tuple[tuple[Phase, str], ...] = (("decode", "decode_tps"), ("prefill", "prefill_tps"))
    for phase, name in phases:
        rates, situation, why = rates_for(device, pattern, phase, workload)
        result["rests_on"][phase] = why
        if not rates:
            result[name] = None
            continue
        work = _with_cache(workload, depth) if phase == "decode" else workload
        seconds = [one.seconds(work, phase) for one in rates]
        if phase == "prefill" and len(rates) > 1 and situation != "own run":
            seconds.append(2 * seconds[0])  # no toll is fitted there; small matrices use the cores less well
        half = pattern[phase]["interval"][situation]
        result[name] = {
            "value": _three(1 / seconds[0]),
            "low": _three(math.exp(-half) / max(seconds)),
            "high": _three(math.exp(half) / min(seconds)),
        }
    result["ttft_s"] = _first_token(result, prompt_tokens)
    if result["decode_tps"] is None and result["prefill_tps"] is None:
        raise EmpathyEdgeError(
            f"{device.name}: {result['rests_on']['decode']}. Measure it once: `empathy-edge bench device android`, "
            "then `empathy-edge bench ingest`."
        )
    return result


def predict_for(artifact: str, devices: list[str], **options: int) -> list[dict[str, Any]]:
    """`predict` for several devices; of `all`, those that cannot be predicted are named and left out."""
    workload_of(artifact)  # a type that nobody measured is one error, not one for each device
    if devices != ["all"]:
        return [predict(artifact, device, **options) for device in devices]
    results, unknown = [], []
    for device in device_ids():
        try:
            results.append(predict(artifact, device, **options))
        except EmpathyEdgeError:
            unknown.append(device)
    say(f"[dim]Unknown, for want of a measurement of llama.cpp on their CPUs: {', '.join(unknown)}.[/]")
    return results


def validate_table(cells: Path, unseen: Path | None = None) -> dict[str, dict[str, Any]]:
    """The errors on a table of measurements; with `unseen`, on the models of a second table that the first has not."""
    known, left_out = read_cells(cells)
    say(
        f"{len(known)} measurements; {left_out} rows are of refused types, or tell too little to predict them."
    )
    if unseen is None:
        return validate(known)
    seen = {cell.model for cell in known}
    fresh = [cell for cell in read_cells(unseen)[0] if cell.model not in seen]
    if not fresh:
        raise EmpathyEdgeError(f"{unseen}: holds no model that {cells} has not.")
    return validate([*known, *fresh], {cell.model for cell in fresh})


def rates_for(
    device: Device, pattern: dict[str, Any], phase: Phase, workload: Workload
) -> tuple[list[Rates], str, str]:
    """A device's rates, the situation that their error was measured in, and what they rest on, in words.

    Of models smaller than all that were measured, the toll of layers decides, and may be none or double: three rates, the
    likeliest first. No rates: nothing was measured.
    """
    base, own = common_rates(pattern, phase), rates_of(device, phase)
    source = ""
    if own is not None and not own.unseen(workload, phase):
        base = own
        source = next(item.source for name, item in device.figures.items() if name.startswith(f"{phase}_g"))
    runs = [
        (run, tps) for run in device.runs if (tps := run.decode_tps if phase == "decode" else run.prefill_tps)
    ]
    if not runs and not source:
        return [], "", f"no {phase} speed of llama.cpp on its CPU is known with model and type"
    tolls = (1, 0, 2) if sum(workload.decode_gb.values()) < SMALLEST_GB else (1,)
    bases = [base.with_toll(factor) for factor in tolls]
    if not runs:
        return bases, "profile", f"its own profile: {source}"
    missing = base.unseen(workload, phase)
    if missing:
        return [], "", f"no measurements of {', '.join(missing)} on any phone"
    same = [item for item in runs if _alike(item[0], workload)]
    chosen = same or runs
    points = [(workload_of_run(run), 1 / tps) for run, tps in chosen]
    rates = [calibrate(one, points, phase) for one in bases]
    words = "; ".join(f"{run.model} at {tps:g} tokens/s ({run.source.split(': ')[0]})" for run, tps in chosen)
    pattern_of = "its own profile" if source else "the pattern of three other phones"
    situation = "own run" if same else "profile" if source else "one run"
    return rates, situation, f"{words}, and {pattern_of}"


def workload_of_run(run: Run) -> Workload:
    """A profile's run as a workload."""
    return Workload(run.model, run.decode_gb, run.prefill_gflop, run.layers, run.extra)


def _alike(run: Run, workload: Workload) -> bool:
    """Whether a run was of the same model in another quantization: as many layers, as much arithmetic."""
    mine, theirs = sum(workload.prefill_gflop.values()), sum(run.prefill_gflop.values())
    return run.layers == workload.layers and theirs > 0 and abs(mine / theirs - 1) < 0.02


def _with_cache(workload: Workload, depth: int) -> Workload:
    """The keys and values of `depth` tokens are streamed as well, taken at Q8_0's rate."""
    if not depth:
        return workload
    streamed = dict(workload.decode_gb)
    streamed["q8_0"] = streamed.get("q8_0", 0.0) + depth * workload.kv_mb_per_token / 1000
    return replace(workload, decode_gb=streamed)


def _first_token(result: dict[str, Any], prompt_tokens: int) -> dict[str, float] | None:
    prefill, decode = result["prefill_tps"], result["decode_tps"]
    if not prefill or not decode:
        return None
    return {
        key: _three(prompt_tokens / prefill[other] + 1 / decode[other])
        for key, other in (("value", "value"), ("low", "high"), ("high", "low"))
    }


def _memory(workload: Workload, device: Device, context: int) -> dict[str, Any]:
    """What is needed beside what the device gives; PocketPal AI's rule where only the RAM is known."""
    need = workload.memory_mb(context)
    figures = device.figures
    if "app_memory_limit_mb" in figures:
        limit, what = figures["app_memory_limit_mb"].value, "what the system gives one app"
    elif "largest_allocation_mb" in figures:
        limit, what = figures["largest_allocation_mb"].value, "the largest that was seen to run at full speed"
    elif "ram_gb" in figures:
        ram = 1000 * figures["ram_gb"].value
        limit, what = (
            min(0.65 * ram, ram - 1200),
            "min(0.65 RAM, RAM - 1.2 GB), PocketPal AI's rule (its pull request 250)",
        )
    else:
        limit, what = None, "unknown"
    return {
        "need_mb": round(need),
        "low_mb": round(0.9 * need),
        "high_mb": round(1.15 * need),
        "limit_mb": limit and round(limit),
        "limit_is": what,
        "fits": limit and need <= limit,
        "context": context,
    }


def show(results: list[dict[str, Any]]) -> None:
    """Predictions as a table, and below it what each rests on."""
    first = results[0]
    title = (
        f"{first['artifact']}, predicted ({first['claimed']:.0%} intervals; prompt {first['prompt_tokens']}, depth "
        f"{first['depth']}, context {first['memory']['context']})"
    )
    columns = ["device", "decode tok/s", "prefill tok/s", "first token s", "needs MB", "limit MB", "fits"]
    rows = []
    for item in results:
        memory = item["memory"]
        rows.append(
            [
                item["device"],
                *(_cell(item[name]) for name in ("decode_tps", "prefill_tps", "ttft_s")),
                f"{memory['need_mb']}",
                "unknown" if memory["limit_mb"] is None else f"{memory['limit_mb']}",
                "unknown" if memory["fits"] is None else "yes" if memory["fits"] else "NO",
            ]
        )
    stdout.print(table(title, columns, rows))
    reasons: dict[str, list[str]] = {}
    for item in results:
        for phase, why in item["rests_on"].items():
            reasons.setdefault(why, []).append(f"{item['device']} ({phase})")
    say("[dim]Rests on:[/]")
    for why, names in reasons.items():
        say(f"[dim]- {', '.join(names)}: {escape(why)}.[/]")


def _cell(value: dict[str, float] | None) -> str:
    return f"{value['value']:g} [{value['low']:g}, {value['high']:g}]" if value else "unknown"


def show_errors(found: dict[str, dict[str, Any]]) -> None:
    """`validate`'s summary as a table."""
    columns = [
        "what is predicted",
        "n",
        "refused",
        "mean |error|",
        "median",
        "90th percentile",
        "90 % intervals cover",
    ]
    rows = [
        [
            name,
            str(item["n"]),
            str(item["refused"]),
            *(
                f"{100 * item[key]:.1f} %"
                for key in ("mean_absolute_error", "median_absolute_error", "p90_absolute_error")
            ),
            "–" if item["covered"] is None else f"{100 * item['covered']:.0f} %",
        ]
        for name, item in found.items()
    ]
    result = table("Errors of predicted tokens/s, models left out", columns, rows)
    result.columns[0].justify = "left"
    stdout.print(result)
    for name, item in found.items():
        if name.endswith("profile"):
            models = ", ".join(
                f"{model} {100 * error:+.0f} %" for model, error in item["mean_error_by_model"].items()
            )
            say(f"[dim]{name}, mean error by model: {models}[/]")


def _three(value: float) -> float:
    return float(f"{value:.3g}")
