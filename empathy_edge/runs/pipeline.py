"""The stages in order. A stage is named by its dotted name and loaded when its turn comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from empathy_edge.console import duration, say, show_time_left_of_run
from empathy_edge.data import sample_dialogues
from empathy_edge.errors import EmpathyEdgeError, VerdictFailed
from empathy_edge.models.find import ModelRef, checkpoint_of
from empathy_edge.runs.clock import RunClock, expected_seconds
from empathy_edge.runs.recipe import ExportSettings, Recipe
from empathy_edge.runs.stage import locked
from empathy_edge.system.files import MANIFEST, read_json, write_json
from empathy_edge.system.machine import require_space
from empathy_edge.system.memory import PeakMemory, release_freed_memory

STAGES = ("distill", "sft", "dpo", "export", "bench", "winrate", "gate", "report")

FOLDERS = {name: name for name in STAGES} | {
    "sft": "finetune/sft",
    "dpo": "finetune/dpo",
    "export": "export/verify",
}
"""Stage → the folder whose manifest is written when all of it is done."""

RUN = "run.json"

DISK_MB = 2600
"""What a whole run of a 135M model takes, checkpoints included."""


def run_recipe(
    recipe: Recipe, out: Path, *, data: Path | None = None, until: str | None = None, update: bool = False
) -> None:
    """Run every stage of `recipe` into `out`; stages that are done are skipped, a cut-off one is resumed.

    Args:
        recipe: the checked settings.
        out: the run's folder.
        data: dialogues to use instead of the recipe's.
        until: the last stage to run.
        update: make stages again whose settings or inputs changed.

    Raises:
        EmpathyEdgeError: `out` belongs to another recipe, or holds something else.
        VerdictFailed: the gate's verdict on an artifact is FAIL; everything is written nevertheless.
    """
    data = data or (sample_dialogues() if recipe.data == "sample" else Path(recipe.data))
    if not data.is_file():
        raise EmpathyEdgeError(f"{data}: no such file. Give the recipe's dialogues with --data FILE.")
    _claim(out, recipe)
    with locked(out):
        require_space(out, 0 if (out / "report").exists() else DISK_MB, "a run")
        steps = _steps(recipe, data, out, update)
        last = STAGES.index(until) if until else len(STAGES) - 1
        try:
            _run_stages(STAGES[: last + 1], steps, recipe, out)
        finally:
            show_time_left_of_run(None)
    if until is None:
        stages = read_json(out / RUN)["stages"].values()
        seconds = sum(item["seconds"] for item in stages)
        peak = max((item["peak_memory_mb"] for item in stages), default=0)
        say(
            f"All stages: {duration(seconds)} (since they were last begun), at most {peak / 1e3:.1f} GB of memory."
        )
        say(f"Report: {out / 'report' / 'report.html'}")
    gate = out / "gate" / "gate.json"
    if last >= STAGES.index("gate"):
        failed = [arm for arm, item in read_json(gate).items() if item["verdict"] == "FAIL"]
        if failed:
            raise VerdictFailed(
                f"The gate says FAIL for {', '.join(failed)}; see the report for the reasons."
            )


def _run_stages(names: Sequence[str], steps: dict[str, Callable[[], str]], recipe: Recipe, out: Path) -> None:
    """Run the stages in order; from the second one on, say how long the whole run will still take."""
    clock = RunClock({name: 0.0 for name in names})
    run = read_json(out / RUN)
    for number, name in enumerate(names, 1):
        title = f"[bold]{number}/{len(STAGES)} {name}[/]"
        if name in ("sft", "dpo") and name not in recipe.steps:
            say(f"{title} [dim]left out by the recipe[/]")
            continue
        clock.begin(name)
        say(title if number == 1 else f"{title} [dim](whole run: about {duration(clock.left(None))} left)[/]")
        before = _made(out, name)
        with PeakMemory() as memory:
            results = steps[name]()
        release_freed_memory()
        skipped = before is not None and _made(out, name) == before
        spent = clock.end(skipped=skipped)
        say(
            f"  [dim]{name}: {results}{', ' if results else ''}{'done before' if skipped else duration(spent)}[/]"
        )
        if not skipped:
            run["stages"][name] = {"seconds": round(spent, 1), "peak_memory_mb": round(memory.peak_mb)}
            write_json(out / RUN, run)
        if number == 1:
            found = read_json(out / "distill" / MANIFEST)["results"]
            counts = (found["sft_rows"], found["preference_pairs"], found["test_dialogues"])
            expected = expected_seconds(recipe, *counts)
            clock = RunClock({later: expected[later] for later in names[1:]})
            show_time_left_of_run(clock.left)


def _made(out: Path, name: str) -> int | None:
    """When the stage's manifest was written (ns); None where there is none."""
    manifest = out / FOLDERS[name] / MANIFEST
    return manifest.stat().st_mtime_ns if manifest.is_file() else None


