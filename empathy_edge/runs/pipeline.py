"""A whole run: every stage of a recipe, in order."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from empathy_edge.console import duration, next_step, say, show_time_left_of_run
from empathy_edge.errors import EmpathyEdgeError, VerdictFailed, no_such_file
from empathy_edge.models.find import ModelRef, checkpoint_of
from empathy_edge.models.templates import checkpoint_with_template
from empathy_edge.runs.clock import RunClock, expected_seconds
from empathy_edge.runs.given_data import data_file
from empathy_edge.runs.recipe import Recipe
from empathy_edge.runs.run_folder import RunFolder
from empathy_edge.runs.settings import ExportSettings
from empathy_edge.runs.stage import LOCK, locked, results_of
from empathy_edge.system.files import MANIFEST, read_json, write_json
from empathy_edge.system.machine import require_space
from empathy_edge.system.memory import PeakMemory, release_freed_memory

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
        VerdictFailed: an artifact, or the model itself, FAILs; everything is written nevertheless.
    """
    data = data_file(data or Path(recipe.data))
    if not data.is_file():
        raise no_such_file(data, "Give the recipe's dialogues with --data FILE.")
    folder = RunFolder(out)
    _require_ours(folder, recipe)
    last = STAGES.index(until) if until else len(STAGES) - 1
    with locked(out):
        require_space(out, 0 if folder.report.exists() else DISK_MB, "a run")
        if not folder.record.is_file():
            write_json(folder.record, {"recipe": recipe.model_dump(mode="json"), "stages": {}})
        try:
            _run_stages(STAGES[: last + 1], _Job(recipe, data, folder, update))
        finally:
            show_time_left_of_run(None)
    if until is None:
        _say_the_end(folder)
    failed = _failed(folder, STAGES[: last + 1])
    if failed:
        change = "change the data or the recipe, and run it again with --update"
        where = "above" if until else "in the report"
        raise VerdictFailed(
            f"FAIL: {', '.join(failed)}; the reasons are {where}.",
            change if until else command_to_chat(folder),
            is_error=False,
        )
    if until is None:
        next_step(command_to_chat(folder))


def _failed(folder: RunFolder, stages: Sequence[str]) -> list[str]:
    """What the stages `release` and `check`, if they are among these, say FAIL of."""
    found = []
    if "release" in stages and read_json(folder.release / "release.json")["verdict"] == "FAIL":
        found.append("the fine-tuned model")
    if "check" in stages:
        artifacts = read_json(folder.check / "check.json")["artifacts"]
        found += [item["artifact"] for item in artifacts if item["verdict"] == "FAIL"]
    return found


def _require_ours(folder: RunFolder, recipe: Recipe) -> None:
    """Refuse the folder of another recipe, or of something else."""
    out = folder.root
    if folder.record.is_file():
        record = read_json(folder.record)
        if record["recipe"]["name"] != recipe.name:
            raise EmpathyEdgeError(
                f"{out}: is a run of the recipe '{record['recipe']['name']}', not of '{recipe.name}'. "
                "Choose another --out."
            )
    elif out.exists() and (not out.is_dir() or any(item.name != LOCK for item in out.iterdir())):
        raise EmpathyEdgeError(
            f"{out}: holds something that empathy-edge did not make. "
            "Choose another --out; it was not touched."
        )


def _run_stages(names: tuple[str, ...], job: _Job) -> None:
    """Run the stages in order; from the second one on, say how long the whole run will still take."""
    clock = RunClock({name: 0.0 for name in names})
    for number, name in enumerate(names, 1):
        title = f"[bold]{number}/{len(STAGES)} {name}[/]"
        if name in ("sft", "dpo") and name not in job.recipe.steps:
            say(f"{title} [dim]left out by the recipe[/]")
            continue
        clock.begin(name)
        say(title if number == 1 else f"{title} [dim](whole run: about {duration(clock.left(None))} left)[/]")
        _run_stage(name, job, clock)
        if number == 1:
            clock = _clock_of_the_rest(names[1:], job)
    _record_recipe(job)


