"""Settings of a distillation with a teacher: what it is asked, and how often."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from empathy_edge.llm.api_settings import ApiSettings

Method = Literal["direct", "improve-human", "improve-llm"]
"""Let the teacher answer, improve the human response, or improve its own (arXiv 2507.08151)."""

Dimension = Literal["cognitive", "affective", "compassionate"]
"""The dimensions of empathy."""

Strategy = Literal[
    "naive", "all-dimensions", "lacking-dimension", "cognitive", "affective", "compassionate", "sequential"
]
"""How a response is improved (arXiv 2507.08151, section 3.2)."""


class ResponseSettings(BaseModel):
    """The length of the teacher's responses, and how they are sampled.

    `words` and `most_words` as in the paper, whose human responses have about 28 words, at most 97.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: int = Field(default=28, ge=5, description="How many words the teacher is told to write.")
    most_words: int = Field(default=97, ge=5, description="Leave out responses of more words.")
    temperature: float = Field(
        default=0.7, ge=0, le=2, description="The teacher's; 0 takes the likeliest token each time."
    )
    max_tokens: int = Field(default=256, ge=1, description="The most tokens of one answer of the teacher.")


class TeacherSettings(ApiSettings, ResponseSettings):
    """All of a distillation with a teacher but its files. The command line's options have the same names."""

    method: Method = Field(description="Answer, improve the human response, or improve the teacher's own.")
    strategy: Strategy = Field(
        default="all-dimensions", description="improve-human and improve-llm: how a response is improved."
    )
    teacher: str = Field(
        min_length=1,
        description="openai:MODEL, batch:MODEL (the Batch API), local:MODEL (what `chat` takes) "
        "or file:ANSWERS.jsonl.",
    )
    timeout: float = Field(default=60.0, ge=0.1, description="Seconds for one try of a call.")
    no_wait: bool = Field(
        default=False, description="batch: send and leave; the same command fetches the answers later."
    )
    poll: float = Field(default=30.0, ge=0.1, description="batch: seconds between looks.")
    max_dialogues: int | None = Field(
        default=None, ge=1, description="Ask about at most this many, drawn with --seed."
    )
    seed: int = Field(default=0, description="For the choice of rows.")

    def response_settings(self) -> dict[str, float]:
        """Length and sampling alone, for a manifest."""
        return self.model_dump(include=set(ResponseSettings.model_fields))
