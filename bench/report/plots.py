"""The report's other pictures: speed, memory, predictions for phones, training."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from empathy_edge.bench.phones.predict import Estimate, predict
from empathy_edge.bench.report.finished_run import ArtifactRow, FinishedRun
from empathy_edge.bench.report.svg import FAINT, FIRST, INK, SECOND, Picture, drawing, picture
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import read_jsonl

PHONES = ("poco-myron", "poco-x7-klee", "galaxy-s23")
"""The phones with a fitted profile, for which speed is predicted."""

FEW_POINTS = 20
"""A line of fewer points is drawn with dots."""

Line = tuple[list[int], list[float]]
"""Steps and values."""

Row = Mapping[str, float]
"""A line of curves.jsonl: the step, and what was measured at it."""


class Bar(NamedTuple):
    """A figure with its interval, and whose it is."""

    name: str
    value: float
    low: float
    high: float


def plot_speed(rows: Sequence[ArtifactRow]) -> Picture | None:
    """Decode speed with its interval, as measured on the host; None where nothing was measured."""
    bars = []
    for row in rows:
        if row.latency:
            bars.append(Bar(row.name, row.latency.decode_tps_median, *row.latency.decode_tps_interval))
    return _plot_bars(bars, "speed", "Decode speed on this host, with intervals", "decode, tokens/s")


def _plot_bars(bars: Sequence[Bar], name: str, title: str, label: str) -> Picture | None:
    """Bars from zero, each with its interval and its figure in words."""
    if not bars:
        return None
    names = [bar.name for bar in bars]
    below = [bar.value - bar.low for bar in bars]
    above = [bar.high - bar.value for bar in bars]
    with drawing(4.4, _height(bars)) as (figure, axis):
        axis.barh(range(len(bars)), [bar.value for bar in bars], height=0.55, color=FIRST)
        axis.errorbar(
            [bar.value for bar in bars],
            range(len(bars)),
            xerr=[below, above],
            fmt="none",
            ecolor=INK,
            capsize=3,
            linewidth=1.2,
        )
        for place, bar in enumerate(bars):
            axis.annotate(
                f"{bar.value:g}", (bar.high, place), xytext=(5, 0), textcoords="offset points", va="center"
            )
        axis.set(xlabel=label, xlim=(0, 1.18 * max(bar.high for bar in bars)))
        axis.set_yticks(range(len(bars)), labels=names)
        axis.invert_yaxis()
        words = "; ".join(f"{bar.name}: {bar.value:g} ({bar.low:g} to {bar.high:g})" for bar in bars)
        return picture(figure, name, title, f"{label}: {words}.")


def _height(rows: Sequence[object]) -> float:
    """Of a picture with a bar for each row, inches."""
    return 0.75 + 0.34 * len(rows)


def plot_memory(rows: Sequence[ArtifactRow]) -> Picture | None:
    """Memory after decoding, anonymous and file-backed; None where nothing was measured."""
    known = [row for row in rows if row.memory_mb]
    if not known:
        return None
    anonymous = [row.memory_mb["anonymous"] for row in known if row.memory_mb]
    backed = [row.memory_mb["file_backed"] for row in known if row.memory_mb]
    places = range(len(known))
    with drawing(4.4, _height(known) + 0.2) as (figure, axis):
        axis.barh(places, anonymous, height=0.55, color=SECOND, edgecolor=SECOND, label="anonymous")
        axis.barh(
            places,
            backed,
            left=anonymous,
            height=0.55,
            color="none",
            edgecolor=SECOND,
            linewidth=1.2,
            label="file-backed",
        )
        sums = [ours + files for ours, files in zip(anonymous, backed, strict=True)]
        for place, total in enumerate(sums):
            axis.annotate(
                f"{total:.0f}", (total, place), xytext=(5, 0), textcoords="offset points", va="center"
            )
        axis.set(xlabel="memory after decoding, MB", xlim=(0, 1.18 * max(sums)))
        axis.set_yticks(places, labels=[row.name for row in known])
        axis.invert_yaxis()
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
        words = "; ".join(
            f"{row.name}: {ours:.0f} anonymous and {files:.0f} file-backed"
            for row, ours, files in zip(known, anonymous, backed, strict=True)
        )
        title = "Memory on this host: anonymous pages cannot be reclaimed, file-backed ones can"
        return picture(figure, "memory", title, f"MB after decoding: {words}.")


def plot_phones(predicted: Mapping[str, Mapping[str, Estimate]]) -> list[Picture]:
    """For each phone, the decode speed that is predicted for the artifacts, with 90 % intervals."""
    found = []
    for phone, speeds in predicted.items():
        bars = [Bar(name, speed.value, speed.low, speed.high) for name, speed in speeds.items()]
        title = f"{phone}: predicted decode speed, 90 % intervals"
        drawn = _plot_bars(bars, f"phone-{phone}", title, "decode, tokens/s (predicted)")
        if drawn:
            found.append(drawn)
    return found


def predictions(run: FinishedRun) -> dict[str, dict[str, Estimate]]:
    """Phone → artifact → predicted decode speed, tokens/s; without those that cannot be predicted."""
    predicted: dict[str, dict[str, Estimate]] = {}
    for row in run.latency:
        for device in PHONES:
            with contextlib.suppress(EmpathyEdgeError):
                speed = predict(str(run.folder.artifact(row.artifact)), device).decode_tps
                if speed is not None:
                    predicted.setdefault(device, {})[row.artifact] = speed
    return predicted


def plot_training(run: FinishedRun) -> list[Picture]:
    """Training curves: each step's loss; DPO's rewards, and the length of its responses."""
    found = []
    for step in run.trained:
        rows: list[Row] = list(read_jsonl(run.folder.stage(step) / "curves.jsonl"))
        training = [row for row in rows if "loss" in row]
        losses = {"training": _line(training, "loss"), "held-out": _line(rows, "eval_loss")}
        found.append(_plot_lines(losses, f"{step}-loss", f"{step.upper()}: loss"))
        if step == "dpo":
            rewards = {
                "accuracy": _line(training, "rewards/accuracies"),
                "margin": _line(training, "rewards/margins"),
            }
            found.append(_plot_lines(rewards, "dpo-rewards", "DPO: rewards"))
        words = {"median words": _line(rows, "probe_median_words")}
        if any(steps for steps, _ in words.values()):
            found.append(_plot_lines(words, f"{step}-words", f"{step.upper()}: median words of a response"))
    return found


def _line(rows: Sequence[Row], key: str) -> Line:
    known = [row for row in rows if key in row]
    return [int(row["step"]) for row in known], [float(row[key]) for row in known]


def _plot_lines(lines: Mapping[str, Line], name: str, title: str) -> Picture:
    """At most two lines by name, by training step; one without points is left out."""
    known = {label: line for label, line in lines.items() if line[0]}
    with drawing(3.6, 2.6) as (figure, axis):
        looks = ((FIRST, "-"), (SECOND, "--"))
        for (label, (steps, values)), (color, style) in zip(known.items(), looks, strict=False):
            (drawn,) = axis.plot(steps, values, style, color=color, label=label, linewidth=1.4)
            drawn.set(marker="o" if len(steps) < FEW_POINTS else "", markersize=4)
        axis.set(xlabel="step", ylim=(min(0, axis.get_ylim()[0]), None))
        axis.grid(axis="y", color=FAINT, alpha=0.4, linewidth=0.6)
        if len(known) > 1:
            axis.legend()
        words = []
        for label, (_, values) in known.items():
            words.append(f"{label}: {values[0]:.3g} first, {values[-1]:.3g} last")
        return picture(figure, name, title, "; ".join(words) + ".")