def _run_stage(name: str, job: _Job, clock: RunClock) -> None:
    """Run one stage, say what it did, and record its seconds and peak memory."""
    before = _written_at(job.folder, name)
    with PeakMemory() as memory:
        result = _STAGES[name](job)
    release_freed_memory()
    skipped = before is not None and _written_at(job.folder, name) == before
    seconds = clock.end(skipped=skipped)
    words = [result] if result else []
    words.append("done before" if skipped else duration(seconds))
    say(f"  [dim]{name}: {', '.join(words)}[/]")
    if not skipped:
        _record_recipe(job)
        record = read_json(job.folder.record)
        record["stages"][name] = {"seconds": round(seconds, 1), "peak_memory_mb": round(memory.peak_mb)}
        write_json(job.folder.record, record)


def _record_recipe(job: _Job) -> None:
    """Keep the recipe, now that its settings made something; a run that is refused leaves the former one."""
    record = read_json(job.folder.record)
    write_json(job.folder.record, record | {"recipe": job.recipe.model_dump(mode="json")})


def _clock_of_the_rest(names: tuple[str, ...], job: _Job) -> RunClock:
    """A clock for the later stages, which take the longer, the more rows there are."""
    from empathy_edge.distill.distill_results import DistillResults

    found = results_of(job.folder.distill, DistillResults)
    expected = expected_seconds(job.recipe, found.sft_rows, found.preference_pairs, found.test_dialogues)
    clock = RunClock({name: expected[name] for name in names})
    show_time_left_of_run(clock.left)
    return clock


def _say_the_end(folder: RunFolder) -> None:
    stages = read_json(folder.record)["stages"].values()
    seconds = sum(item["seconds"] for item in stages)
    peak_gb = max((item["peak_memory_mb"] for item in stages), default=0) / 1e3
    say(f"All stages: {duration(seconds)} (since they were last begun), at most {peak_gb:.1f} GB of memory.")
    say(f"Report: {folder.report / 'report.html'}")


def command_to_chat(folder: RunFolder) -> str:
    """The command that talks to the smallest artifact that passed, else the one that surely keeps most."""
    checked = read_json(folder.check / "check.json")["artifacts"]
    passed = [item["artifact"] for item in checked if item["verdict"] == "PASS"]
    if passed:
        shown = min(passed, key=lambda name: _size(folder.artifact(name)))
    else:
        shown = max(checked, key=lambda item: float(item["win_rate_low"]))["artifact"]
    return shlex.join(["empathy-edge", "chat", str(folder.artifact(shown))])


def _size(artifact: Path) -> int:
    return sum(file.stat().st_size for file in artifact.rglob("*") if file.is_file())


def summary(out: Path) -> dict[str, object]:
    """What a run found so far, for a program: its stages' seconds and memory, and its verdicts."""
    folder = RunFolder(out)
    found: dict[str, object] = {"folder": str(out), "stages": read_json(folder.record)["stages"]}
    if (folder.release / "release.json").is_file():
        found["release"] = read_json(folder.release / "release.json")["verdict"]
    if (folder.check / "check.json").is_file():
        artifacts = read_json(folder.check / "check.json")["artifacts"]
        found["check"] = {item["artifact"]: item["verdict"] for item in artifacts}
    if (folder.report / "report.html").is_file():
        found["report"] = str(folder.report / "report.html")
    return found


def _written_at(folder: RunFolder, name: str) -> int | None:
    """When the stage's manifest was written (ns); None where there is none."""
    manifest = folder.stage(name) / MANIFEST
    return manifest.stat().st_mtime_ns if manifest.is_file() else None


@dataclass(frozen=True)
class _Job:
    """What every stage is given."""

    recipe: Recipe
    data: Path
    folder: RunFolder
    update: bool

    @cached_property
    def base(self) -> ModelRef:
        """What is trained on: the recipe's base, or what is left of it after quantization."""
        base = checkpoint_with_template(self.recipe.base, self.recipe.template)
        if self.recipe.as_deployed is None:
            return base
        from empathy_edge.export.artifacts import run

        out = self.folder.quantized_base
        settings = ExportSettings(artifacts=(self.recipe.as_deployed,))
        run(base=base, adapters=[], out=out, settings=settings, update=self.update)
        return checkpoint_of(str(out / self.recipe.as_deployed))

    @property
    def artifacts(self) -> list[Path]:
        """The folders of the artifacts, in the recipe's order."""
        return [self.folder.artifact(name) for name in self.recipe.export.artifacts]


