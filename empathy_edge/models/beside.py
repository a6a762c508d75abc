"""What stands beside a model that was named: other models in its folder, and the run that makes it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.system.files import MANIFEST, read_json_object

MODEL_FILES = (".gguf", ".litertlm")
"""How the name of a file ends that is a model by itself."""

MOST_NAMES = 12
"""So many models beside another are named; of more the number is given."""

DEMO = "quickstart"
"""The run that `make demo` makes, in runs/quickstart."""


ROWS = ("sft.jsonl", "preference.jsonl")
"""The files of a folder that `distill` makes."""


def models_beside(model: Path) -> dict[str, Path]:
    """The other models in a model's folder: name → path, in the order of their names.

    Args:
        model: a folder or a file, which need not be there. Beside a file of an artifact stand the models
            that are beside the artifact's folder.
    """
    if model.is_file() and _is_artifact(model.parent):
        model = model.parent
    model = model.absolute()
    return {name: path for name, path in _models_in(model.parent).items() if path != model}


def _models_in(folder: Path) -> dict[str, Path]:
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return {}
    return {path.name: path for path in found if is_model(path)}


def what_is_in(folder: Path) -> str:
    """What a folder is that is no model, and what to give instead; the text follows the path and a colon."""
    for place in (folder, folder / "export"):
        if models := _models_in(place):
            where = "it" if place == folder else str(place)
            first = shlex.quote(str(next(iter(models.values()))))
            return (
                f"is no model itself. In {where} there are: {named(models)}. Give one of them.\n"
                f"  To talk to one: empathy-edge chat {first}"
            )
    if any((folder / name).is_file() for name in ROWS):
        train = shlex.join(["empathy-edge", "finetune", str(folder), "--out", "tuned"])
        return f"is a folder of training rows, as `distill` makes it, and no model.\n  Train one: {train}"
    return "no config.json in it; it is no checkpoint folder."


def full_model_beside(artifact: Path) -> Path | None:
    """The full-precision model that an export left beside its artifact; None where there is none."""
    folder = artifact.parent if artifact.is_file() and _is_artifact(artifact.parent) else artifact
    merged = folder.parent / "merged"
    return merged if is_model(merged) and merged != folder else None


def is_model(path: Path) -> bool:
    """Whether there is a model: an artifact's folder, a checkpoint, or a file of weights."""
    if path.is_file():
        return path.suffix in MODEL_FILES
    return _is_artifact(path) or (path / "config.json").is_file()


def _is_artifact(folder: Path) -> bool:
    try:
        return "artifact" in read_json_object(folder / MANIFEST)
    except (EmpathyEdgeError, OSError, ValueError):
        return False


def named(models: Iterable[str]) -> str:
    """The names of models in a sentence; of many the first and the number of the others."""
    names = list(models)
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def why_missing(path: Path) -> str:
    """Why a model is not at a path inside a run's folder, and what to do; empty where that is not known.

    The text follows the path and a colon: the run has not come to its artifacts, or it was not begun.
    """
    parts = path.parts
    if "export" not in parts[1:]:
        return ""
    run = Path(*parts[: len(parts) - 1 - parts[::-1].index("export")])
    record = run / "run.json"
    if not run.exists() and run.name == DEMO:
        return f"is not made yet: there is no run in {run}.\n  Make it: {_command(run, DEMO)}"
    if not record.is_file() or (run / "export" / "verify" / MANIFEST).is_file():
        return ""
    try:
        recipe = str(read_json_object(record)["recipe"]["name"])
    except (EmpathyEdgeError, OSError, ValueError, KeyError, TypeError):
        return ""
    return (
        f"is not made yet: the run in {run} has not finished its artifacts.\n"
        f"  If it does not run now, go on: {_command(run, recipe)}\n"
        "  (with the same --data, if it was begun with one)."
    )


def _command(run: Path, recipe: str) -> str:
    """What makes a run, or goes on with it."""
    command = shlex.join(["empathy-edge", "run", recipe, "--out", str(run)])
    return f"make demo, or {command}" if run.parts[-2:] == ("runs", DEMO) and recipe == DEMO else command
