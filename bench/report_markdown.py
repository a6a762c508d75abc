"""The report's figures as Markdown, for a repository's docs: dialogues by id only, since their licence may forbid more."""

from __future__ import annotations

from typing import Any

from empathy_edge.bench.gate.winrate import describe_judge
from empathy_edge.bench.latency import speed_cells


def markdown(
    run: dict[str, Any], manifests: dict[str, Any], samples: list[dict[str, Any]], command: str
) -> str:
    """Every figure of a run, with its command, machine and versions.

    Args:
        run: run.json: the recipe, and seconds and peak memory of each stage.
        manifests: by stage.
        samples: responses to some prompts, by arm.
        command: what made the run.
    """
    recipe = run["recipe"]
    bench, winrate = manifests["bench"], manifests["winrate"]["results"]
    machine = bench["machine"]
    made = "; ".join(
        f"{name}: {item['results'].get('steps')} steps, {item['results'].get('train_seconds')} s, "
        f"loss {item['results'].get('loss_first')} → {item['results'].get('loss_last')}"
        for name, item in manifests.items()
        if name in ("sft", "dpo")
    )
    rows = manifests["distill"]["results"]
    lines = [
        f"# {recipe['name']}",
        "",
        f"`{command}`",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}, Python "
        f"{machine['python']}; {manifests['gate']['created'][:10]}. Base: {recipe['base']}.",
        "",
        f"Data: {rows['sft_rows']} SFT rows, {rows['preference_pairs']} preference pairs, {winrate['prompts']} test "
        f"prompts (sha256 of the file {manifests['distill']['inputs']['data']['sha256'][:16]}…). {made}. Merge: largest "
        f"logit difference to the adapter model {manifests['merged']['results']['merge_max_abs_logit_difference']}.",
        "",
        *_own_pairs(manifests),
        *_time_and_memory(run.get("stages", {}), manifests),
        "## Verdicts",
        "",
        *_table(
            ["artifact", "verdict", "why"],
            [
                [arm, item["verdict"], "; ".join(item["reasons"])]
                for arm, item in manifests["gate"]["results"]["verdicts"].items()
            ],
        ),
        "",
        "## Responses",
        "",
        *_table(
            ["arm", "well-formed", "stopped", "1–97 words", "no loop", "same language", "median words"],
            [
                [arm, *(_percent(row[key]) for key in ("ok", "stopped", "length", "no_loop", "language")), f"{row['median_words']:g}"]
                for arm, row in winrate["format"].items()
            ],
        ),
        "",
        f"## Win rates by {winrate['judge']['judge']}",
        "",
        f"{describe_judge(winrate['judge'])}. Both orders, ties half, 95 % bootstrap intervals over prompts.",
        *(f"Not certified: {doubt}." for doubt in winrate["judge"]["doubts"]),
        "",
        *_table(
            ["comparison", "win rate", "95 % interval", "ties", "where both are well-formed"],
            [_rate_row(row) for row in winrate["win_rates"]],
        ),
        "",
        f"## Latency and memory (measured-host, {bench['settings']['threads']} threads)",
        "",
        f"Prompt of {bench['settings']['prompt_tokens']} tokens, {bench['settings']['decode_tokens']} new ones, "
        f"{bench['settings']['repetitions']} repetitions after a warm-up, medians; memory in MB after decoding.",
        "",
        *_table(
            ["artifact", "MB", "load s", "TTFT s (p95)", "prefill tok/s", "decode tok/s", "anonymous", "file-backed",
             "peak"],
            [_bench_row(row) for row in bench["results"]["artifacts"]],
        ),
        "",
        "## Distance from the merged checkpoint (torch, fp32)",
        "",
        *_table(
            ["artifact", "token ids", "top-1", "mean KL", "p99 KL", "tokens"],
            [
                [
                    row["artifact"],
                    "equal" if row["golden_ids_equal"] else "differ",
                    _percent(row["top1_agreement"]),
                    f"{row['mean_kl']:.4f}",
                    f"{row['p99_kl']:.3f}",
                    str(row["positions"]),
                ]
                for row in manifests["verify"]["results"]["artifacts"]
            ],
        ),
        "",
        "## Responses side by side",
        "",
    ]  # fmt: skip
    for sample in samples:
        lines += [f"### {sample['dialogue'].id} ({sample['dialogue'].emotion})", ""]
        for arm, row in sample["responses"].items():
            cut = "" if row["finish_reason"] == "stop" else " (did not stop)"
            lines += [f"- **{arm}**{cut}: {' '.join(row['text'].split())}"]
        lines += [""]
    versions = ", ".join(f"{name} {version}" for name, version in bench["versions"].items())
    lines += ["## Versions", "", versions, ""]
    return "\n".join(lines)


def _time_and_memory(stages: dict[str, Any], manifests: dict[str, Any]) -> list[str]:
    """What each stage took, as far as the run has recorded it; the report itself is not among them."""
    if not stages:
        return []
    rows = [
        [name, f"{item['seconds']:.0f}", f"{item['peak_memory_mb'] / 1e3:.1f}"]
        for name, item in stages.items()
    ]
    seconds, peak = (
        sum(item["seconds"] for item in stages.values()),
        max(item["peak_memory_mb"] for item in stages.values()),
    )
    rows.append(["all", f"{seconds:.0f}", f"{peak / 1e3:.1f}"])
    trained = [name for name in ("sft", "dpo") if "weights" in manifests.get(name, {}).get("results", {})]
    return [
        "## Time and memory",
        "",
        *_table(["stage", "seconds", "peak memory, GB (the process and its children)"], rows),
        "",
        *(
            f"{name}: {manifests[name]['results']['weights']['weights']}; {manifests[name]['results']['weights']['reason']}."
            for name in trained
        ),
        "",
    ]


def _own_pairs(manifests: dict[str, Any]) -> list[str]:
    """What the student's own samples gave, and how long its responses became."""
    lines = []
    if "own-pairs" in manifests:
        own = manifests["own-pairs"]["results"]
        lines.append(
            f"Pairs from the student's own samples: {own['pairs']} from {own['samples']} samples of {own['prompts']} prompts; "
            f"mean similarity to the good responses: chosen {own['mean_score']['chosen']}, rejected "
            f"{own['mean_score']['rejected']}."
        )
    drift = manifests["dpo"]["results"].get("length_drift") if "dpo" in manifests else None
    if drift:
        lines.append(
            f"Length in DPO, {drift['prompts']} prompts: median {drift['median_words_before']:g} words before, "
            f"{drift['median_words_after']:g} after; {_percent(drift['stopped_before'])} stopped before, "
            f"{_percent(drift['stopped_after'])} after."
        )
    return [*lines, ""] if lines else []


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _rate_row(row: dict[str, Any]) -> list[str]:
    rate, formed = row["win_rate"], row["win_rate_well_formed"]
    return [
        f"{row['first']} against {row['second']}",
        _percent(rate["mean"]),
        f"{_percent(rate['low'])} – {_percent(rate['high'])}",
        _percent(row["ties"]),
        f"{_percent(formed['mean'])} (n = {formed['n']})" if formed else "–",
    ]


def _bench_row(row: dict[str, Any]) -> list[str]:
    memory = row["memory_mb"].get("after_decode", {})
    return [
        *speed_cells(row),
        *(f"{memory[key]:.0f}" if memory else "–" for key in ("anonymous", "file_backed", "peak_rss")),
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
