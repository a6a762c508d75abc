"""A recipe: every setting of a run, checked before anything expensive starts, all faults reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from empathy_edge.errors import EmpathyEdgeError, did_you_mean, did_you_mean_path
from empathy_edge.runs.settings import (
    BenchSettings,
    CheckStageSettings,
    DistillSettings,
    DpoSettings,
    ExportSettings,
    OwnPairSettings,
    ReleaseSettings,
    Settings,
    TrainSettings,
    parsed_name,
)


class Recipe(Settings):
    """Everything that decides what a run makes.

    `base` may be a checkpoint or a GGUF. `as_deployed` names a GGUF artifact: the base is quantized to it
    first, and trained on as it will ship. (A base that is a GGUF is always trained on as it is, dequantized
    exactly.) `template` is the base's chat template, as `--template` takes it; none: the base's own.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    base: str = "smollm2-135m"
    template: str | None = None
    as_deployed: str | None = None
    data: str = "sample"
    steps: tuple[Literal["sft", "dpo"], ...] = Field(default=("sft", "dpo"), min_length=1)
    distill: DistillSettings = DistillSettings()
    sft: TrainSettings = TrainSettings()
    own_pairs: OwnPairSettings = OwnPairSettings()
    dpo: DpoSettings = DpoSettings()
    export: ExportSettings = ExportSettings()
    bench: BenchSettings = BenchSettings()
    release: ReleaseSettings = ReleaseSettings()
    check: CheckStageSettings = CheckStageSettings()

    @field_validator("as_deployed")
    @classmethod
    def _a_gguf(cls, value: str | None) -> str | None:
        if (
            value is not None
            and (parsed := parsed_name(value))
            and (parsed.format != "gguf" or parsed.method == "lora")
        ):
            raise ValueError("the base can be quantized to a GGUF before it is trained on, as gguf-q4_0")
        return value

    @field_validator("steps")
    @classmethod
    def _in_order(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value not in (("sft", "dpo"), ("sft",), ("dpo",)):
            raise ValueError("the steps are [sft, dpo], or one of them alone for an ablation")
        return value


def recipe_names() -> list[str]:
    """The recipes that ship with the package."""
    files = resources.files("empathy_edge.runs.recipes").iterdir()
    return sorted(item.name.removesuffix(".yaml") for item in files if item.name.endswith(".yaml"))


def load_recipe(name_or_path: str) -> Recipe:
    """Load a shipped recipe by name, or a YAML file by path.

    Raises:
        EmpathyEdgeError: it is not there, or has faults; all of them are listed.
    """
    if name_or_path in recipe_names():
        text = (resources.files("empathy_edge.runs.recipes") / f"{name_or_path}.yaml").read_text(
            encoding="utf-8"
        )
    else:
        path = Path(name_or_path)
        if not path.is_file():
            near = did_you_mean(name_or_path, recipe_names()) or did_you_mean_path(path)
            raise EmpathyEdgeError(
                f"{name_or_path}: no such recipe.{near} "
                f"Give a YAML file, or one of: {', '.join(recipe_names())}."
            )
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise EmpathyEdgeError(f"{path}: not UTF-8 (byte {error.start}).") from None
    try:
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise EmpathyEdgeError(f"{name_or_path}: not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise EmpathyEdgeError(f"{name_or_path}: a recipe is a mapping of settings; this is not one.")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise EmpathyEdgeError(f"{name_or_path}: {describe_faults(error, 'recipe')}") from None


def describe_faults(error: ValidationError, where: str, names: Mapping[str, str] | None = None) -> str:
    """All faults of settings, a line each.

    Args:
        error: what pydantic found.
        where: what holds the settings.
        names: field → what it is called there, as --to, if it is not the field's own name.
    """
    faults = [f"  {_field(fault['loc'], names or {})}: {_message(fault)}" for fault in error.errors()]
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return f"{count} in the {where}:\n" + "\n".join(faults)


def _field(location: tuple[int | str, ...], names: Mapping[str, str]) -> str:
    parts = [str(part) for part in location]
    return ".".join([names.get(parts[0], parts[0]), *parts[1:]]) if parts else "recipe"


def _message(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "no such setting"
    if fault["type"] == "missing":
        return "is missing"
    text = fault["msg"].removeprefix("Value error, ")
    found = _shown(fault["input"])
    is_named = not found or f" {found}" in f" {text}"
    return f"{text[0].lower()}{text[1:]}{'' if is_named else f' (found {found})'}"


def _shown(value: object) -> str:
    """A value that was given, as people write it; empty for what is too large to show."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(_shown(item) for item in value) or "nothing"
    return str(value) if isinstance(value, str | int | float | Path) else ""
