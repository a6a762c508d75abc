"""The report's plots, as SVG in data URIs: training curves, and what each artifact costs and keeps."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from empathy_edge.bench.phones.predict import Estimate, predict
from empathy_edge.bench.report_run import FinishedRun
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import read_jsonl

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PHONES = ("poco-myron", "poco-x7-klee", "galaxy-s23")
"""The phones with a fitted profile, for which speed is predicted."""

RED, BLUE, GREY = "#b4436c", "#2a7f9e", "#999"

FEW_POINTS = 20
"""A line of fewer points is drawn with dots."""

ABOVE, BELOW = (6, 8), (6, -14)
"""A label's place beside its dot, in points (1/72 inch); in turn, so that neighbours do not overlap."""

Line = tuple[list[int], list[float]]
"""Steps and values."""

Row = Mapping[str, float]
"""A line of curves.jsonl: the step, and what was measured at it."""


def plot_training(run: FinishedRun) -> str:
    """Training curves: each step's loss; DPO's rewards, and the length of its responses."""
    curves: dict[str, list[Row]] = {}
    for step in run.trained:
        curves[step] = list(read_jsonl(run.folder.stage(step) / "curves.jsonl"))
    probes = [row for row in curves.get("dpo", []) if "probe_median_words" in row]
    columns = len(curves) + ("dpo" in curves) + bool(probes)
    figure, axes = _figure(columns, (3.6 * columns, 2.8))
    panels = iter(axes)
    for step, rows in curves.items():
        training = [row for row in rows if "loss" in row]
        losses = {"training": _line(training, "loss"), "held-out": _line(rows, "eval_loss")}
        _draw_lines(next(panels), f"{step.upper()}: loss", losses)
        if step == "dpo":
            rewards = {
                "accuracy": _line(training, "rewards/accuracies"),
                "margin": _line(training, "rewards/margins"),
            }
            _draw_lines(next(panels), "DPO: rewards", rewards)
    if probes:
        words = {"": _line(probes, "probe_median_words")}
        _draw_lines(next(panels), "DPO: median words of a response", words)
    return _svg(figure)


def _line(rows: Sequence[Row], key: str) -> Line:
    known = [row for row in rows if key in row]
    return [int(row["step"]) for row in known], [float(row[key]) for row in known]


def _draw_lines(axis: Axes, title: str, lines: Mapping[str, Line]) -> None:
    """At most two lines by name; one without points gets no label."""
    for (name, (steps, values)), color in zip(lines.items(), (RED, BLUE), strict=False):
        style = "o-" if len(steps) < FEW_POINTS else "-"
        axis.plot(steps, values, style, color=color, label=name if steps else None, linewidth=1)
    axis.set(title=title, xlabel="step", ylim=(min(0, axis.get_ylim()[0]), None))
    if any(lines):
        axis.legend(frameon=False)


def plot_trade_offs(run: FinishedRun) -> str:
    """Bounds of the win rate, and mean KL, by decode speed; dot areas are file sizes."""
    figure, (rate_axis, kl_axis) = _figure(2, (9, 3.6))
    checked = {item.artifact: item for item in run.check.artifacts}
    for place, row in enumerate(run.latency):
        speed = row.decode_tps_median
        found, kl = checked[row.artifact], run.verified[row.artifact].mean_kl
        low, high = 100 * found.win_rate_low, 100 * found.win_rate_high
        rate_axis.plot([speed, speed], [low, high], color=GREY, linewidth=1)
        rate_axis.scatter(speed, low, s=row.size_mb, color=RED, zorder=3)
        kl_axis.scatter(speed, kl, s=row.size_mb, color=BLUE, zorder=3)
        _label(rate_axis, row.artifact, (speed, low), place, size=8)
        _label(kl_axis, row.artifact, (speed, kl), place, size=8)
    speed_label = "decode, tokens/s (measured-host)"
    rate_axis.axhline(100 * run.check.min_win_rate, color=GREY, linewidth=0.8, linestyle=":")
    rate_axis.set(xlabel=speed_label, ylabel="win rate, at least (line: up to), %", ylim=(-5, 105))
    kl_axis.set(xlabel=speed_label, ylabel="mean KL to the checkpoint, nats")
    rate_axis.margins(x=0.25)
    kl_axis.margins(x=0.25, y=0.2)
    return _svg(figure)


def plot_phones(run: FinishedRun) -> str:
    """Mean KL by the decode speed that is predicted for each phone, and by memory.

    Empty if nothing can be predicted.
    """
    predicted = _predictions(run)
    if not predicted:
        return ""
    columns = len(predicted) + 1
    figure, axes = _figure(columns, (3.4 * columns, 3.2))
    for axis, (device, speeds) in zip(axes, predicted.items(), strict=False):
        _draw_phone(axis, device, speeds, run)
    _draw_memory(axes[-1], run)
    return _svg(figure)


def _predictions(run: FinishedRun) -> dict[str, dict[str, Estimate]]:
    """Phone → artifact → predicted decode speed, tokens/s; without those that cannot be predicted."""
    predicted: dict[str, dict[str, Estimate]] = {}
    for row in run.latency:
        for device in PHONES:
            with contextlib.suppress(EmpathyEdgeError):
                speed = predict(str(run.folder.artifact(row.artifact)), device).decode_tps
                if speed is not None:
                    predicted.setdefault(device, {})[row.artifact] = speed
    return predicted


def _draw_phone(axis: Axes, device: str, speeds: Mapping[str, Estimate], run: FinishedRun) -> None:
    for place, (artifact, speed) in enumerate(speeds.items()):
        kl = run.verified[artifact].mean_kl
        error = [[speed.value - speed.low], [speed.high - speed.value]]
        axis.errorbar(speed.value, kl, xerr=error, fmt="o", color=BLUE, ecolor=GREY, linewidth=1)
        _label(axis, artifact, (speed.value, kl), place, size=7)
    axis.set(title=device, xlabel="decode, tokens/s (predicted)", ylabel="mean KL, nats")
    axis.margins(y=0.2)


def _draw_memory(axis: Axes, run: FinishedRun) -> None:
    for row in run.latency:
        memory = row.memory_mb.get("after_decode")
        if not memory:
            continue
        used_mb, kl = memory["anonymous"] + memory["file_backed"], run.verified[row.artifact].mean_kl
        axis.scatter(used_mb, kl, color=RED)
        axis.annotate(row.artifact, (used_mb, kl), xytext=(6, 6), textcoords="offset points", fontsize=7)
    axis.set(title="memory", xlabel="anonymous + file-backed, MB (host)", ylabel="mean KL, nats")
    axis.margins(x=0.3, y=0.2)


def _label(axis: Axes, text: str, point: tuple[float, float], place: int, size: int) -> None:
    """Write a name beside a point; `place` is the point's number."""
    offset = ABOVE if place % 2 == 0 else BELOW
    axis.annotate(text, point, xytext=offset, textcoords="offset points", fontsize=size)


def _figure(columns: int, inches: tuple[float, float]) -> tuple[Figure, Sequence[Axes]]:
    """A figure with some panels side by side."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9})
    figure, axes = pyplot.subplots(1, columns, figsize=inches, layout="constrained", squeeze=False)
    return figure, axes[0]


def _svg(figure: Figure) -> str:
    from matplotlib import pyplot

    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    pyplot.close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
