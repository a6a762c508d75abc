"""What an artifact would do on a phone: decode, prefill, first token and memory; every figure is `predicted`.

Based on measurements of llama.cpp on phones' CPUs (bench/phones/phone_cpu.yaml, devices/*.yaml). How wrong
it is with models it has not seen: `bench predict --validate`, docs/phones.md; with chips it has not seen:
bench/phones/specification_cpu.yaml.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from empathy_edge.bench.phones.model import Phase, Rates, calibrate
from empathy_edge.bench.phones.prediction_settings import PredictionSettings
from empathy_edge.bench.phones.profile import common_pattern, rates_of, three_digits
from empathy_edge.bench.phones.specification import half_width, missing_facts, slowness, specification_fit
from empathy_edge.bench.phones.validate import ErrorSummary, read_cells, validate
from empathy_edge.bench.phones.workload import Workload, workload_of
from empathy_edge.console import say
from empathy_edge.devices import Device, Run, device_ids, load_device
from empathy_edge.errors import EmpathyEdgeError

SMALLEST_GB = 0.45
"""What the smallest measured model streams; below it the cost of layers decides, which is known less well."""
SAME_ARITHMETIC = 0.02
"""Two runs are of one model if their arithmetic differs by less than this share."""


@dataclass(frozen=True)
class Estimate:
    """A predicted figure with its interval, three significant digits each."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory in MB (10^6 bytes).

    Attributes:
        need_mb: weights, keys and values, logits.
        low_mb: the lower end of its interval.
        high_mb: the upper end.
        limit_mb: what the device gives; None where it is unknown.
        limit_is: what kind of limit that is, in words.
        fits: whether the need is within the limit; None where that is unknown.
        context: the window that memory is reserved for, tokens.
    """

    need_mb: int
    low_mb: int
    high_mb: int
    limit_mb: int | None
    limit_is: str
    fits: bool | None
    context: int


@dataclass(frozen=True)
class Prediction:
    """One artifact on one device.

    Attributes:
        label: where the figures come from.
        artifact: the name of its file or folder.
        device: the profile's id.
        claimed: the share of measurements that the intervals are to hold.
        prompt_tokens: for the time to first token.
        depth: tokens in the cache while decoding.
        memory: what is needed, and what there is.
        rests_on: for decode and prefill, the measurements that were used, in words.
        decode_tps: new tokens per second; None where no measurement tells.
        prefill_tps: prompt tokens per second; the same.
        ttft_s: time to first token, seconds; the same.
    """

    label: Literal["predicted"]
    artifact: str
    device: str
    claimed: float
    prompt_tokens: int
    depth: int
    memory: MemoryEstimate
    rests_on: dict[Phase, str]
    decode_tps: Estimate | None
    prefill_tps: Estimate | None
    ttft_s: Estimate | None


@dataclass(frozen=True)
class DeviceRates:
    """What is known of a device's speed with one workload.

    Attributes:
        rates: the likeliest first; none where the chip is not known either.
        situation: one of `validate.SITUATIONS`, in which the error of such predictions was measured, or
            "specification".
        half_width: of the interval, on the logarithm.
        rests_on: the measurements that were used, or what is missing, in words.
    """

    rates: list[Rates]
    situation: str
    half_width: float
    rests_on: str


def predict(artifact: str, device_id: str, settings: PredictionSettings | None = None) -> Prediction:
    """Predict one artifact on one device.

    Args:
        artifact: a GGUF: a file, an artifact folder or a shipped model.
        device_id: a shipped profile, or a .yaml file.
        settings: lengths; the usual ones if there are none.

    Raises:
        EmpathyEdgeError: the artifact's types, or the device, were not measured.
    """
    return predict_workload(workload_of(artifact), load_device(device_id), settings or PredictionSettings())


def predict_workload(workload: Workload, device: Device, settings: PredictionSettings) -> Prediction:
    """Predict a workload, whose file need not be written yet.

    Raises:
        EmpathyEdgeError: the types, or the device, were not measured.
    """
    decode_rates, prefill_rates = (
        rates_for(device, "decode", workload),
        rates_for(device, "prefill", workload),
    )
    decode_tps = _estimate(decode_rates, "decode", _with_cache(workload, settings.depth))
    prefill_tps = _estimate(prefill_rates, "prefill", workload)
    if decode_tps is None and prefill_tps is None:
        raise EmpathyEdgeError(
            f"{device.name}: {decode_rates.rests_on}. Measure it once: `empathy-edge bench device android`, "
            "then `empathy-edge bench ingest`."
        )
    return Prediction(
        label="predicted",
        artifact=workload.name,
        device=device.id,
        claimed=common_pattern().claimed,
        prompt_tokens=settings.prompt_tokens,
        depth=settings.depth,
        memory=_memory(workload, device, settings.context),
        rests_on={"decode": decode_rates.rests_on, "prefill": prefill_rates.rests_on},
        decode_tps=decode_tps,
        prefill_tps=prefill_tps,
        ttft_s=_first_token(prefill_tps, settings.prompt_tokens),
    )


def predict_for(artifact: str, devices: Sequence[str], settings: PredictionSettings) -> list[Prediction]:
    """`predict` for several devices; of `all`, those that cannot be predicted are named and left out."""
    workload_of(artifact)  # a type that nobody measured is one error, not one for each device
    if list(devices) != ["all"]:
        return [predict(artifact, device, settings) for device in devices]
    results, unknown = [], []
    for device in device_ids():
        try:
            results.append(predict(artifact, device, settings))
        except EmpathyEdgeError:
            unknown.append(device)
    if unknown:
        say(f"[dim]Unknown, since there is no measurement and no specification: {', '.join(unknown)}.[/]")
    return results


def validate_table(cells: Path, unseen: Path | None = None) -> dict[str, ErrorSummary]:
    """The errors on a table of measurements; with `unseen`, on the models that only a second table has."""
    known, left_out = read_cells(cells)
    say(
        f"{len(known)} measurements; {left_out} rows are of refused types, or tell too little to predict "
        "them."
    )
    if unseen is None:
        return validate(known)
    seen = {cell.model for cell in known}
    fresh = [cell for cell in read_cells(unseen)[0] if cell.model not in seen]
    if not fresh:
        raise EmpathyEdgeError(f"{unseen}: holds no model that {cells} has not.")
    return validate([*known, *fresh], {cell.model for cell in fresh})


def rates_for(device: Device, phase: Phase, workload: Workload) -> DeviceRates:
    """A device's rates: from its fitted profile, from runs on it, from both, or from its specification.

    For models smaller than all that were measured the cost of layers decides, which may be none or double.
    Three rates are returned then, the likeliest first.
    """
    base, profile_source = common_pattern().phase(phase).rates(), ""
    own = rates_of(device, phase)
    if own is not None and not own.unmeasured_types(workload, phase):
        base, profile_source = own, _profile_source(device, phase)
    runs = runs_of(device, phase)
    if not runs and not profile_source:
        return _from_specification(device, phase, workload)
    widths = common_pattern().phase(phase).interval
    possible = [base.with_layer_cost(factor) for factor in _layer_costs(workload)]
    if not runs:
        return DeviceRates(possible, "profile", widths["profile"], f"its own profile: {profile_source}")
    missing = base.unmeasured_types(workload, phase)
    if missing:
        return DeviceRates([], "", 0.0, f"no measurements of {', '.join(missing)} on any phone")
    same_model = [(run, tps) for run, tps in runs if _is_same_model(run, workload)]
    chosen = same_model or runs
    points = [(workload_of_run(run), 1 / tps) for run, tps in chosen]
    sources = [f"{run.model} at {tps:g} tokens/s ({run.source.split(': ')[0]})" for run, tps in chosen]
    pattern = "its own profile" if profile_source else "the pattern of three other phones"
    situation = "profile" if profile_source else "one run"
    if same_model:
        situation = "own run"
    rates = [calibrate(one, points, phase) for one in possible]
    return DeviceRates(rates, situation, widths[situation], f"{'; '.join(sources)}, and {pattern}")


def _layer_costs(workload: Workload) -> tuple[float, ...]:
    """What the cost of layers may be multiplied with, the likeliest first."""
    return (1, 0, 2) if sum(workload.decode_gb.values()) < SMALLEST_GB else (1,)


def _from_specification(device: Device, phase: Phase, workload: Workload) -> DeviceRates:
    """The pattern of the measured phones at the speed that the chip's specification suggests."""
    factor = slowness(device, phase)
    if factor is None:
        missing = ", ".join(missing_facts(device))
        return DeviceRates(
            [], "", 0.0, f"no {phase} speed of llama.cpp on its CPU is known, and of its chip not: {missing}"
        )
    common = common_pattern().phase(phase).rates()
    unmeasured = common.unmeasured_types(workload, phase)
    if unmeasured:
        return DeviceRates([], "", 0.0, f"no measurements of {', '.join(unmeasured)} on any phone")
    rates = [common.with_layer_cost(cost).scaled(factor) for cost in _layer_costs(workload)]
    chips = specification_fit().phase(phase).chips
    words = f"nobody measured it: its chip's specification ({device.soc}) and {chips} measured chips"
    return DeviceRates(rates, "specification", half_width(device, phase), words)


