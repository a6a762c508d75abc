"""The report's figures as Markdown, for a repository's docs: the verdict first, then a table, then details.

Dialogues are named by id only, because their licence may not allow more.
"""

from __future__ import annotations

from collections.abc import Sequence

from empathy_edge.bench.browser.results import COLUMNS, cells
from empathy_edge.bench.check.output import conditions, sentences
from empathy_edge.bench.latency_summary import LatencySummary, speed_cells
from empathy_edge.bench.release.results import WinRate
from empathy_edge.bench.release.tables import describe_judge
from empathy_edge.bench.report.commands import commands
from empathy_edge.bench.report.finished_run import ArtifactRow, FinishedRun, Sample
from empathy_edge.bench.report.words import (
    about_arms,
    next_steps,
    percent,
    release_sentence,
    verdict_sentence,
)


def markdown(run: FinishedRun, samples: Sequence[Sample]) -> str:
    """Every figure of a run, with its commands, machine and versions, and some responses."""
    lines = [
        *_head(run),
        *_artifacts(run),
        *_verdicts(run),
        *_release(run),
        *_win_rates(run),
        *_latency(run),
        *_phones(run),
        *_distances(run),
        *_samples(samples),
        *_training(run),
        *_time_and_memory(run),
        *_again(run),
    ]
    return "\n".join(lines)


def _head(run: FinishedRun) -> list[str]:
    """The verdict, the release verdict, the run, and what to do next."""
    machine = run.manifests["bench"].machine
    lines = [
        f"# {_plain(verdict_sentence(run.check))}",
        "",
        f"**{run.release.verdict}**: {_plain(release_sentence(run.release))}",
        "",
        _plain(
            f"Run “{run.recipe.name}” of {run.manifests['check'].created[:10]}, base {run.recipe.base}, on "
            f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb} GB, {machine.system}."
        ),
        "",
    ]
    steps = next_steps(run)
    if not steps:
        return lines
    lines += ["## What to do next", ""]
    if run.about_folder and any(step.command for step in steps):
        lines += [run.about_folder, ""]
    for number, step in enumerate(steps, 1):
        command = f" `{step.command.replace('`', '')}`" if step.command else ""
        lines.append(f"{number}. {_plain(step.text)}{command}")
    return [*lines, ""]


def _artifacts(run: FinishedRun) -> list[str]:
    settings = run.manifests["bench"].settings
    columns = ["artifact", "verdict", "won, at least", "at most", "MB", "decode tok/s", "TTFT s"]
    columns += ["anonymous MB", "file-backed MB", "mean KL"]
    return [
        "## What each artifact keeps and costs",
        "",
        "A comparison is won when a reply of the artifact is better than one of its own full-precision model "
        "to the same prompt; ties count half. At 50 % nothing was lost. Speed and memory: measured-host, "
        f"{settings['threads']} threads, prompt of {settings['prompt_tokens']} tokens, "
        f"{settings['decode_tokens']} new ones, medians of {settings['repetitions']}.",
        "",
        *_table(columns, [_artifact_row(row) for row in run.artifacts]),
        "",
    ]


def _artifact_row(row: ArtifactRow) -> list[str]:
    found, speed, memory = row.checked, row.latency, row.memory_mb
    cells = [row.name, found.verdict, percent(found.win_rate_low), percent(found.win_rate_high)]
    if speed:
        low, high = speed.decode_tps_interval
        cells += [
            f"{speed.size_mb:.0f}",
            f"{speed.decode_tps_median} [{low}, {high}]",
            f"{speed.ttft_s_median:.3f}",
        ]
    else:
        cells += ["–"] * 3
    cells += [f"{memory['anonymous']:.0f}", f"{memory['file_backed']:.0f}"] if memory else ["–"] * 2
    return [*cells, f"{row.verified.mean_kl:.4f}" if row.verified else "–"]


