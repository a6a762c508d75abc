"""The catalogue of figures, docs/results/figures.yaml: where they are shown, and how they are made again."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from empathy_edge.errors import EmpathyEdgeError, did_you_mean
from scripts.markdown import ROOT

CATALOGUE = ROOT / "docs" / "results" / "figures.yaml"

COMMIT = re.compile(r"[0-9a-f]{7,40}")


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Thing(_Frozen):
    """Something that commands need and that can be looked for.

    Attributes:
        get: where it comes from, for people.
        kind: a file or folder, a program on the PATH, or a module of Python.
        made_by: the name of the figures whose commands write it, if there are any.
    """

    get: str
    kind: Literal["file", "program", "module"] = "file"
    made_by: str | None = None


class Figures(_Frozen):
    """Figures that are measured together.

    Attributes:
        name: as in `make results NAME=…`.
        page: where they are shown, from the root of the checkout, with an anchor where it is a section.
        also: other pages that show some of them.
        gives: what is measured, in one line.
        commands: for bash, in order; without any, no command makes the figures again.
        folder: where the commands run: in a new folder of their own, or in the checkout.
        needs: names of things; the commands are refused where one is missing.
        remark: what no program can look for, or what the commands leave out, or why there are none.
        minutes: how long the commands take on the machine that is named.
        machine: on which they were measured.
        commits: in which the figures came onto the page; most of them in the first.
        date: of the first.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    page: str
    also: tuple[str, ...] = ()
    gives: str
    commands: tuple[str, ...] = ()
    folder: Literal["own", "checkout"] = "own"
    needs: tuple[str, ...] = ()
    remark: str = ""
    minutes: float | None = Field(default=None, gt=0)
    machine: str
    commits: tuple[str, ...] = Field(min_length=1)
    date: date

    @property
    def file(self) -> Path:
        """The page's file."""
        return ROOT / self.page.partition("#")[0]

    @property
    def anchor(self) -> str:
        """The section of the page; empty where it is the whole page."""
        return self.page.partition("#")[2]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.commands and not self.remark:
            raise ValueError(f"{self.name}: without commands, `remark` must say why there are none")
        if bool(self.commands) != (self.minutes is not None):
            raise ValueError(f"{self.name}: `minutes` belongs to commands, and commands to `minutes`")
        wrong = [commit for commit in self.commits if not COMMIT.fullmatch(commit)]
        if wrong:
            raise ValueError(f"{self.name}: no commits: {', '.join(wrong)}")
        return self


class Catalogue(_Frozen):
    """All figures, and the things that their commands need.

    Attributes:
        things: by their names; a file's name is its path in the folder where commands run.
        figures: in the order of the index.
    """

    things: dict[str, Thing]
    figures: tuple[Figures, ...]

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [item.name for item in self.figures]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"names that are there twice: {', '.join(sorted(twice))}")
        for item in self.figures:
            unknown = [need for need in item.needs if need not in self.things]
            if unknown:
                raise ValueError(f"{item.name}: needs what is not among `things`: {', '.join(unknown)}")
        for name, thing in self.things.items():
            if thing.made_by is not None and thing.made_by not in names:
                raise ValueError(f"{name}: made by unknown figures, {thing.made_by}")
        return self

    def find(self, name: str) -> Figures:
        """The figures of that name.

        Raises:
            EmpathyEdgeError: there are none; the nearest name is said.
        """
        for item in self.figures:
            if item.name == name:
                return item
        near = did_you_mean(name, [item.name for item in self.figures])
        raise EmpathyEdgeError(f"{name}: no such figures.{near} `make results` lists them.")


def read_catalogue(file: Path = CATALOGUE) -> Catalogue:
    """Read and check the catalogue.

    Raises:
        EmpathyEdgeError: it has faults; all of them are listed.
    """
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    try:
        return Catalogue.model_validate(content)
    except ValidationError as error:
        faults = [f"  {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise EmpathyEdgeError(f"{file}: has faults:\n" + "\n".join(faults)) from None