def _distill(job: _Job) -> str:
    from empathy_edge.distill.from_ratings import run

    found = run(data=job.data, out=job.folder.distill, settings=job.recipe.distill, update=job.update)
    for step, rows, kind in (("sft", found.sft_rows, "SFT rows"), ("dpo", found.preference_pairs, "pairs")):
        if step in job.recipe.steps and not rows:
            raise EmpathyEdgeError(
                f"{job.data}: gives no {kind}; leave {step} out with `steps` in the recipe."
            )
    return (
        f"{found.sft_rows} SFT rows, {found.preference_pairs} preference pairs, "
        f"{found.test_dialogues} test dialogues"
    )


def _sft(job: _Job) -> str:
    from empathy_edge.finetune.sft import run

    found = run(
        rows=job.folder.distill / "sft.jsonl",
        base=job.base,
        out=job.folder.sft,
        settings=job.recipe.sft,
        update=job.update,
    )
    return f"{found.steps} steps, loss {found.loss_first} → {found.loss_last}"


def _dpo(job: _Job) -> str:
    from empathy_edge.finetune.dpo import run

    after_sft = "sft" in job.recipe.steps
    folders = {"distilled": job.folder.distill, "own": job.folder.own_pairs}
    if "own" in job.recipe.dpo.pairs:
        from empathy_edge.distill.own_pairs import run as make_own_pairs

        make_own_pairs(
            rows=job.folder.distill,
            base=job.base,
            adapters=[job.folder.sft / "adapter"] if after_sft else [],
            out=job.folder.own_pairs,
            settings=job.recipe.own_pairs,
            update=job.update,
        )
    found = run(
        pairs=[folders[name] / "preference.jsonl" for name in job.recipe.dpo.pairs],
        base=job.base,
        sft=job.folder.sft if after_sft else None,
        out=job.folder.dpo,
        settings=job.recipe.dpo,
        update=job.update,
    )
    return f"{found.steps} steps, reward accuracy {found.reward_accuracy_last}"


def _export(job: _Job) -> str:
    from empathy_edge.export.artifacts import run

    run(
        base=job.base,
        adapters=[job.folder.stage(step) / "adapter" for step in job.recipe.steps],
        out=job.folder.export,
        settings=job.recipe.export,
        update=job.update,
    )
    return f"{len(job.recipe.export.artifacts)} artifacts"


def _bench(job: _Job) -> str:
    from empathy_edge.bench.latency import run

    run(artifacts=job.artifacts, out=job.folder.bench, settings=job.recipe.bench, update=job.update)
    return ""


def _release(job: _Job) -> str:
    from empathy_edge.bench.release.stage import ReleaseInputs, run

    found = run(
        inputs=ReleaseInputs.of_rows(
            job.folder.distill,
            base=job.base.path,
            tuned=job.folder.merged,
            known=job.recipe.distill.reference,
        ),
        out=job.folder.release,
        settings=job.recipe.release,
        update=job.update,
    )
    return found.verdict


def _check(job: _Job) -> str:
    from empathy_edge.bench.check.stage import run
    from empathy_edge.export.artifacts import reference_gguf
    from empathy_edge.export.gguf.quantize import write_q2_k

    def as_gguf(reference: ModelRef) -> Path | None:
        made = job.folder.artifact("gguf-f16")
        return made if "gguf-f16" in job.recipe.export.artifacts else reference_gguf(reference)

    found = run(
        reference=job.folder.merged,
        artifacts=job.artifacts,
        out=job.folder.check,
        settings=job.recipe.check,
        as_gguf=as_gguf,
        write_q2_k=write_q2_k,
        update=job.update,
    )
    verdicts = [item.verdict for item in found.artifacts]
    return ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))


def _report(job: _Job) -> str:
    from empathy_edge.bench.report.page import run

    run(run_folder=job.folder.root, out=job.folder.report, update=job.update)
    return ""


_STAGES: dict[str, Callable[[_Job], str]] = {
    "distill": _distill,
    "sft": _sft,
    "dpo": _dpo,
    "export": _export,
    "bench": _bench,
    "release": _release,
    "check": _check,
    "report": _report,
}
"""Each runs a stage and says in a few words what it did. What it needs is imported when its turn comes."""

STAGES = tuple(_STAGES)
