"""The options of predictions; apart, so that a command's help loads no numpy."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class PredictionSettings(BaseModel):
    """What is to be predicted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_tokens: int = Field(default=256, ge=1, description="For the first token.")
    depth: int = Field(default=0, ge=0, description="Tokens in the cache at decode.")
    context: int = Field(default=2048, ge=1, description="The window, for memory.")
