"""Predictions, and their errors, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape

from empathy_edge.bench.phones.predict import Estimate, Prediction
from empathy_edge.bench.phones.validate import ErrorSummary
from empathy_edge.console import out as stdout
from empathy_edge.console import say, table


def show(results: Sequence[Prediction]) -> None:
    """Predictions as a table, and below it the measurements that each is based on."""
    first = results[0]
    title = (
        f"{first.artifact}, predicted ({first.claimed:.0%} intervals; prompt {first.prompt_tokens}, depth "
        f"{first.depth}, context {first.memory.context})"
    )
    columns = ["device", "decode tok/s", "prefill tok/s", "first token s", "needs MB", "limit MB", "fits"]
    stdout.print(table(title, columns, [_cells(item) for item in results]))
    devices: dict[str, list[str]] = {}
    for item in results:
        for phase, measurements in item.rests_on.items():
            devices.setdefault(measurements, []).append(f"{item.device} ({phase})")
    say("[dim]Based on:[/]")
    for measurements, names in devices.items():
        say(f"[dim]- {', '.join(names)}: {escape(measurements)}.[/]")


def _cells(item: Prediction) -> list[str]:
    memory = item.memory
    return [
        item.device,
        _estimate_cell(item.decode_tps),
        _estimate_cell(item.prefill_tps),
        _estimate_cell(item.ttft_s),
        f"{memory.need_mb}",
        "unknown" if memory.limit_mb is None else f"{memory.limit_mb}",
        {None: "unknown", True: "yes", False: "NO"}[memory.fits],
    ]


def _estimate_cell(estimate: Estimate | None) -> str:
    return f"{estimate.value:g} [{estimate.low:g}, {estimate.high:g}]" if estimate else "unknown"


def show_errors(found: Mapping[str, ErrorSummary]) -> None:
    """The errors of predictions as a table, and with profiles those of each model."""
    columns = ["what is predicted", "n", "refused", "mean |error|", "median", "90th percentile"]
    rows = [_error_cells(name, item) for name, item in found.items()]
    result = table("Errors of predicted tokens/s, models left out", [*columns, "90 % intervals cover"], rows)
    result.columns[0].justify = "left"
    stdout.print(result)
    for name, item in found.items():
        if name.endswith("profile"):
            models = [f"{model} {100 * error:+.0f} %" for model, error in item.mean_error_by_model.items()]
            say(f"[dim]{name}, mean error by model: {', '.join(models)}[/]")


def _error_cells(name: str, item: ErrorSummary) -> list[str]:
    return [
        name,
        str(item.n),
        str(item.refused),
        f"{100 * item.mean_absolute_error:.1f} %",
        f"{100 * item.median_absolute_error:.1f} %",
        f"{100 * item.p90_absolute_error:.1f} %",
        "–" if item.covered is None else f"{100 * item.covered:.0f} %",
    ]
