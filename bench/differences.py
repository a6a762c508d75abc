"""Two results side by side: which differences are real, and which break a build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from empathy_edge.bench.timing_intervals import Interval, ratio_interval
from empathy_edge.bench.latency import FORMAT
from empathy_edge.console import out as stdout
from empathy_edge.console import say, table
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.system.files import read_json

_WORDS = {True: "faster", False: "slower"}


def read_result(path: Path) -> dict[str, Any]:
    """A result that `bench --json` wrote.

    Raises:
        EmpathyEdgeError: it is another file, or of another version.
    """
    result = read_json(path)
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise EmpathyEdgeError(f"{path}: is not what `bench --json` of this version writes ({FORMAT}).")
    return result


def differences(new: dict[str, Any], old: dict[str, Any]) -> list[dict[str, Any]]:
    """Each test that both have: how many times as fast the new one is, with the interval of the exact rank test."""
    known = {
        (row["artifact"], test["prompt_tokens"]): (row, test)
        for row in old["artifacts"]
        for test in row["tests"]
    }
    found = []
    for row in new["artifacts"]:
        for test in row["tests"]:
            key = (row["artifact"], test["prompt_tokens"])
            if key not in known:
                continue
            before, other = known[key]
            entry: dict[str, Any] = {"artifact": key[0], "prompt_tokens": key[1]}
            for name in ("prefill_tps", "decode_tps"):
                entry[name] = ratio_interval(
                    [sample[name] for sample in test["samples"]],
                    [sample[name] for sample in other["samples"]],
                )
            entry["anonymous_mb"] = [
                item["memory_mb"].get("after_decode", {}).get("anonymous") for item in (row, before)
            ]
            found.append(entry)
    return found


def check_comparable(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """What differs between two results beside what was measured."""
    notes = []
    for name in ("cpu", "cores", "system"):
        if new["machine"].get(name) != old["machine"].get(name):
            notes.append(f"machine: {name} {old['machine'].get(name)} → {new['machine'].get(name)}")
    for name in ("threads", "decode_tokens", "context"):
        if new["settings"].get(name) != old["settings"].get(name):
            notes.append(f"settings: {name} {old['settings'].get(name)} → {new['settings'].get(name)}")
    for name in sorted({*new["versions"], *old["versions"]}):
        if new["versions"].get(name) != old["versions"].get(name):
            notes.append(f"version: {name} {old['versions'].get(name)} → {new['versions'].get(name)}")
    return notes


def gate(found: list[dict[str, Any]], tolerance: float) -> list[tuple[str, str, str]]:
    """For each test and figure: PASS, FAIL or INCONCLUSIVE against a baseline.

    Speed fails when the whole interval lies below 1 − tolerance and passes when the whole of it lies above; memory when
    the anonymous part grew by more than the tolerance.
    """
    verdicts = []
    for entry in found:
        name = f"{entry['artifact']} @{entry['prompt_tokens']}"
        for figure in ("prefill_tps", "decode_tps"):
            ratio: Interval = entry[figure]
            bound = 1 - tolerance
            verdict = "FAIL" if ratio.high < bound else "PASS" if ratio.low >= bound else "INCONCLUSIVE"
            verdicts.append((name, figure, verdict))
        now, before = entry["anonymous_mb"]
        if now is not None and before:
            verdicts.append((name, "anonymous_mb", "FAIL" if now > before * (1 + tolerance) + 1 else "PASS"))
    return verdicts


def show(found: list[dict[str, Any]], notes: list[str]) -> None:
    """Ratios as a table, and in words which of them are real."""
    for note in notes:
        say(f"[yellow]Not the same: {note}[/]")
    rows = []
    for entry in found:
        now, before = entry["anonymous_mb"]
        rows.append(
            [
                f"{entry['artifact']} @{entry['prompt_tokens']}",
                *(_cell(entry[name]) for name in ("prefill_tps", "decode_tps")),
                f"{before:.0f} → {now:.0f}" if now is not None and before is not None else "–",
            ]
        )
    stdout.print(table("New over old", ["test", "prefill", "decode", "anonymous MB"], rows))


def _cell(ratio: Interval) -> str:
    words = "no difference seen" if ratio.low <= 1 <= ratio.high else _WORDS[ratio.value > 1]
    return f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] {words}"
