"""Where an artifact's loss comes from, and which dialogues show it. A diagnosis, never a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from empathy_edge.bench.gate.responses import ResponseRow, by_id, read_rows
from empathy_edge.bench.gate.verdict_results import Points, WorseDialogue
from empathy_edge.bench.gate.verified import VerifiedArtifact, read_merge_check
from empathy_edge.bench.gate.winrate_results import FULL, MeanInterval, WinrateResults
from empathy_edge.judging.format_checks import check_format
from empathy_edge.runs.settings import GateSettings

F16 = "gguf-f16"
"""The artifact that is converted but not quantized."""

SHOWN = 5
"""How many of the dialogues that got worse are in gate.md."""


def diagnose(arm: str, verified: Mapping[str, VerifiedArtifact], settings: GateSettings) -> list[str]:
    """What `verify` measured against the checkpoint: conversion, tokenizer and template, or quantization.

    Args:
        arm: the artifact.
        verified: what was measured, by artifact.
        settings: the largest mean KL divergence.
    """
    row = verified.get(arm)
    if row is None:
        return []
    findings = []
    if not row.golden_ids_equal:
        findings.append("tokenizer or template: other token ids than the checkpoint's")
    if not row.stop_ids_equal:
        findings.append("tokenizer or template: other stop tokens than the checkpoint's")
    f16 = verified.get(F16) if arm.startswith("gguf") else None
    if f16 is not None and f16.mean_kl > settings.max_mean_kl:
        findings.append(f"conversion: GGUF F16 is already at a mean KL of {f16.mean_kl:.3f}")
    if row.mean_kl > settings.max_mean_kl:
        part = "" if f16 is None or arm == F16 else f", of which conversion {f16.mean_kl:.4f}"
        findings.append(
            f"quantization: mean KL {row.mean_kl:.3f} nats a token{part}; the likeliest token is another "
            f"one at {1 - row.top1_agreement:.0%} of positions"
        )
    return findings


def lost_by_step(arm: str, points: Points) -> dict[str, MeanInterval]:
    """How much of the win rate against the fine-tuned model conversion and quantization cost.

    Conversion is what the F16 GGUF loses. Quantization is what a GGUF loses beyond that. Empty where there is
    no F16 GGUF.
    """
    if arm == F16 or not arm.startswith("gguf") or (F16, FULL) not in points:
        return {}
    f16_points, arm_points = points[F16, FULL], points[arm, FULL]
    conversion = [0.5 - f16_points[dialogue] for dialogue in arm_points]
    quantization = [f16_points[dialogue] - arm_points[dialogue] for dialogue in arm_points]
    return {
        "conversion": MeanInterval.of_differences(conversion),
        "quantization": MeanInterval.of_differences(quantization),
    }


def describe_steps(lost: Mapping[str, MeanInterval]) -> list[str]:
    """`lost_by_step` in words, as hundredths of the win rate."""
    parts = [
        f"{step} {100 * row.mean:.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}]"
        for step, row in lost.items()
    ]
    return [f"points of the win rate lost: {', '.join(parts)}"] if parts else []


def describe_merge(verify: Path | None) -> str | None:
    """How far the merged checkpoint is from the adapter model, in words; None where that is not known."""
    merge = read_merge_check(verify) if verify else None
    if merge is None:
        return None
    return (
        f"Merge: logits differ from the adapter model's by at most "
        f"{merge.merge_max_abs_logit_difference:.2g} at {merge.merge_positions} positions."
    )


def worse_dialogues(
    arm: str, winrate_folder: Path, results: WinrateResults, points: Points
) -> list[WorseDialogue]:
    """The dialogues on which the artifact does worse than the fine-tuned model; most reasons first.

    The reasons are: the judge prefers the fine-tuned model's response in both orders; only the artifact's
    response is not well-formed; the scorer's rating falls from 3 to 1. Empty where the responses are not
    there.
    """
    arm_file, full_file = (winrate_folder / "responses" / f"{name}.jsonl" for name in (arm, FULL))
    if not (arm_file.is_file() and full_file.is_file()):
        return []
    arm_rows, full_rows = by_id(read_rows(arm_file)), by_id(read_rows(full_file))
    flips = results.severe_flips.arms.get(arm) if results.severe_flips else None
    fell = set(flips.fell) if flips else set()
    worse = []
    for dialogue, point in points[arm, FULL].items():
        said = results.said.get(dialogue)
        why = _lost_form(arm_rows[dialogue], full_rows[dialogue], said)
        if dialogue in fell:
            why.append("rated 1 instead of 3")
        if point == 0:
            why.append("loses in both orders")
        if why:
            worse.append(
                WorseDialogue(
                    id=dialogue,
                    why=tuple(why),
                    said=said,
                    fine_tuned=full_rows[dialogue]["text"],
                    artifact=arm_rows[dialogue]["text"],
                )
            )
    return sorted(worse, key=lambda row: (-len(row.why), row.id))


def _lost_form(arm_row: ResponseRow, full_row: ResponseRow, said: str | None) -> list[str]:
    """The checks that the artifact's response fails; nothing unless the fine-tuned model's passes all."""
    arm_checks = check_format(arm_row["text"], arm_row["finish_reason"], said)
    full_checks = check_format(full_row["text"], full_row["finish_reason"], said)
    failed = [check for check, holds in arm_checks.items() if not holds]
    if failed and all(full_checks.values()):
        return [f"not well-formed ({', '.join(failed)})"]
    return []


def worse_line(arm: str, rows: tuple[WorseDialogue, ...], prompts: int) -> str:
    """How many dialogues got worse, and the ids of the first; for a pull request, so without texts."""
    line = f"{arm}: {len(rows)} of {prompts} dialogues got worse"
    if rows:
        line += ", first " + "; ".join(f"{row.id} ({', '.join(row.why)})" for row in rows[:SHOWN])
    return f"{line}."


def worse_page(worse: Mapping[str, tuple[WorseDialogue, ...]]) -> list[str]:
    """All of them with their texts, escaped: a Markdown page with an HTML table for each artifact."""
    lines = ["# Dialogues that got worse"]
    for arm, rows in worse.items():
        lines += ["", f"## {arm}: {len(rows)}", "", "<table>"]
        lines.append("<tr><th>id</th><th>said</th><th>fine-tuned</th><th>artifact</th><th>why</th></tr>")
        lines += [_worse_row(row) for row in rows]
        lines.append("</table>")
    return lines


def _worse_row(row: WorseDialogue) -> str:
    texts = (row.id, row.said or "", row.fine_tuned, row.artifact, "; ".join(row.why))
    cells = [f"<td>{escape(' '.join(text.split()), quote=False)}</td>" for text in texts]
    return f"<tr>{''.join(cells)}</tr>"