def _profile_source(device: Device, phase: Phase) -> str:
    """Where the figures of a fitted profile come from."""
    return next(figure.source for name, figure in device.figures.items() if name.startswith(f"{phase}_g"))


def runs_of(device: Device, phase: Phase) -> list[tuple[Run, float]]:
    """The runs that tell the speed of this phase, and that speed in tokens per second."""
    runs = []
    for run in device.runs:
        tps = run.decode_tps if phase == "decode" else run.prefill_tps
        if tps:
            runs.append((run, tps))
    return _at_the_fastest_threads(runs)


def _at_the_fastest_threads(runs: list[tuple[Run, float]]) -> list[tuple[Run, float]]:
    """Of the runs of one file, those with the number of threads that was the fastest, or with one not told.

    The mean over several numbers of threads is the speed of no setting.
    """
    fastest: dict[tuple[object, ...], tuple[float, int]] = {}
    for run, tps in runs:
        file = _file_of(run)
        if run.threads is not None and (file not in fastest or tps > fastest[file][0]):
            fastest[file] = (tps, run.threads)
    return [
        (run, tps) for run, tps in runs if run.threads is None or run.threads == fastest[_file_of(run)][1]
    ]


def _file_of(run: Run) -> tuple[object, ...]:
    """What tells one model file from another: artifacts of several models have the same names."""
    return run.model, run.layers, *sorted(run.decode_gb.items())


