"""One self-contained HTML page, and its figures as Markdown: what was run, the figures with their intervals, plots, responses side by side."""

from __future__ import annotations

import base64
import contextlib
import io
from pathlib import Path
from typing import Any

from empathy_edge.bench.gate.winrate import BASE, FULL, KNOWN_BAD, describe_judge
from empathy_edge.bench.phones.predict import predict
from empathy_edge.bench.report_markdown import markdown
from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.dialogue import read_dialogues, read_jsonl
from empathy_edge.runs.stage import open_stage
from empathy_edge.system.files import read_json, write_atomically

SAMPLES = 8
"""How many test prompts are shown with every arm's response, spread evenly over the split."""

PHONES = ("poco-myron", "poco-x7-klee", "galaxy-s23")
"""The phones with a fitted profile: what is predicted for them is drawn."""

PARTS = {
    "distill": "distill",
    "sft": "finetune/sft",
    "own-pairs": "finetune/own-pairs",
    "dpo": "finetune/dpo",
    "merged": "export/merged",
    "verify": "export/verify",
    "bench": "bench",
    "winrate": "winrate",
    "gate": "gate",
}
"""Stage → its folder in a run."""


def run(*, run_folder: Path, out: Path, update: bool = False) -> dict[str, Any]:
    """Write `report.html` and `report.md` from the manifests and records of a run's folder."""
    require_extra("matplotlib", "report", "The report")
    parts = _parts(run_folder)
    missing = [folder for folder in parts.values() if not (run_folder / folder / "manifest.json").is_file()]
    if missing:
        raise EmpathyEdgeError(f"{run_folder}: not a finished run: {', '.join(missing)} is missing.")
    stage = open_stage(
        out,
        "report",
        settings={"samples": SAMPLES},
        inputs={name: run_folder / folder for name, folder in parts.items()},
        update=update,
    )
    if not stage.done:
        manifests = {name: read_json(run_folder / part / "manifest.json") for name, part in parts.items()}
        arms = [arm for arm in manifests["winrate"]["results"]["format"] if arm != KNOWN_BAD]
        samples = _samples(run_folder, arms)
        write_atomically(out / "report.html", _page(run_folder, manifests, samples))
        begun = read_json(run_folder / "run.json")
        recipe = begun["recipe"]
        command = f"empathy-edge run {recipe['name']}"
        if recipe["data"] != "sample":
            command += f" --data {manifests['distill']['inputs']['data']['path']}"
        write_atomically(out / "report.md", markdown(begun, manifests, samples, command))
        stage.finish()
    say(f"  {out / 'report.html'}")
    return stage.manifest


def _parts(folder: Path) -> dict[str, str]:
    """The stages of this run: a recipe can leave out SFT or DPO, and need no pairs of the student's own."""
    recipe = read_json(folder / "run.json")["recipe"]
    left_out = {"sft", "dpo"} - set(recipe["steps"])
    if "own" not in recipe["dpo"]["pairs"] or "dpo" in left_out:
        left_out.add("own-pairs")
    return {name: part for name, part in PARTS.items() if name not in left_out}


def _figures(results: dict[str, Any]) -> dict[str, Any]:
    """A stage's results as they are shown: what filters caught by its count, without the examples."""
    return {
        key: {name: item["count"] for name, item in value.items()} if key == "caught" else value
        for key, value in results.items()
    }


def _page(folder: Path, manifests: dict[str, Any], samples: list[dict[str, Any]]) -> str:
    import jinja2

    winrate = manifests["winrate"]["results"]
    verify = {row["artifact"]: row for row in manifests["verify"]["results"]["artifacts"]}
    bench = manifests["bench"]["results"]["artifacts"]
    rates = {(row["first"], row["second"]): row for row in winrate["win_rates"]}
    template = (Path(__file__).parent / "report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figures"] = _figures
    environment.filters["percent"] = lambda value: f"{100 * value:.1f} %"
    return environment.from_string(template).render(
        recipe=read_json(folder / "run.json")["recipe"],
        manifests=manifests,
        total_seconds=sum(item["seconds"] for item in manifests.values()),
        judge=describe_judge(winrate["judge"]),
        winrate=winrate,
        rates=rates,
        verify=verify,
        bench=bench,
        gate=manifests["gate"]["results"]["verdicts"],
        samples=samples,
        curves=_curves(folder, [step for step in ("sft", "dpo") if step in manifests]),
        trade_offs=_trade_offs(bench, rates, verify),
        phones=_on_phones(folder, bench, verify),
        BASE=BASE,
        FULL=FULL,
        machine=manifests["bench"]["machine"],
        versions=manifests["bench"]["versions"],
    )


