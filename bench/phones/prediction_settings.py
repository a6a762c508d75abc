"""The options of predictions; apart, so that a command's help loads no numpy."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class PredictionSettings(BaseModel):
    """What is to be predicted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_tokens: int = Field(default=256, ge=1, description="Tokens of the prompt that is read.")
    depth: int = Field(default=0, ge=0, description="Tokens that are in the cache before decoding.")
    context: int = Field(default=2048, ge=1, description="Context window, tokens; it takes memory.")
