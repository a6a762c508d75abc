"""The commands that make a run, or a part of it, once more."""

from __future__ import annotations

import shlex

from empathy_edge.bench.report.finished_run import FinishedRun


def commands(run: FinishedRun) -> list[str]:
    """The whole run, its check, its bench and its report."""
    checked, measured = run.recipe.check, run.manifests["bench"].settings
    artifacts = " ".join(shlex.quote(f"{run.shown_folder}/export/{row.name}") for row in run.artifacts)
    replies = {
        "--judge": checked.judge,
        "--max-prompts": checked.max_prompts,
        "--samples": checked.samples,
        "--max-new-tokens": checked.max_new_tokens,
        "--temperature": checked.temperature,
        "--min-win-rate": checked.min_win_rate,
        "--health-prompts": checked.health_prompts,
    }
    lengths = {
        "--prompt-tokens": measured["prompt_tokens"],
        "--decode-tokens": measured["decode_tokens"],
        "--repetitions": measured["repetitions"],
        "--threads": measured["threads"],
    }
    greedy = " --greedy" if checked.greedy else ""
    reference = shlex.quote(f"{run.shown_folder}/export/merged")
    return [
        run.command,
        f"empathy-edge check {artifacts} --reference {reference}{greedy} {_options(replies)}",
        f"empathy-edge bench {artifacts} {_options(lengths)}",
        f"empathy-edge report {shlex.quote(run.shown_folder)} --out report",
    ]


def _options(values: dict[str, str | int | float | None]) -> str:
    """Options with their values; what has none is left out."""
    known = [f"{name} {shlex.quote(f'{value}')}" for name, value in values.items() if value is not None]
    return " ".join(known)
