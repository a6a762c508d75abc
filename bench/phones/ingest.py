"""Results that come back from a phone: read, checked, labelled `measured-device`, and put into its profile.

A browser's result (`phone`) makes a profile of its own: its figures are never mixed with native ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from empathy_edge.bench.phones.device_folder import gguf_file
from empathy_edge.bench.phones.model import Phase
from empathy_edge.bench.phones.phone_results import PhoneSpeed, read_results
from empathy_edge.bench.phones.predict import Estimate, predict, runs_of
from empathy_edge.bench.phones.workload import Workload, workload_of
from empathy_edge.console import say
from empathy_edge.devices import Device, Run, load_device
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.system.files import write_atomically
from empathy_edge.system.hash_cache import sha256_file

if TYPE_CHECKING:
    from empathy_edge.bench.browser.results import BrowserResult


def ingest(file: Path, artifact: str, device_id: str, out: Path) -> Device:
    """Add a phone's results to its profile, and show what had been predicted beside what was measured.

    Args:
        file: the results.
        artifact: the GGUF that was run; where the results tell its size, it must be the same.
        device_id: the profile to begin with.
        out: the new profile, a .yaml file.

    Raises:
        EmpathyEdgeError: the file is of no known layout, or a figure in it cannot be.
    """
    if not str(out).endswith(".yaml"):  # by which `load_device` tells a file from an id
        raise EmpathyEdgeError(f"{out}: a profile's name ends in .yaml; give {out.with_suffix('.yaml')}")
    if browser_result := _browser_result(file):
        return _ingest_browser(browser_result, file, artifact, device_id, out)
    model = gguf_file(artifact)
    workload = workload_of(artifact)
    device = load_device(device_id)
    speed = read_results(file, model.stat().st_size)
    source = f"measured-device ({file.name}, sha256 {sha256_file(file)[:12]})"
    new = _run_of(speed, workload, source)
    _show_predicted_and_measured(artifact, device_id, new)
    profile = device.model_dump(exclude={"id"}, exclude_none=True, exclude_defaults=True)
    profile["runs"] = [
        run.model_dump(exclude_none=True, exclude_defaults=True) for run in (*device.runs, new)
    ]
    text = yaml.safe_dump(profile, sort_keys=False, width=118, allow_unicode=True)
    write_atomically(out, text)
    recalibrated = load_device(str(out))
    say(f"{out}: the run was added, labelled measured-device. {_what_it_changes(recalibrated, new, out)}")
    return recalibrated


def _what_it_changes(device: Device, new: Run, out: Path) -> str:
    """Whether predictions are based on a new run: of one file, only the fastest threads count."""
    phases: tuple[Phase, ...] = ("prefill", "decode")
    used = [phase for phase in phases if any(run == new for run, _ in runs_of(device, phase))]
    told = [phase for phase in phases if (new.decode_tps if phase == "decode" else new.prefill_tps)]
    if used == told:
        return f"Predictions with --device {out} are based on it."
    slower = " and ".join(phase for phase in told if phase not in used)
    return (
        f"In {slower} it is slower than a run of the same file with another number of threads, which "
        "predictions stay based on."
    )


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


def _show_predicted_and_measured(artifact: str, device_id: str, new: Run) -> None:
    try:
        before = predict(artifact, device_id)
    except EmpathyEdgeError:
        say("Nothing could be predicted for this device before.")
        return
    _show_one("decode_tps", new.decode_tps, before.decode_tps)
    _show_one("prefill_tps", new.prefill_tps, before.prefill_tps)


def _show_one(name: str, measured: float | None, predicted: Estimate | None) -> None:
    if measured and predicted:
        inside = "inside" if predicted.low <= measured <= predicted.high else "OUTSIDE"
        say(
            f"{name}: measured-device {measured:g}, predicted {predicted.value:g} "
            f"[{predicted.low:g}, {predicted.high:g}]: {inside}"
        )
