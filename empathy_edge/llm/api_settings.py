"""How a model behind an API is called, and how much of it may be used."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class ApiSettings(BaseModel):
    """How a model behind an API is called. The key is not here: it comes from OPENAI_API_KEY.

    `parallel` is a number of calls, `max_cost` is in USD. Local models have no use for any of these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str | None = Field(
        default=None, description="Another OpenAI-compatible endpoint. [default: OPENAI_BASE_URL]"
    )
    parallel: int = Field(default=8, ge=1, le=4096, description="Calls at the same time.")
    max_calls: int | None = Field(default=None, ge=1, description="Stop before more calls than this.")
    max_cost: float | None = Field(default=None, ge=0, description="Stop before more USD than this.")
    prices: Path | None = Field(
        default=None, description="Your price table, YAML: model: [prompt, completion], USD per million."
    )
