"""Latency and memory of artifacts on this machine; every figure is `measured-host`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from empathy_edge.console import out as stdout
from empathy_edge.console import progress, table
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.models import find_model
from empathy_edge.recipe import BenchSettings
from empathy_edge.run import machine, open_stage, versions, write_json
from empathy_edge.runtimes import default_threads


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


def bench(artifacts: list[str], settings: BenchSettings) -> dict[str, Any]:
    """Measure each artifact in a process of its own; returns raw samples and the machine they come from."""
    options = {**settings.model_dump(), "threads": settings.threads or default_threads()}
    names = {artifact: find_model(artifact) for artifact in artifacts}  # all found before the first is run
    rows = []
    with progress() as bar:
        task = bar.add_task("bench", total=len(artifacts), note="")
        for artifact, ref in names.items():
            bar.update(task, note=ref.path.name)
            size = _size_mb(ref.path)
            rows.append({"artifact": ref.path.name, "size_mb": size, **_measure(artifact, options)})
            bar.advance(task)
    return {
        "label": "measured-host",
        "settings": options,
        "machine": machine(),
        "versions": versions(),
        "artifacts": rows,
    }


def summary(row: dict[str, Any]) -> dict[str, Any]:
    """Medians and percentiles of one artifact's samples."""
    samples = row["samples"]
    gaps = [
        later - earlier
        for sample in samples
        for earlier, later in zip(sample["token_times_s"], sample["token_times_s"][1:], strict=False)
    ]
    decode = [sample["decode_tps"] for sample in samples]
    return {
        "artifact": row["artifact"],
        "label": "measured-host",
        "size_mb": row["size_mb"],
        "threads": row["threads"],
        "repetitions": len(samples),
        "load_s": round(row["load_s"], 3),
        "ttft_s_median": round(statistics.median(sample["ttft_s"] for sample in samples), 4),
        "ttft_s_p95": round(percentile([sample["ttft_s"] for sample in samples], 95), 4),
        "prefill_tps_median": round(statistics.median(sample["prefill_tps"] for sample in samples), 1),
        "decode_tps_median": round(statistics.median(decode), 1),
        "decode_tps_min": round(min(decode), 1),
        "token_gap_ms_p95": round(1000 * percentile(gaps, 95), 2),
        "decode_cv": round(statistics.stdev(decode) / statistics.mean(decode), 4),
        "memory_mb": row["memory_mb"],
    }


def show(rows: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    """Print the summaries as a table."""
    title = (
        f"Latency and memory (measured-host, {settings['threads']} threads, prompt {settings['prompt_tokens']}, "
        f"{settings['decode_tokens']} new tokens, {settings['repetitions']} repetitions)"
    )
    columns = ["artifact", "MB", "load s", "TTFT s (p95)", "prefill tok/s", "decode tok/s", "gap p95 ms"]
    columns += ["anon+file MB", "peak MB"]
    lines = []
    for row in rows:
        memory = row["memory_mb"].get("after_decode", {})
        lines.append(
            [
                *speed_cells(row),
                f"{row['token_gap_ms_p95']:.1f}",
                f"{memory['anonymous']:.0f}+{memory['file_backed']:.0f}" if memory else "–",
                f"{memory['peak_rss']:.0f}" if memory else "–",
            ]
        )
    stdout.print(table(title, columns, lines))


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


def percentile(values: list[float], percent: float) -> float:
    """The percentile by linear interpolation between order statistics."""
    import numpy as np

    return float(np.percentile(values, percent))


def _measure(artifact: str, options: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "empathy_edge.bench.worker", artifact, json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if line.strip()][-2:]
        raise EmpathyEdgeError(f"{artifact}: could not be measured:\n  " + "\n  ".join(last))
    return json.loads(done.stdout.splitlines()[-1])


def _size_mb(path: Path) -> float:
    files = [path] if path.is_file() else [item for item in path.iterdir() if item.name.startswith("model")]
    return round(sum(file.stat().st_size for file in files) / 1e6, 1)
