"""What a person feels: whole conversations, turn by turn, started cold and warm, with and without the prompt cache."""

from __future__ import annotations

import json
import random
import statistics
from pathlib import Path
from typing import Any

from empathy_edge.bench.conditions import conditions
from empathy_edge.bench.timing_intervals import percentile
from empathy_edge.bench.latency import FORMAT, measure, say_if_warm, size_mb
from empathy_edge.console import out as stdout
from empathy_edge.console import progress, say, table
from empathy_edge.data import conversations_file
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.models.find import find_model
from empathy_edge.runtimes import default_threads
from empathy_edge.system.machine import machine, versions


def read_conversations(path: Path | None) -> list[list[str]]:
    """What people say, turn by turn: our JSONL (`turns`: texts), or dialogues whose turns name their speaker.

    Raises:
        EmpathyEdgeError: a row that is neither; names it.
    """
    file = path or conversations_file()
    conversations = []
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EmpathyEdgeError(f"{file}: cannot be read: {error}.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            turns = json.loads(line)["turns"]
            said = [turn if isinstance(turn, str) else turn["text"] for turn in turns if _of_the_person(turn)]
        except (ValueError, KeyError, TypeError):
            raise EmpathyEdgeError(
                f"{file}: row {number} is no conversation; it needs 'turns', a list of what the person says, or of "
                '{"speaker": "speaker" or "listener", "text": …}.'
            ) from None
        if said:
            conversations.append(said)
    if not conversations:
        raise EmpathyEdgeError(f"{file}: holds no conversation.")
    return conversations


def _of_the_person(turn: Any) -> bool:
    return isinstance(turn, str) or turn["speaker"] in ("speaker", "user")


def bench_chat(
    artifacts: list[str],
    *,
    conversations: list[list[str]],
    rounds: int,
    threads: int | None,
    max_new_tokens: int,
) -> dict[str, Any]:
    """Every conversation on every artifact in each round; the first load of each round is cold, the second warm."""
    longest = max(
        sum(len(said) for said in turns) // 3 + len(turns) * (max_new_tokens + 16) for turns in conversations
    )
    options = {
        "suite": "chat",
        "threads": threads or default_threads(),
        "context": max(1024, -(-(longest + 256) // 256) * 256),
        "conversations": conversations,
        "max_new_tokens": max_new_tokens,
    }
    refs = {artifact: find_model(artifact) for artifact in artifacts}
    runs: dict[str, list[dict[str, Any]]] = {artifact: [] for artifact in artifacts}
    order = random.Random(0)
    before = conditions()
    with progress() as bar:
        task = bar.add_task("chat", total=2 * rounds * len(artifacts), note="")
        for _ in range(rounds):
            for artifact in order.sample(artifacts, len(artifacts)):
                bar.update(task, note=refs[artifact].path.name)
                for cold, kept in ((True, [True]), (False, [False])):
                    runs[artifact].append(measure(artifact, {**options, "cold": cold, "cache_kept": kept}))
                    bar.advance(task)
    say_if_warm(next(iter(runs.values()))[0])
    return {
        "format": FORMAT,
        "label": "measured-host",
        "suite": "chat",
        "settings": {**{k: v for k, v in options.items() if k != "conversations"}, "rounds": rounds,
                     "conversations": len(conversations)},
        "machine": machine(),
        "versions": versions(),
        "conditions": {"before": before, "after": conditions()},
        "artifacts": [
            {"artifact": ref.path.name, "size_mb": size_mb(ref.path), "runs": runs[artifact]}
            for artifact, ref in refs.items()
        ],
    }  # fmt: skip


def summary(row: dict[str, Any]) -> dict[str, Any]:
    """One artifact's starts, first tokens by turn and by cache, first sentences, gaps between tokens."""
    turns = [turn for run in row["runs"] for turn in run["turns"]]
    gaps = [1000 * gap for turn in turns for gap in turn["gaps_s"]]
    cold = [run["load_s"] for run in row["runs"] if run["cold"]]
    sentences = [
        turn["first_sentence_s"] for turn in turns if turn["first_sentence_s"] and turn["cache_kept"]
    ]
    by_turn = []
    for number in sorted({turn["turn"] for turn in turns}):
        entry: dict[str, Any] = {"turn": number}
        for kept in (True, False):
            these = [turn for turn in turns if turn["turn"] == number and turn["cache_kept"] is kept]
            if these:
                key = "cache_kept" if kept else "cache_dropped"
                entry[key] = {
                    "ttft_s": statistics.median(turn["ttft_s"] for turn in these),
                    "ttft_s_p95": percentile([turn["ttft_s"] for turn in these], 95),
                    "prompt_tokens": statistics.median(turn["prompt_tokens"] for turn in these),
                    "read_tokens": statistics.median(
                        turn["prompt_tokens"] - turn["cached_tokens"] for turn in these
                    ),
                    "decode_tps": statistics.median(
                        turn["decode_tps"] for turn in these if turn["decode_tps"]
                    ),
                    "n": len(these),
                }
        by_turn.append(entry)
    return {
        "artifact": row["artifact"],
        "label": "measured-host",
        "size_mb": row["size_mb"],
        "cold_load_s": statistics.median(cold) if cold else None,
        "warm_load_s": statistics.median(run["load_s"] for run in row["runs"] if not run["cold"]),
        "first_sentence_s_median": statistics.median(sentences) if sentences else None,
        "gap_ms_p50": percentile(gaps, 50),
        "gap_ms_p95": percentile(gaps, 95),
        "gap_ms_p99": percentile(gaps, 99),
        "turns": len(turns),
        "stopped": statistics.mean(turn["stopped"] for turn in turns),
        "by_turn": by_turn,
        "memory_mb": row["runs"][-1]["memory_mb"],
    }


def show(result: dict[str, Any]) -> None:
    """A table of starts and gaps, and one of the first token by turn."""
    rows = [summary(row) for row in result["artifacts"]]
    settings = result["settings"]
    title = (
        f"Chat (measured-host, {settings['threads']} threads, {settings['conversations']} conversations, "
        f"{settings['rounds']} rounds, at most {settings['max_new_tokens']} new tokens a turn)"
    )
    columns = [
        "artifact",
        "load cold s",
        "warm s",
        "first sentence s",
        "gap p50 ms",
        "p95",
        "p99",
        "anon+file MB",
    ]
    lines = []
    for row in rows:
        memory = row["memory_mb"].get("after_chat", {})
        sentence = row["first_sentence_s_median"]
        lines.append(
            [
                row["artifact"],
                "–" if row["cold_load_s"] is None else f"{row['cold_load_s']:.2f}",
                f"{row['warm_load_s']:.2f}",
                "–" if sentence is None else f"{sentence:.2f}",
                *(f"{row[key]:.1f}" for key in ("gap_ms_p50", "gap_ms_p95", "gap_ms_p99")),
                f"{memory['anonymous']:.0f}+{memory['file_backed']:.0f}" if memory else "–",
            ]
        )
    stdout.print(table(title, columns, lines))
    turns = [entry["turn"] for entry in rows[0]["by_turn"]]
    columns = ["at turn", *map(str, turns)]
    lines = []
    for row in rows:
        for key, words in (("cache_kept", "cache kept"), ("cache_dropped", "dropped")):
            entries = [entry.get(key) for entry in row["by_turn"]]
            lines.append(
                [
                    f"{row['artifact']}, {words}",
                    *(f"{entry['ttft_s']:.3f}" if entry else "–" for entry in entries),
                ]
            )
        depth = [entry["cache_kept"]["prompt_tokens"] for entry in row["by_turn"] if "cache_kept" in entry]
        lines.append([f"{row['artifact']}, tokens in the prompt", *(f"{tokens:.0f}" for tokens in depth)])
    stdout.print(table("Time to first token, s, by turn (median)", columns, lines))
    shares = {row["artifact"]: row["stopped"] for row in rows if row["stopped"] < 0.9}
    for name, share in shares.items():
        say(f"[yellow]{name}: only {share:.0%} of its responses stopped by themselves; the rest were cut.[/]")


def bench_sustained(artifact: str, *, minutes: float, threads: int | None) -> dict[str, Any]:
    """Decode for some minutes; the first minute beside the last. Of heat on a phone it says nothing."""
    options = {
        "suite": "sustained",
        "threads": threads or default_threads(),
        "context": 512,
        "decode_tokens": 128,
        "seconds": 60 * minutes,
    }
    before = conditions()
    run = measure(artifact, options)
    windows = run["windows"]
    first = [window["tps"] for window in windows if window["end_s"] <= min(60, 30 * minutes) + 10]
    last = [
        window["tps"] for window in windows if window["end_s"] > windows[-1]["end_s"] - min(60, 30 * minutes)
    ]
    return {
        "format": FORMAT,
        "label": "measured-host",
        "suite": "sustained",
        "settings": options,
        "machine": machine(),
        "versions": versions(),
        "conditions": {"before": before, "after": conditions()},
        "artifacts": [{"artifact": find_model(artifact).path.name, **run}],
        "first_minute_tps": statistics.mean(first),
        "last_minute_tps": statistics.mean(last),
        "last_over_first": statistics.mean(last) / statistics.mean(first),
    }


def show_sustained(result: dict[str, Any]) -> None:
    """First minute, last minute, and the windows between."""
    row = result["artifacts"][0]
    say(
        f"{row['artifact']}, decode without a pause for {result['settings']['seconds'] / 60:g} minutes (measured-host): "
        f"first minute {result['first_minute_tps']:.1f}, last {result['last_minute_tps']:.1f} tokens/s, ratio "
        f"{result['last_over_first']:.3f}"
    )
    stdout.print(
        table(
            "Windows of 10 s",
            ["until s", "tokens/s"],
            [[f"{w['end_s']:.0f}", f"{w['tps']:.1f}"] for w in row["windows"]],
        )
    )
