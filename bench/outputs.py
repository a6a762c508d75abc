"""A result in other people's layouts: llama-bench's JSONL, and Markdown."""

from __future__ import annotations

import json
import statistics
from typing import Any

from empathy_edge.bench.latency import summaries


def llama_bench_jsonl(result: dict[str, Any]) -> str:
    """The rows that `llama-bench -o jsonl` would print (llama.cpp, tools/llama-bench): prefill, and decode at a depth."""
    settings = result["settings"]
    lines = []
    for row in result["artifacts"]:
        for test in row["tests"]:
            length, new = test["prompt_tokens"], settings["decode_tokens"]
            prefill = [sample["ttft_s"] for sample in test["samples"]]
            decode = [sample["token_times_s"][-1] - sample["token_times_s"][0] for sample in test["samples"]]
            for n_prompt, n_gen, depth, count, seconds in (
                (length, 0, 0, length, prefill),
                (0, new, length, new - 1, decode),
            ):
                speeds = [count / value for value in seconds]
                lines.append(
                    {
                        "model_filename": row["artifact"],
                        "model_type": row["runtime"],
                        "model_size": int(row["size_mb"] * 1e6),
                        "backends": "CPU",
                        "cpu_info": result["machine"]["cpu"],
                        "n_threads": row["threads"],
                        "n_prompt": n_prompt,
                        "n_gen": n_gen,
                        "n_depth": depth,
                        "avg_ns": round(1e9 * statistics.mean(seconds)),
                        "stddev_ns": round(1e9 * statistics.stdev(seconds)) if len(seconds) > 1 else 0,
                        "avg_ts": statistics.mean(speeds),
                        "stddev_ts": statistics.stdev(speeds) if len(speeds) > 1 else 0.0,
                        "samples_ns": [round(1e9 * value) for value in seconds],
                        "samples_ts": speeds,
                    }
                )
    return "".join(json.dumps(line) + "\n" for line in lines)


def markdown(result: dict[str, Any]) -> str:
    """The summaries as a Markdown table, with the machine and the settings above it."""
    machine, settings = result["machine"], result["settings"]
    busy = result["conditions"]["before"].get("background_busy")
    lines = [
        f"measured-host: {machine['cpu']}, {settings['threads']} threads, {settings['decode_tokens']} new tokens, "
        f"{settings['repetitions']} rounds in shuffled order, each in a process of its own; median with its interval"
        + (f"; {busy:.0%} of the cores busy before" if busy is not None else "")
        + ".",
        "",
        "| artifact | MB | prompt | load s | first token s | prefill tok/s | decode tok/s | gap p50 / p95 / p99 ms | anonymous + file-backed MB | peak MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in summaries(result):
        memory = row["memory_mb"].get("after_decode", {})
        prefill, decode = row["prefill_tps_interval"], row["decode_tps_interval"]
        cells = [
            row["artifact"],
            f"{row['size_mb']:.0f}",
            str(row["prompt_tokens"]),
            f"{row['load_s']:.2f}",
            f"{row['ttft_s_median']:.3f}",
            f"{row['prefill_tps_median']:.0f} [{prefill[0]:.0f}, {prefill[1]:.0f}]",
            f"{row['decode_tps_median']:.1f} [{decode[0]:.1f}, {decode[1]:.1f}]",
            f"{row['token_gap_ms_p50']:.1f} / {row['token_gap_ms_p95']:.1f} / {row['token_gap_ms_p99']:.1f}",
            f"{memory['anonymous']:.0f} + {memory['file_backed']:.0f}" if memory else "–",
            f"{memory['peak_rss']:.0f}" if memory else "–",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
