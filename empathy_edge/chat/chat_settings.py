"""Settings of a chat."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class ChatSettings(BaseModel):
    """How the model is loaded and how replies are made. The command line's options have the same names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: int | None = Field(
        default=None, ge=1, description="CPU threads. [default: all cores this process may use]"
    )
    context: int = Field(default=2048, ge=256, description="Context window, tokens.")
    max_new_tokens: int = Field(default=160, ge=1, description="The most tokens of a reply.")
    temperature: float = Field(default=0.0, ge=0, le=2, description="0 takes the likeliest token each time.")
    seed: int = Field(default=0, description="For sampling.")
    markdown: bool = Field(default=False, description="Show answers as Markdown.")
    history: Path | None = Field(
        default=None,
        description="A file that keeps what you type, for the arrow keys of the next chat. "
        "[default: nothing is kept]",
    )
    crisis_help: bool = Field(
        default=True,
        description="On open signs of self-harm, name human help instead of letting the model answer.",
    )
    country: str | None = Field(
        default=None, description="Two letters, as DE, for that help. [default: from the locale]"
    )