def _samples(folder: Path, arms: list[str]) -> list[dict[str, Any]]:
    dialogues = read_dialogues(folder / "distill" / "test.jsonl")
    responses = {
        arm: {row["id"]: row for row in read_jsonl(folder / "winrate" / "responses" / f"{arm}.jsonl")}
        for arm in arms
    }
    known = [dialogue for dialogue in dialogues if dialogue.id in responses[arms[0]]]
    step = max(1, len(known) // SAMPLES)
    return [
        {"dialogue": dialogue, "responses": {arm: responses[arm][dialogue.id] for arm in arms}}
        for dialogue in known[::step][:SAMPLES]
    ]


def _curves(folder: Path, trained: list[str]) -> str:
    """Training curves by step: each step's loss; DPO's reward accuracy and margin, and the length of its responses."""
    curves = {step: read_jsonl(folder / "finetune" / step / "curves.jsonl") for step in trained}
    probes = [row for row in curves.get("dpo", []) if "probe_median_words" in row]
    columns = len(trained) + ("dpo" in curves) + bool(probes)
    figure, axes = _figure(1, columns, (3.6 * columns, 2.8))
    panels = iter(axes)
    for step, every in curves.items():
        rows = [row for row in every if "loss" in row]
        _draw(
            next(panels),
            f"{step.upper()}: loss",
            {"training": _line(rows, "loss"), "held-out": _line(every, "eval_loss")},
        )
        if step == "dpo":
            rewards = {
                name: _line(rows, f"rewards/{key}")
                for name, key in (("accuracy", "accuracies"), ("margin", "margins"))
            }
            _draw(next(panels), "DPO: rewards", rewards)
    if probes:
        _draw(next(panels), "DPO: median words of a response", {"": _line(probes, "probe_median_words")})
    return _svg(figure)


def _line(rows: list[dict[str, Any]], key: str) -> tuple[list[int], list[float]]:
    known = [row for row in rows if key in row]
    return [row["step"] for row in known], [float(row[key]) for row in known]


def _draw(axis: Any, title: str, lines: dict[str, tuple[list[int], list[float]]]) -> None:
    for (name, (steps, values)), color in zip(lines.items(), ("#b4436c", "#2a7f9e"), strict=False):
        few = len(steps) < 20
        axis.plot(
            steps, values, "o-" if few else "-", color=color, label=name if steps else None, linewidth=1
        )
    axis.set(title=title, xlabel="step", ylim=(min(0, axis.get_ylim()[0]), None))
    if any(lines):
        axis.legend(frameon=False)


def _trade_offs(bench: list[dict[str, Any]], rates: dict[Any, Any], verify: dict[str, Any]) -> str:
    """Win rate against the fine-tuned model, and mean KL, against decode speed; the dot's area is the file's size."""
    figure, axes = _figure(1, 2, (9, 3.6))
    for row in bench:
        name, speed = row["artifact"], row["decode_tps_median"]
        rate = rates[(name, FULL)]["win_rate"]
        error = [[100 * (rate["mean"] - rate["low"])], [100 * (rate["high"] - rate["mean"])]]
        axes[0].errorbar(speed, 100 * rate["mean"], yerr=error, fmt="none", ecolor="#999", linewidth=1)
        axes[0].scatter(speed, 100 * rate["mean"], s=row["size_mb"], color="#b4436c", zorder=3)
        axes[1].scatter(speed, verify[name]["mean_kl"], s=row["size_mb"], color="#2a7f9e", zorder=3)
        for axis, height in ((axes[0], 100 * rate["mean"]), (axes[1], verify[name]["mean_kl"])):
            # Above and below in turn, so that neighbours do not write over each other.
            shift = (6, 8) if bench.index(row) % 2 == 0 else (6, -14)
            axis.annotate(name, (speed, height), xytext=shift, textcoords="offset points", fontsize=8)
    axes[0].axhline(50, color="#999", linewidth=0.8, linestyle=":")
    axes[0].set(
        xlabel="decode, tokens/s (measured-host)", ylabel="win rate against fine-tuned, %", ylim=(0, 100)
    )
    axes[1].set(xlabel="decode, tokens/s (measured-host)", ylabel="mean KL to the checkpoint, nats")
    axes[0].margins(x=0.25)
    axes[1].margins(x=0.25, y=0.2)
    return _svg(figure)


def _on_phones(folder: Path, bench: list[dict[str, Any]], verify: dict[str, Any]) -> str:
    """Mean KL against the decode speed that is predicted for each phone with a profile, and against memory; empty if
    nothing can be predicted."""
    points: dict[str, list[tuple[str, float, dict[str, float]]]] = {}
    for row in bench:
        for device in PHONES:
            with contextlib.suppress(EmpathyEdgeError):
                guess = predict(str(folder / "export" / row["artifact"]), device)["decode_tps"]
                points.setdefault(device, []).append(
                    (row["artifact"], verify[row["artifact"]]["mean_kl"], guess)
                )
    if not points:
        return ""
    figure, axes = _figure(1, len(points) + 1, (3.4 * (len(points) + 1), 3.2))
    for axis, (device, rows) in zip(axes, points.items(), strict=False):
        for place, (name, kl, guess) in enumerate(rows):
            error = [[guess["value"] - guess["low"]], [guess["high"] - guess["value"]]]
            axis.errorbar(
                guess["value"], kl, xerr=error, fmt="o", color="#2a7f9e", ecolor="#999", linewidth=1
            )
            axis.annotate(
                name,
                (guess["value"], kl),
                xytext=(6, 8 if place % 2 == 0 else -14),
                textcoords="offset points",
                fontsize=7,
            )
        axis.set(title=device, xlabel="decode, tokens/s (predicted)", ylabel="mean KL, nats")
        axis.margins(y=0.2)
    for row in bench:
        memory = row["memory_mb"].get("after_decode")
        if memory:
            kl, used = verify[row["artifact"]]["mean_kl"], memory["anonymous"] + memory["file_backed"]
            axes[-1].scatter(used, kl, color="#b4436c")
            axes[-1].annotate(
                row["artifact"], (used, kl), xytext=(6, 6), textcoords="offset points", fontsize=7
            )
    axes[-1].set(title="memory", xlabel="anonymous + file-backed, MB (host)", ylabel="mean KL, nats")
    axes[-1].margins(x=0.3, y=0.2)
    return _svg(figure)


def _figure(rows: int, columns: int, size: tuple[float, float]) -> Any:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9})
    figure, axes = pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    return figure, axes[0]


def _svg(figure: Any) -> str:
    from matplotlib import pyplot

    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    pyplot.close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