def artifact_folders(out: Path, recipe: Recipe) -> list[Path]:
    """The artifacts of a run, in the recipe's order."""
    return [out / "export" / name for name in recipe.export.artifacts]


def _claim(out: Path, recipe: Recipe) -> None:
    """A run's folder belongs to the recipe it was begun with."""
    if (out / RUN).is_file():
        begun = read_json(out / RUN)["recipe"]
        if begun["name"] != recipe.name:
            raise EmpathyEdgeError(
                f"{out}: is a run of the recipe '{begun['name']}', not of '{recipe.name}'. Choose another --out."
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EmpathyEdgeError(
            f"{out}: holds something that empathy-edge did not make. Choose another --out; it was not touched."
        )
    out.mkdir(parents=True, exist_ok=True)
    stages = read_json(out / RUN).get("stages", {}) if (out / RUN).is_file() else {}
    write_json(out / RUN, {"recipe": recipe.model_dump(mode="json"), "stages": stages})


def _steps(recipe: Recipe, data: Path, out: Path, update: bool) -> dict[str, Callable[[], str]]:
    """Each stage as a call that returns one line about what it did."""

    def call(dotted: str, **arguments: Any) -> dict[str, Any]:
        module, function = dotted.split(":")
        return getattr(import_module(module), function)(**arguments, update=update)["results"]

    @cache
    def base() -> ModelRef:
        """What is trained on: the recipe's base, or what is left of it after quantization."""
        if recipe.as_deployed is None:
            return checkpoint_of(recipe.base)
        call(
            "empathy_edge.export.artifacts:run",
            base=checkpoint_of(recipe.base),
            adapters=[],
            out=out / "base",
            settings=ExportSettings(artifacts=(recipe.as_deployed,)),
        )
        return checkpoint_of(str(out / "base" / recipe.as_deployed))

    def distill() -> str:
        done = call(
            "empathy_edge.distill.from_ratings:run", data=data, out=out / "distill", settings=recipe.distill
        )
        return (
            f"{done['sft_rows']} SFT rows, {done['preference_pairs']} preference pairs, "
            f"{done['test_dialogues']} test dialogues"
        )

    def sft() -> str:
        done = call(
            "empathy_edge.finetune.sft:run",
            rows=out / "distill" / "sft.jsonl",
            base=base(),
            out=out / "finetune" / "sft",
            settings=recipe.sft,
        )
        return f"{done['steps']} steps, loss {done['loss_first']} → {done['loss_last']}"

    def dpo() -> str:
        folders = {"distilled": out / "distill", "own": out / "finetune" / "own-pairs"}
        if "own" in recipe.dpo.pairs:
            call(
                "empathy_edge.distill.own_pairs:run",
                rows=out / "distill",
                base=base(),
                adapters=[out / "finetune" / "sft" / "adapter"] if "sft" in recipe.steps else [],
                out=folders["own"],
                settings=recipe.own_pairs,
            )
        done = call(
            "empathy_edge.finetune.dpo:run",
            pairs=[folders[name] / "preference.jsonl" for name in recipe.dpo.pairs],
            base=base(),
            sft=out / "finetune" / "sft" if "sft" in recipe.steps else None,
            out=out / "finetune" / "dpo",
            settings=recipe.dpo,
        )
        return f"{done['steps']} steps, reward accuracy {done['reward_accuracy_last']}"

    def export() -> str:
        call(
            "empathy_edge.export.artifacts:run",
            base=base(),
            adapters=[out / "finetune" / step / "adapter" for step in recipe.steps],
            out=out / "export",
            settings=recipe.export,
        )
        return f"{len(recipe.export.artifacts)} artifacts"

    def bench() -> str:
        call(
            "empathy_edge.bench.latency:run",
            artifacts=artifact_folders(out, recipe),
            out=out / "bench",
            settings=recipe.bench,
        )
        return ""

    def winrate() -> str:
        arms = {"base": base().path, "fine-tuned": out / "export" / "merged"}
        arms |= {folder.name: folder for folder in artifact_folders(out, recipe)}
        call(
            "empathy_edge.bench.gate.winrate:run",
            arms=arms,
            test=out / "distill" / "test.jsonl",
            pairs=out / "distill" / "preference.jsonl",
            control=out / "distill" / "control.jsonl",
            out=out / "winrate",
            settings=recipe.winrate,
            minimum_accuracy=recipe.gate.min_judge_accuracy,
        )
        return ""

    def gate() -> str:
        call(
            "empathy_edge.bench.gate.verdict:run",
            winrate=out / "winrate",
            verify=out / "export" / "verify",
            out=out / "gate",
            settings=recipe.gate,
        )
        return ""

    def report() -> str:
        call("empathy_edge.bench.report:run", run_folder=out, out=out / "report")
        return ""

    steps = (distill, sft, dpo, export, bench, winrate, gate, report)
    return dict(zip(STAGES, steps, strict=True))
