"""Where an artifact's loss comes from, and which dialogues show it. A diagnosis, never a verdict."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from empathy_edge.bench.gate.winrate import FULL
from empathy_edge.formats.dialogue import read_jsonl
from empathy_edge.judging.format_checks import check_format
from empathy_edge.judging.statistics import bootstrap_mean
from empathy_edge.runs.recipe import GateSettings
from empathy_edge.system.files import MANIFEST, read_json

F16 = "gguf-f16"
RESAMPLES, SEED = 2000, 0
SHOWN = 5
"""How many of the dialogues that got worse stand in gate.md."""

Points = dict[tuple[str, str], dict[str, float]]
"""(first arm, second arm) → dialogue → the first arm's points."""


def diagnose(arm: str, verified: dict[str, dict[str, Any]], settings: GateSettings) -> list[str]:
    """What `verify` measured against the checkpoint: conversion, tokenizer and template, or quantization."""
    row = verified.get(arm)
    if row is None or "mean_kl" not in row:
        return []
    found = []
    if not row["golden_ids_equal"]:
        found.append("tokenizer or template: other token ids than the checkpoint's")
    if not row["stop_ids_equal"]:
        found.append("tokenizer or template: other stop tokens than the checkpoint's")
    conversion = verified.get(F16, {}).get("mean_kl") if arm.startswith("gguf") else None
    if conversion is not None and conversion > settings.max_mean_kl:
        found.append(f"conversion: GGUF F16 is already at a mean KL of {conversion:.3f}")
    if row["mean_kl"] > settings.max_mean_kl:
        of = f", of which conversion {conversion:.4f}" if conversion is not None and arm != F16 else ""
        found.append(
            f"quantization: mean KL {row['mean_kl']:.3f} nats a token{of}; the likeliest token is another one at "
            f"{1 - row['top1_agreement']:.0%} of positions"
        )
    return found


def lost_by_step(arm: str, points: Points) -> dict[str, dict[str, float]]:
    """Points of the win rate against the fine-tuned model that conversion and quantization cost, 95 % over prompts.

    Conversion is what the F16 GGUF loses, quantization what a GGUF loses beyond that; nothing where there is no F16 GGUF.
    """
    if arm == F16 or not arm.startswith("gguf") or (F16, FULL) not in points:
        return {}
    whole, ours = points[(F16, FULL)], points[(arm, FULL)]
    lost = {
        "conversion": [0.5 - whole[name] for name in ours],
        "quantization": [whole[name] - ours[name] for name in ours],
    }
    return {step: bootstrap_mean(values, RESAMPLES, SEED) for step, values in lost.items()}


def describe_steps(lost: dict[str, dict[str, float]]) -> list[str]:
    """`lost_by_step` in words."""
    parts = [
        f"{step} {100 * row['mean']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        for step, row in lost.items()
    ]
    return [f"points of the win rate lost: {', '.join(parts)}"] if parts else []


def merge_line(verify: Path | None) -> str | None:
    """How far the merged checkpoint is from the adapter model, as `verify` took it over from the merge's own proof."""
    merge = (
        read_json(verify / MANIFEST)["results"].get("merge")
        if verify and (verify / MANIFEST).is_file()
        else None
    )
    if not merge:
        return None
    return (
        f"Merge: logits differ from the adapter model's by at most {merge['merge_max_abs_logit_difference']:.2g} "
        f"at {merge['merge_positions']} positions."
    )


def worse_dialogues(arm: str, winrate: Path, result: dict[str, Any], points: Points) -> list[dict[str, Any]]:
    """The dialogues on which the artifact does worse than the fine-tuned model, those with most against them first.

    Against a response speak: the judge, when it prefers the fine-tuned model's in both orders; the format, when only the
    artifact's is not well-formed; the scorer, when it falls from 3 to 1.

    Returns:
        `id`, `why`, and the texts `said`, `fine_tuned` and `artifact`; empty where the responses are not there.
    """
    files = {name: winrate / "responses" / f"{name}.jsonl" for name in (arm, FULL)}
    if not all(file.is_file() for file in files.values()):
        return []
    ours, full = ({row["id"]: row for row in read_jsonl(file)} for file in files.values())
    fell = set(((result.get("severe_flips") or {}).get("arms", {}).get(arm) or {}).get("fell", ()))
    found, said = [], result.get("said", {})
    for name, point in points[(arm, FULL)].items():
        broken, whole = (
            check_format(row["text"], row["finish_reason"], said.get(name))
            for row in (ours[name], full[name])
        )
        why = [f"not well-formed ({', '.join(key for key, holds in broken.items() if not holds)})"] * (
            all(whole.values()) and not all(broken.values())
        )
        why += ["rated 1 instead of 3"] * (name in fell) + ["loses in both orders"] * (point == 0)
        if why:
            texts = {
                "said": said.get(name),
                "fine_tuned": full[name]["text"],
                "artifact": ours[name]["text"],
            }
            found.append({"id": name, "why": why, **texts})
    return sorted(found, key=lambda row: (-len(row["why"]), row["id"]))


def worse_line(arm: str, rows: list[dict[str, Any]], prompts: int) -> str:
    """How many they are and the first of them by id, for a pull request: what people said need not stand there."""
    first = "; ".join(f"{row['id']} ({', '.join(row['why'])})" for row in rows[:SHOWN])
    return f"{arm}: {len(rows)} of {prompts} dialogues got worse{f', first {first}' if rows else ''}."


def worse_page(worse: dict[str, list[dict[str, Any]]]) -> list[str]:
    """All of them with their texts, an HTML table for each artifact in a Markdown page; every text is escaped."""
    lines = ["# Dialogues that got worse"]
    for arm, rows in worse.items():
        lines += ["", f"## {arm}: {len(rows)}", "", "<table>"]
        lines.append("<tr><th>id</th><th>said</th><th>fine-tuned</th><th>artifact</th><th>why</th></tr>")
        for row in rows:
            cells = (row["id"], row["said"] or "", row["fine_tuned"], row["artifact"], "; ".join(row["why"]))
            lines.append(
                "<tr>"
                + "".join(f"<td>{escape(' '.join(cell.split()), quote=False)}</td>" for cell in cells)
                + "</tr>"
            )
        lines.append("</table>")
    return lines
