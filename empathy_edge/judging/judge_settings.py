"""The options of certifying and of sheets; apart, so that a command's help loads no numpy."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from empathy_edge.judging.questions import Question


class CertifySettings(BaseModel):
    """What a judge is tested on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    questions: tuple[Question, ...] = Field(
        default=("overall",),
        min_length=1,
        description="What is asked of the two replies (prompts/judge.yaml).",
    )
    max_pairs: int = Field(default=200, ge=40, description="At most so many pairs.")
    seed: int = Field(default=0, description="For the draw.")


class SheetSettings(BaseModel):
    """What is on a sheet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: Question = Field(
        default="overall",
        description="What is asked of the two replies (prompts/judge.yaml), or of one (prompts/alone.yaml).",
    )
    max_prompts: int | None = Field(default=None, ge=1, description="Draw so many prompts.")
    seed: int = Field(default=0, description="For the draw and the order.")
