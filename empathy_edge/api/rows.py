"""`distill`: dialogues become SFT rows and preference pairs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from empathy_edge.api.calls import AnyPath, called, path_of, with_fields
from empathy_edge.api.shown import Shown, Table

if TYPE_CHECKING:
    from empathy_edge.distill.distill_results import DistillResults
    from empathy_edge.distill.teacher_settings import TeacherSettings
    from empathy_edge.runs.settings import DistillSettings

Method = Literal["rated", "direct", "improve-human", "improve-llm"]


@dataclass(frozen=True, repr=False)
class DistillResult(Shown):
    """The rows that `distill` made. It stands for its folder: `finetune` takes it as its first argument.

    Attributes:
        folder: with `sft.jsonl`, `preference.jsonl`, `test.jsonl` and `manifest.json`.
        found: every count, what the filters left out, and what a teacher cost (USD).
    """

    folder: Path
    found: DistillResults

    @property
    def sft_file(self) -> Path:
        """The SFT rows, JSON Lines in TRL's form: prompt and completion."""
        return self.folder / "sft.jsonl"

    @property
    def preference_file(self) -> Path:
        """The preference pairs, JSON Lines in TRL's form: prompt, chosen and rejected."""
        return self.folder / "preference.jsonl"

    @property
    def test_file(self) -> Path:
        """The dialogues of the test split, JSON Lines; nothing is trained on them."""
        return self.folder / "test.jsonl"

    @property
    def sft_rows(self) -> int:
        """How many SFT rows there are."""
        return self.found.sft_rows

    @property
    def preference_pairs(self) -> int:
        """How many preference pairs there are."""
        return self.found.preference_pairs

    @property
    def test_dialogues(self) -> int:
        """How many dialogues the test split has."""
        return self.found.test_dialogues

    def __fspath__(self) -> str:
        return os.fspath(self.folder)

    def _table(self) -> Table:
        rows = [
            ["dialogues", str(self.found.dialogues)],
            ["SFT rows", str(self.sft_rows)],
            ["preference pairs", str(self.preference_pairs)],
            ["test dialogues", str(self.test_dialogues)],
        ]
        rows += [[f"left out, {name}", str(by.count)] for name, by in self.found.caught.items()]
        if self.found.cost_usd is not None:
            rows.append(["cost, USD", f"{self.found.cost_usd:.4f}"])
        return Table(f"Rows in {self.folder}", ("", "count"), rows)


def distill(  # noqa: PLR0913 - as the command
    data: AnyPath,
    out: AnyPath,
    *,
    method: Method = "rated",
    teacher: str | None = None,
    reference: str | None = None,
    models: Sequence[str] | None = None,
    settings: DistillSettings | TeacherSettings | None = None,
    columns: Mapping[str, str] | None = None,
    update: bool = False,
) -> DistillResult:
    """Turn dialogues into SFT rows and preference pairs: from rated responses, or with a teacher.

    What is there already with the same data and settings is not made again, and no answer of a teacher is
    paid for twice.

    Args:
        data: a file of dialogues in any form that `data inspect` recognises; `sample` or `written`,
            the shipped ones; or a dataset of the hub, OWNER/NAME or OWNER/NAME:SPLIT.
        out: the folder to write into; new, empty, or from an earlier `distill`.
        method: `rated` takes rated responses; with the others a teacher answers, improves the human
            response, or improves its own.
        teacher: openai:MODEL, batch:MODEL, local:MODEL or file:ANSWERS.jsonl; not with `rated`.
        reference: with `rated`: whose weak responses are rejected. Replaces that of the settings.
        models: with `rated`: the sources whose responses rated 3 are learned from. Replaces those of the
            settings.
        settings: DistillSettings for `rated`, TeacherSettings with a teacher; by default their defaults.
        columns: field → its column, where the data call a field otherwise.
        update: make again what was made with other settings or data.

    Raises:
        EmpathyEdgeError: the data have not what the method needs, or an argument belongs to another method.
        PrerequisiteError: a package or an API key is missing.
    """
    from empathy_edge.distill import run_distill
    from empathy_edge.distill.distill_results import DistillResults
    from empathy_edge.runs.given_data import data_file
    from empathy_edge.runs.settings import DistillSettings
    from empathy_edge.runs.stage import results_of

    folder = path_of(out)
    with called():
        asked = _teacher_settings(method, teacher, settings)
        file = data_file(path_of(data), None if columns is None else dict(columns))
        if asked is not None:
            _refuse("with a teacher", reference=reference, models=models)
            run_distill.distill_with_teacher(data=file, out=folder, settings=asked, update=update)
        else:
            given = settings if isinstance(settings, DistillSettings) else DistillSettings()
            rated = with_fields(given, reference=reference, models=models)
            run_distill.distill_rated(data=file, out=folder, settings=rated, update=update)
        return DistillResult(folder, results_of(folder, DistillResults))


def _teacher_settings(
    method: Method, teacher: str | None, settings: DistillSettings | TeacherSettings | None
) -> TeacherSettings | None:
    """The settings of a distillation with a teacher; None where responses are rated ones."""
    from empathy_edge.distill.teacher_settings import TeacherSettings
    from empathy_edge.errors import EmpathyEdgeError

    if isinstance(settings, TeacherSettings):
        return with_fields(settings, method=None if method == "rated" else method, teacher=teacher)
    if method == "rated":
        _refuse("of the method 'rated'", teacher=teacher)
        return None
    if settings is not None:
        raise EmpathyEdgeError(f"The method '{method}' takes TeacherSettings, not DistillSettings.")
    if not teacher:
        raise EmpathyEdgeError(
            f"The method '{method}' needs a teacher: "
            "openai:MODEL, batch:MODEL, local:MODEL or file:ANSWERS.jsonl."
        )
    return TeacherSettings(method=method, teacher=teacher)


def _refuse(kind: str, **arguments: object) -> None:
    from empathy_edge.errors import EmpathyEdgeError

    for name, value in arguments.items():
        if value is not None:
            raise EmpathyEdgeError(f"distill: `{name}` is no argument {kind}.")
