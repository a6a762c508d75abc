"""What can be asked about replies. The wording is in prompts/judge.yaml and prompts/alone.yaml."""

from __future__ import annotations

from typing import Literal, get_args

Question = Literal[
    "overall",
    "cognitive",
    "affective",
    "compassionate",
    "emotional-reactions",
    "interpretations",
    "explorations",
]
"""What can be asked of two replies, or of one alone."""

QUESTIONS: tuple[Question, ...] = get_args(Question)

RATED_BY_EXPERTS: tuple[Question, ...] = ("emotional-reactions", "interpretations", "explorations")
"""EPITOME's mechanisms, which the experts' annotations have."""