def _verdicts(run: FinishedRun) -> list[str]:
    """The reasons of the verdicts; notes stand below the sentence that they belong to."""
    lines = ["## Why each artifact got its verdict", ""]
    for line in sentences(run.check):
        lines.append(f"  - {_plain(line.strip())}" if line.startswith(" ") else f"- {_plain(line)}")
    return [*lines, "", _plain(conditions(run.check)), ""]


def _release(run: FinishedRun) -> list[str]:
    """All reasons of the release verdict, and the form of the responses."""
    columns = ["arm", "well-formed", "stopped", "1–97 words", "no loop", "same language", "median words"]
    rows = []
    for arm, row in run.release.format.items():
        shares = (row.ok, row.stopped, row.length, row.no_loop, row.language)
        rows.append([arm, *(percent(share) for share in shares), f"{row.median_words:g}"])
    return [
        "## The fine-tuned model beside its base",
        "",
        f"**{run.release.verdict}**: {_plain('; '.join(run.release.reasons))}.",
        "",
        about_arms(run.release),
        "",
        *_table(columns, rows),
        "",
    ]


def _training(run: FinishedRun) -> list[str]:
    return ["## Training", "", *_data(run), *_own_pairs_and_length(run)]


def _data(run: FinishedRun) -> list[str]:
    """What it was trained on, how the training went, and how exact the merge is."""
    trained = [
        f"{step}: {results.steps} steps, {results.train_seconds} s, "
        f"loss {results.loss_first} → {results.loss_last}"
        for step, results in run.trained.items()
    ]
    sha256 = run.manifests["distill"].inputs["data"].sha256
    return [
        f"Data: {run.distill.sft_rows} SFT rows, {run.distill.preference_pairs} preference pairs, "
        f"{run.release.prompts} test prompts (sha256 of the file {sha256[:16]}…). {'; '.join(trained)}. "
        "Merge: largest logit difference to the adapter model "
        f"{run.merge.merge_max_abs_logit_difference}.",
        "",
    ]


def _own_pairs_and_length(run: FinishedRun) -> list[str]:
    """What the student's own samples gave, and how long its responses became, where that is known."""
    lines = []
    if run.own_pairs:
        own = run.own_pairs
        judge = run.manifests["own-pairs"].settings.get("judge")
        mean = f"mean rating by {judge}, of 0 to 1" if judge else "mean similarity to the good responses"
        lines.append(
            f"Pairs from the student's own samples: {own.pairs} from {own.samples} samples of {own.prompts} "
            f"prompts; {mean}: "
            f"chosen {own.mean_score['chosen']}, rejected {own.mean_score['rejected']}."
        )
    drift = run.dpo.length_drift if run.dpo else None
    if drift:
        lines.append(
            f"Length in DPO, {drift.prompts} prompts: median {drift.median_words_before:g} words before, "
            f"{drift.median_words_after:g} after; {percent(drift.stopped_before)} stopped before, "
            f"{percent(drift.stopped_after)} after."
        )
    return [*lines, ""] if lines else []


def _time_and_memory(run: FinishedRun) -> list[str]:
    """What each stage took, as far as the run has recorded it; the report itself is not among them."""
    if not run.costs:
        return []
    rows = [
        [stage, f"{cost.seconds:.0f}", f"{cost.peak_memory_mb / 1e3:.1f}"]
        for stage, cost in run.costs.items()
    ]
    seconds = sum(cost.seconds for cost in run.costs.values())
    peak_mb = max(cost.peak_memory_mb for cost in run.costs.values())
    rows.append(["all", f"{seconds:.0f}", f"{peak_mb / 1e3:.1f}"])
    precisions = [
        f"{step}: {results.weights['weights']}; {results.weights['reason']}."
        for step, results in run.trained.items()
    ]
    return [
        "## Time and memory",
        "",
        *_table(["stage", "seconds", "peak memory, GB (the process and its children)"], rows),
        "",
        *precisions,
        "",
    ]


