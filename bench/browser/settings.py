"""Settings of `empathy-edge phone`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class PhoneSettings(BaseModel):
    """What is served, to whom, and what the phone measures. The command line has the same names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lan: bool = Field(
        default=False, description="Let other devices of this network in, not only this machine."
    )
    https: bool = Field(
        default=False,
        description="With a certificate made for this run: without it a phone's browser allows one thread.",
    )
    port: int = Field(default=8765, ge=0, le=65535, description="Where to listen; 0 takes any free port.")
    minutes: float = Field(default=60, gt=0, le=1440, description="The server stops by itself after so long.")
    stop_after: int | None = Field(default=None, ge=1, le=100, description="Stop after so many results.")
    threads: int | None = Field(
        default=None, ge=1, le=64, description="Threads on the phone. [default: half of its cores]"
    )
    context: int = Field(default=1024, ge=128, le=8192, description="Context window on the phone, tokens.")
    max_new_tokens: int = Field(default=160, ge=1, le=1024, description="The most tokens of a reply.")
    prompt_tokens: int = Field(default=128, ge=8, le=4096, description="Measure: tokens of the prompt.")
    decode_tokens: int = Field(default=32, ge=2, le=1024, description="Measure: new tokens.")
    rounds: int = Field(default=5, ge=1, le=40, description="Measure: how often.")
    seed: int = Field(
        default=0, ge=0, description="Which of the shipped dialogues are compared with the host."
    )
    part_mb: int = Field(
        default=512, ge=1, le=1900, description="Larger models are served in parts of at most so many MB."
    )
    crisis_help: bool = Field(
        default=True,
        description="On open signs of self-harm, name human help instead of letting the model answer.",
    )
    country: str | None = Field(
        default=None, description="Two letters, as DE, for that help. [default: from the locale]"
    )
