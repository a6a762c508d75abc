from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from empathy_edge.bench.kl_and_empathy.curve import FEWEST, Curve, Model, Point, fit, models_of
from empathy_edge.bench.kl_and_empathy.replies import draw
from empathy_edge.errors import EmpathyEdgeError

MIN_WIN_RATE = 0.45
MARKS = "oDs^"
SHOWN_FROM = 0.85
"""The picture begins at this share of the smallest KL."""


def table(models: Sequence[Model]) -> str:
    """A Markdown table, a row for each artifact, the nearest first."""
    lines = ["| model | artifact | mean KL, nats | top-1 | W [95 %] |", "|---|---|---|---|---|"]
    for model in models:
        for point in sorted(model.points, key=lambda point: point.mean_kl):
            won = point.win_rate
            lines.append(
                f"| {model.name} | {point.name} | {point.mean_kl:.4f} | {point.top_1:.1%} "
                f"| {won.mean:.1%} [{100 * won.low:.1f}, {100 * won.high:.1f}] |"
            )
    for model in models:
        one = model.points[0]
        lines.append(
            f"\n{model.name}: {len(one.points)} prompts, {one.tokens} tokens; replies to other prompts win "
            f"{model.misplaced.mean:.1%} [{100 * model.misplaced.low:.1f}, {100 * model.misplaced.high:.1f}]."
        )
    return "\n".join(lines)


def sentences(name: str, points: Sequence[Point]) -> str:
    """The curve through some artifacts, in words."""
    curve = fit(points)
    slope = curve.slope_interval
    bound = curve.meets(MIN_WIN_RATE)
    examples = ", ".join(
        f"{kl:g}: {found.mean:.1%} [{100 * found.low:.1f}, {100 * found.high:.1f}]"
        for kl in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
        for found in [curve.at(kl)]
    )
    return (
        f"{name}, {curve.artifacts} artifacts: W = 50 % - {100 * slope.mean:.1f} "
        f"[{100 * slope.low:.1f}, {100 * slope.high:.1f}] points x sqrt(mean KL in nats). "
        f"Standard deviation around it {100 * curve.deviation:.1f} points, of which sampling alone makes "
        f"{100 * curve.sampling:.1f}. Error of an artifact left out {100 * curve.left_out:.1f} points "
        f"({100 * curve.without:.1f} without KL). Predicted W: {examples}. The curve falls to "
        f"{MIN_WIN_RATE:.0%} at a mean KL of {bound.mean:.3f} [{bound.low:.3f}, {bound.high:.3f}]."
    )


def picture(file: Path, models: Sequence[Model], curve: Curve) -> None:
    """The artifacts with their intervals, the curve and its 95 % prediction interval."""
    import matplotlib
    from matplotlib.figure import Figure

    points = [point for model in models for point in model.points]
    lowest, highest = min(point.mean_kl for point in points), max(point.mean_kl for point in points)
    axis_of_kl = np.geomspace(SHOWN_FROM * lowest, highest / SHOWN_FROM, 200)
    predicted = [curve.at(float(kl)) for kl in axis_of_kl]
    with matplotlib.rc_context({"font.size": 10, "svg.hashsalt": "empathy-edge"}):
        figure = Figure(figsize=(7.2, 4.6), layout="constrained")
        axis = figure.add_subplot()
        axis.fill_between(
            axis_of_kl,
            [100 * found.low for found in predicted],
            [100 * found.high for found in predicted],
            color="0.9",
            label="95 % for another artifact",
        )
        axis.plot(axis_of_kl, [100 * found.mean for found in predicted], color="0.4", label="curve")
        for number, (model, mark) in enumerate(zip(models, MARKS, strict=False)):
            above = number % 2 == 0  # names of every other model stand below, where they are not in the way
            found = [(point.mean_kl, point.win_rate) for point in model.points]
            middles = [100 * won.mean for _, won in found]
            lows, highs = [100 * won.low for _, won in found], [100 * won.high for _, won in found]
            around = [np.subtract(middles, lows), np.subtract(highs, middles)]
            axis.errorbar(
                [kl for kl, _ in found], middles, yerr=around, fmt=mark, capsize=2, label=model.name
            )
            for point in model.points:
                axis.annotate(
                    f" {point.name.removeprefix('gguf-')} ",
                    (point.mean_kl, 100 * (point.win_rate.high if above else point.win_rate.low)),
                    rotation=60,
                    fontsize=8,
                    va="bottom" if above else "top",
                    ha="left" if above else "right",
                )
        axis.axhline(50, color="0.4", linewidth=0.8, linestyle=":")
        axis.axhline(100 * MIN_WIN_RATE, color="0.4", linewidth=0.8, linestyle="--")
        axis.set(xscale="log", xlabel="mean KL from the full-precision model, nats a token", ylabel="W, %")
        axis.legend(frameon=False, loc="lower left")
        figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m empathy_edge.bench.kl_and_empathy")
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw", help="have artifacts answer a baseline's prompts")
    drawing.add_argument("folder", type=Path)
    drawing.add_argument("artifacts", type=Path, nargs="+")
    drawing.add_argument("--reference", type=Path, required=True)
    drawing.add_argument("--baseline", type=Path, required=True)
    reading = commands.add_parser("read", help="write the sheet, and read it when it is filled in")
    reading.add_argument("folders", type=Path, nargs="+")
    reading.add_argument("--sheet", type=Path, required=True)
    reading.add_argument("--picture", type=Path)
    options = parser.parse_args()
    try:
        if options.command == "draw":
            draw(options.folder, options.reference, options.baseline, options.artifacts)
            return
        models = models_of(options.folders, options.sheet)
    except EmpathyEdgeError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    points = [point for model in models for point in model.points]
    print(table(models))
    for model in models:
        if len(model.points) < FEWEST:
            print(f"\n{model.name}: fewer than {FEWEST} artifacts, too few for a curve of its own.")
        else:
            print(f"\n{sentences(model.name, model.points)}")
    print(f"\n{sentences('All', points)}")
    if options.picture:
        picture(options.picture, models, fit(points))


if __name__ == "__main__":
    main()