def _win_rates(run: FinishedRun) -> list[str]:
    judge = run.release.judge
    if not run.release.win_rates:
        return []
    columns = ["comparison", "win rate", "95 % interval", "ties", "where both are well-formed"]
    return [
        f"## Win rates by {judge.judge}",
        "",
        f"{describe_judge(judge)}. Both orders, ties half, 95 % score intervals over prompts.",
        *(f"Not certified: {doubt}." for doubt in judge.doubts),
        "",
        *_table(columns, [_win_rate_row(row) for row in run.release.win_rates]),
        "",
    ]


def _win_rate_row(row: WinRate) -> list[str]:
    rate, well_formed = row.win_rate, row.win_rate_well_formed
    return [
        f"{row.first} against {row.second}",
        percent(rate.mean),
        f"{percent(rate.low)} – {percent(rate.high)}",
        percent(row.ties),
        f"{percent(well_formed.mean)} (n = {well_formed.n})" if well_formed else "–",
    ]


def _latency(run: FinishedRun) -> list[str]:
    settings = run.manifests["bench"].settings
    columns = ["artifact", "MB", "load s", "TTFT s (p95)", "prefill tok/s", "decode tok/s", "anonymous"]
    columns += ["file-backed", "peak"]
    return [
        f"## Latency and memory (measured-host, {settings['threads']} threads)",
        "",
        f"Prompt of {settings['prompt_tokens']} tokens, {settings['decode_tokens']} new ones, "
        f"{settings['repetitions']} repetitions after a warm-up, medians; memory in MB after decoding.",
        "",
        *_table(columns, [_latency_row(row) for row in run.latency]),
        "",
    ]


def _latency_row(row: LatencySummary) -> list[str]:
    memory = row.memory_mb.get("after_decode")
    if not memory:
        return [*speed_cells(row), "–", "–", "–"]
    return [*speed_cells(row), *(f"{memory[key]:.0f}" for key in ("anonymous", "file_backed", "peak_rss"))]


def _phones(run: FinishedRun) -> list[str]:
    """Browsers' figures in a table of their own."""
    if not run.phones:
        return []
    return [
        "## In phones' browsers (measured-browser: WebAssembly, not the phone's native speed)",
        "",
        *_table(list(COLUMNS), [cells(row) for row in run.phones]),
        "",
    ]


def _distances(run: FinishedRun) -> list[str]:
    rows = [
        [
            row.artifact,
            "equal" if row.golden_ids_equal else "differ",
            percent(row.top1_agreement),
            f"{row.mean_kl:.4f}",
            f"{row.p99_kl:.3f}",
            str(row.positions),
        ]
        for row in run.verified.values()
    ]
    return [
        "## Distance from the merged checkpoint (torch, fp32)",
        "",
        *_table(["artifact", "token ids", "top-1", "mean KL", "p99 KL", "tokens"], rows),
        "",
    ]


def _samples(samples: Sequence[Sample]) -> list[str]:
    lines = ["## Responses side by side", ""]
    for sample in samples:
        emotion = f" ({sample.dialogue.emotion})" if sample.dialogue.emotion else ""
        lines += [f"### {_plain(f'{sample.dialogue.id}{emotion}')}", ""]
        for arm, row in sample.responses.items():
            cut_off = "" if row["finish_reason"] == "stop" else " (did not stop)"
            lines.append(f"- **{arm}**{cut_off}: {_plain(row['text'])}")
        lines.append("")
    return lines


def _again(run: FinishedRun) -> list[str]:
    versions = [f"{name} {version}" for name, version in run.manifests["bench"].versions.items()]
    lines = ["## Commands and versions", ""]
    if run.about_folder:
        lines += [run.about_folder, ""]
    lines += ["```", *commands(run)]
    python = run.manifests["bench"].machine.python
    return [*lines, "```", "", f"{', '.join(versions)}, Python {python}", ""]


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns)]
    lines += [[_plain(cell).replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _plain(text: str) -> str:
    """Text from elsewhere in one line, which may not be HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
