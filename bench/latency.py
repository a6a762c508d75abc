"""Latency and memory of artifacts on this machine; every figure is `measured-host`.

Each repetition is a process of its own, and each round runs all artifacts in a new order, so that no artifact's memory
is another's and a slow minute of the machine hits all.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from empathy_edge.bench.conditions import conditions
from empathy_edge.bench.timing_intervals import Interval, median_interval, percentile
from empathy_edge.console import out as stdout
from empathy_edge.console import progress, say, table
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.models.find import find_model
from empathy_edge.runs.recipe import BenchSettings
from empathy_edge.runs.stage import open_stage
from empathy_edge.runtimes import default_threads
from empathy_edge.system.files import write_json
from empathy_edge.system.machine import machine, versions

FORMAT = "empathy-edge bench 2"
"""The layout of the JSON; docs/formats.md describes it."""

UNSTABLE = 0.10
"""The half width of a median's interval, as a share of it, above which a run says that it is not to be trusted."""
STABLE = 0.03
MOST_ROUNDS = 40


def run(*, artifacts: list[Path], out: Path, settings: BenchSettings, update: bool = False) -> dict[str, Any]:
    """The pipeline's stage: measure each artifact folder, write `latency.json`, show a table."""
    stage = open_stage(
        out,
        "bench",
        settings={**settings.model_dump(), "threads": settings.threads or default_threads()},
        inputs={folder.name: folder for folder in artifacts},
        update=update,
    )
    if not stage.done:
        result = bench([str(folder) for folder in artifacts], settings)
        write_json(out / "latency.json", result)
        stage.finish(artifacts=[summary(row) for row in result["artifacts"]])
    show(stage.manifest["results"]["artifacts"], stage.manifest["settings"])
    return stage.manifest


def bench(
    artifacts: list[str],
    settings: BenchSettings,
    *,
    prompts: list[int] | None = None,
    until_stable: bool = False,
    cold: bool = False,
) -> dict[str, Any]:
    """Measure every artifact once in each round.

    Args:
        artifacts: what `open_runtime` takes.
        settings: repetitions (rounds), lengths, threads.
        prompts: several prompt lengths instead of the one in `settings`: decode is then measured at each depth.
        until_stable: go on after `repetitions` until all medians are known to 3 %, at most 40 rounds.
        cold: drop the model from the page cache before each load.

    Returns:
        Raw samples and the machine and conditions they come from.
    """
    lengths = prompts or [settings.prompt_tokens]
    options = {
        "suite": "grid",
        "threads": settings.threads or default_threads(),
        "prompt_tokens": lengths,
        "decode_tokens": settings.decode_tokens,
        "context": max(lengths) + settings.decode_tokens + 64,
        "cold": cold,
    }
    refs = {artifact: find_model(artifact) for artifact in artifacts}  # all found before the first is run
    before = conditions()
    runs: dict[str, list[dict[str, Any]]] = {artifact: [] for artifact in artifacts}
    order = random.Random(0)
    rounds = MOST_ROUNDS if until_stable else settings.repetitions
    with progress() as bar:
        task = bar.add_task("bench", total=rounds * len(artifacts), note="")
        for number in range(rounds):
            for artifact in order.sample(artifacts, len(artifacts)):
                bar.update(task, note=f"round {number + 1}, {refs[artifact].path.name}")
                runs[artifact].append(measure(artifact, options))
                bar.advance(task)
            if number + 1 >= settings.repetitions and until_stable and spread(runs) <= STABLE:
                break
    if cold:
        say_if_warm(next(iter(runs.values()))[0])
    return {
        "format": FORMAT,
        "label": "measured-host",
        "suite": "standard",
        "settings": {**options, "repetitions": len(next(iter(runs.values())))},
        "machine": machine(),
        "versions": versions(),
        "conditions": {"before": before, "after": conditions()},
        "artifacts": [
            {"artifact": ref.path.name, "size_mb": size_mb(ref.path), **_gather(runs[artifact], lengths)}
            for artifact, ref in refs.items()
        ],
    }