def workload_of_run(run: Run) -> Workload:
    """A profile's run as a workload."""
    return Workload(run.model, run.decode_gb, run.prefill_gflop, run.layers, run.extra)


def _is_same_model(run: Run, workload: Workload) -> bool:
    """Whether a run was of the same model in another quantization: as many layers, as much arithmetic."""
    ours, theirs = sum(workload.prefill_gflop.values()), sum(run.prefill_gflop.values())
    return run.layers == workload.layers and theirs > 0 and abs(ours / theirs - 1) < SAME_ARITHMETIC


def _with_cache(workload: Workload, depth: int) -> Workload:
    """The keys and values of `depth` tokens are streamed as well, taken at Q8_0's rate."""
    if not depth:
        return workload
    streamed = dict(workload.decode_gb)
    streamed["q8_0"] = streamed.get("q8_0", 0.0) + depth * workload.kv_mb_per_token / 1000
    return replace(workload, decode_gb=streamed)


def _estimate(known: DeviceRates, phase: Phase, workload: Workload) -> Estimate | None:
    """Tokens per second; None where no rates are known."""
    if not known.rates:
        return None
    seconds = [rates.seconds(workload, phase) for rates in known.rates]
    if phase == "prefill" and len(seconds) > 1 and known.situation != "own run":
        # Prefill has no fitted cost of layers, but small matrices use the cores less well.
        seconds.append(2 * seconds[0])
    return Estimate(
        value=three_digits(1 / seconds[0]),
        low=three_digits(math.exp(-known.half_width) / max(seconds)),
        high=three_digits(math.exp(known.half_width) / min(seconds)),
    )


def _first_token(prefill_tps: Estimate | None, prompt_tokens: int) -> Estimate | None:
    """Seconds to read the prompt: its last token's logits give the first new one, without a decode step."""
    if prefill_tps is None:
        return None
    return Estimate(
        value=three_digits(prompt_tokens / prefill_tps.value),
        low=three_digits(prompt_tokens / prefill_tps.high),
        high=three_digits(prompt_tokens / prefill_tps.low),
    )


def _memory(workload: Workload, device: Device, context: int) -> MemoryEstimate:
    """What is needed beside what the device gives."""
    need_mb = workload.memory_mb(context)
    limit_mb, limit_is = memory_limit(device)
    return MemoryEstimate(
        need_mb=round(need_mb),
        low_mb=round(0.9 * need_mb),
        high_mb=round(1.15 * need_mb),
        limit_mb=None if limit_mb is None else round(limit_mb),
        limit_is=limit_is,
        fits=None if limit_mb is None else need_mb <= limit_mb,
        context=context,
    )


def memory_limit(device: Device) -> tuple[float | None, str]:
    """MB, and what it is in words; PocketPal AI's rule where only the RAM is known."""
    figures = {name: figure.value for name, figure in device.figures.items()}
    if "app_memory_limit_mb" in figures:
        return figures["app_memory_limit_mb"], "what the system gives one app"
    if "largest_allocation_mb" in figures:
        return figures["largest_allocation_mb"], "the largest that was seen to run at full speed"
    if "ram_gb" in figures:
        ram_mb = 1000 * figures["ram_gb"]
        rule = "min(0.65 RAM, RAM - 1.2 GB), PocketPal AI's rule (its pull request 250)"
        return min(0.65 * ram_mb, ram_mb - 1200), rule
    return None, "unknown"
