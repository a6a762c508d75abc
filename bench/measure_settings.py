"""Settings of `bench run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class MeasureSettings(BaseModel):
    """What is measured on this machine, and how often. The command line's options have the same names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: Literal["standard", "chat"] = Field(
        default="standard",
        description="standard: prefill and decode of fixed lengths; chat: whole conversations, cold and "
        "warm, with the cache and without.",
    )
    prompt_tokens: tuple[Annotated[int, Field(ge=8, le=32768)], ...] = Field(
        default=(128,),
        min_length=1,
        description="Prompt length, which is also decode's depth; may be given more than once.",
    )
    decode_tokens: int = Field(default=64, ge=8, le=1024, description="Tokens that are generated.")
    repetitions: int | None = Field(
        default=None, ge=1, le=200, description="Rounds; each runs everything. [default: 5, chat: 1]"
    )
    until_stable: bool = Field(
        default=False, description="Go on until every median is known to 3 %, at most 40 rounds."
    )
    cold: bool = Field(default=False, description="Drop the model from the page cache before each load.")
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads. [default: all cores this process may use]"
    )
    dialogues: Path | None = Field(
        default=None, description="chat: JSONL with the turns of conversations. [default: shipped ones]"
    )
    max_new_tokens: int = Field(default=64, ge=1, description="chat: the most tokens of a reply.")
    tolerance: float = Field(
        default=0.1, ge=0, le=1, description="With --baseline: how much slower or larger is a FAIL."
    )