def measure(artifact: str, options: dict[str, Any], prefix: tuple[str, ...] = ()) -> dict[str, Any]:
    """One run of the worker; `prefix` starts it through another program."""
    command = [*prefix, sys.executable, "-m", "empathy_edge.bench.worker", artifact, json.dumps(options)]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", errors="replace", stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if line.strip()][-2:]
        why = "\n  ".join(last) or f"it ended with {done.returncode} (-9: killed, mostly for want of memory)"
        raise EmpathyEdgeError(f"{artifact}: could not be measured:\n  {why}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def say_if_warm(run: dict[str, Any]) -> None:
    """A word about a run that was to start cold and could not."""
    if not run["cold"]:
        say(
            "[dim]This system cannot drop files from its page cache: every load time is that of a warm start.[/]"
        )


def spread(runs: dict[str, list[dict[str, Any]]]) -> float:
    """The widest interval of all medians so far, half of it as a share."""
    widest = 0.0
    for results in runs.values():
        for length in results[0]["samples"]:
            for key in ("decode_tps", "prefill_tps"):
                found = median_interval([result["samples"][length][key] for result in results])
                widest = max(widest, half_width(found))
    return widest


def half_width(found: Interval) -> float:
    """Half of an interval, as a share of the figure."""
    return (found.high - found.low) / 2 / found.value


def _gather(results: list[dict[str, Any]], lengths: list[int]) -> dict[str, Any]:
    """One artifact's rounds: raw samples by prompt length, memory at each phase."""
    first = results[0]
    return {
        "runtime": first["runtime"],
        "threads": first["threads"],
        "load_s": [result["load_s"] for result in results],
        "tokenize_us_per_token": [result["tokenize_us_per_token"] for result in results],
        "tests": [
            {"prompt_tokens": length, "samples": [result["samples"][str(length)] for result in results]}
            for length in lengths
        ],
        "memory_mb": {
            phase: {
                key: statistics.median(result["memory_mb"][phase][key] for result in results)
                for key in figures
            }
            for phase, figures in first["memory_mb"].items()
        },
    }


def summary(row: dict[str, Any], test: int = 0) -> dict[str, Any]:
    """Medians with intervals and percentiles of one artifact's samples at one prompt length."""
    samples = row["tests"][test]["samples"]
    gaps = [
        later - earlier
        for sample in samples
        for earlier, later in zip(sample["token_times_s"], sample["token_times_s"][1:], strict=False)
    ]
    decode = median_interval([sample["decode_tps"] for sample in samples])
    prefill = median_interval([sample["prefill_tps"] for sample in samples])
    first = [sample["ttft_s"] for sample in samples]
    apart = _apart(samples)
    return {
        "artifact": row["artifact"],
        "label": "measured-host",
        "size_mb": row["size_mb"],
        "threads": row["threads"],
        "prompt_tokens": row["tests"][test]["prompt_tokens"],
        "repetitions": len(samples),
        "load_s": round(statistics.median(row["load_s"]), 3),
        "ttft_s_median": round(statistics.median(first), 4),
        "ttft_s_p95": round(percentile(first, 95), 4),
        "prefill_tps_median": round(prefill.value, 1),
        "prefill_tps_interval": [round(prefill.low, 1), round(prefill.high, 1)],
        "decode_tps_median": round(decode.value, 1),
        "decode_tps_interval": [round(decode.low, 1), round(decode.high, 1)],
        "interval_coverage": round(decode.coverage, 3),
        "decode_tps_min": round(min(sample["decode_tps"] for sample in samples), 1),
        "decode_cv": round(_variation([sample["decode_tps"] for sample in samples]), 4),
        "prefill_cv": round(_variation([sample["prefill_tps"] for sample in samples]), 4),
        "token_gap_ms_p50": round(1000 * percentile(gaps, 50), 2),
        "token_gap_ms_p95": round(1000 * percentile(gaps, 95), 2),
        "token_gap_ms_p99": round(1000 * percentile(gaps, 99), 2),
        "outside_the_model": apart,
        "tokenize_us_per_token": round(statistics.median(row["tokenize_us_per_token"]), 2),
        "major_faults": sum(sample["major_faults"] for sample in samples),
        "memory_mb": row["memory_mb"],
        "stable": max(half_width(decode), half_width(prefill)) <= UNSTABLE,
    }


def _apart(samples: list[dict[str, Any]]) -> float | None:
    """The share of a reply's time that is not spent in the model: sampling and our own loop; None where it is not known."""
    shares = [
        1 - sample["forward_s"] / sample["token_times_s"][-1]
        for sample in samples
        if sample["forward_s"] is not None
    ]
    return round(max(0.0, statistics.median(shares)), 4) if shares else None


def _variation(values: list[float]) -> float:
    return statistics.stdev(values) / statistics.mean(values) if len(values) > 1 else 0.0


def summaries(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Every artifact at every prompt length."""
    return [summary(row, test) for row in result["artifacts"] for test in range(len(row["tests"]))]


def show(rows: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    """Print the summaries as a table, and say what is not to be trusted."""
    stdout.print(as_table(rows, settings))
    shaky = sorted({row["artifact"] for row in rows if not row.get("stable", True)})
    if shaky:
        say(
            f"[yellow]Not stable: the interval of {', '.join(shaky)} is wider than {UNSTABLE:.0%} on either side. Close "
            "what else runs, or measure with --until-stable.[/]"
        )


def as_table(rows: list[dict[str, Any]], settings: dict[str, Any]) -> Any:
    """The rich table of some summaries."""
    lengths = sorted({row["prompt_tokens"] for row in rows})
    title = (
        f"Latency and memory (measured-host, {settings['threads']} threads, prompt {', '.join(map(str, lengths))}, "
        f"{settings['decode_tokens']} new tokens, {settings['repetitions']} rounds)"
    )
    columns = ["artifact", "MB", "load s", "TTFT s (p95)", "prefill tok/s", "decode tok/s", "gap p95 ms"]
    columns += ["anon+file MB", "peak MB"]
    lines = []
    for row in rows:
        memory = row["memory_mb"].get("after_decode", {})
        cells = speed_cells(row)
        if len(lengths) > 1:
            cells[0] += f" @{row['prompt_tokens']}"
        cells[5] += " [{:.0f}, {:.0f}]".format(*row["decode_tps_interval"])
        lines.append(
            [
                *cells,
                f"{row['token_gap_ms_p95']:.1f}",
                f"{memory['anonymous']:.0f}+{memory['file_backed']:.0f}" if memory else "–",
                f"{memory['peak_rss']:.0f}" if memory else "–",
            ]
        )
    return table(title, columns, lines)


def speed_cells(row: dict[str, Any]) -> list[str]:
    """A summary's artifact, MB, load time, time to first token, prefill and decode speed, as text for a table."""
    return [
        row["artifact"],
        f"{row['size_mb']:.0f}",
        f"{row['load_s']:.2f}",
        f"{row['ttft_s_median']:.3f} ({row['ttft_s_p95']:.3f})",
        f"{row['prefill_tps_median']:.0f}",
        f"{row['decode_tps_median']:.1f}",
    ]


def size_mb(path: Path) -> float:
    """The model files of an artifact, MB."""
    files = [path] if path.is_file() else [item for item in path.iterdir() if item.name.startswith("model")]
    return round(sum(file.stat().st_size for file in files) / 1e6, 1)
