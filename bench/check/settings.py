"""What is estimated and how surely: the settings of `baseline` and `check`."""

from __future__ import annotations

from pydantic import Field

from empathy_edge.runs.settings import Settings


class ReplySettings(Settings):
    """How replies are made; a baseline and every check against it have the same."""

    temperature: float = Field(
        default=0.7, gt=0, le=2, description="Replies are drawn at it, from the model's whole distribution."
    )
    max_new_tokens: int = Field(default=128, ge=8, le=2048, description="Of a reply.")
    samples: int = Field(default=4, ge=2, le=16, description="Replies of the reference to each prompt.")
    max_prompts: int | None = Field(default=None, ge=1, description="Use only so many of the prompts.")
    seed: int = Field(default=0, ge=0, description="For the order of the prompts and for the replies.")


class CheckSettings(Settings):
    """The bound of the verdict."""

    min_win_rate: float = Field(
        default=0.45,
        gt=0.2,
        lt=0.5,
        description="PASS when the win rate against the reference is surely at least this, FAIL when it is "
        "surely below.",
    )
    greedy: bool = Field(
        default=False,
        description="The app takes the likeliest token each time: greedy replies are compared, as text.",
    )
