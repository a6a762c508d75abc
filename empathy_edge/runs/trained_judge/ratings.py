"""Ratings of replies, from which a judge is trained."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from empathy_edge.bench.check.certificate import read_pairs
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.system.files import sha256_json

Rating = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class RatedReplies(BaseModel):
    """Replies to one conversation: a row of a file of ratings.

    Attributes:
        messages: the conversation.
        replies: each text once.
        readings: what each reader said: a rating (0 to 100) for each reply, null for those that he or she
            did not see beside the others. Only ratings of one reading are compared with each other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: list[Message] = Field(min_length=1)
    replies: list[str] = Field(min_length=1)
    readings: list[list[Rating | None]] = Field(min_length=1)

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        for reading in self.readings:
            if len(reading) != len(self.replies):
                raise ValueError(f"a reading has {len(reading)} ratings for {len(self.replies)} replies")
        return self

    def compared(self) -> Iterator[tuple[list[int], list[float]]]:
        """Of each reading the places of its replies, and their ratings."""
        for reading in self.readings:
            known = [(place, rating) for place, rating in enumerate(reading) if rating is not None]
            yield [place for place, _ in known], [rating for _, rating in known]


def read_ratings(files: Sequence[Path]) -> list[RatedReplies]:
    """The rows of files in JSON Lines: {"messages": […], "replies": […], "readings": [[90, null, 10], …]}.

    Raises:
        EmpathyEdgeError: a row is no such thing, or judges are certified on its conversation; names it.
    """
    certifying = {_key(pair.messages) for pair in read_pairs()}
    found = []
    for file in files:
        for number, row in enumerate(read_jsonl(file), 1):
            try:
                found.append(RatedReplies.model_validate(row))
            except ValidationError as error:
                (first, *_) = error.errors()
                raise EmpathyEdgeError(
                    f"{file}, row {number}: {'.'.join(map(str, first['loc'])) or 'row'}: {first['msg']}"
                ) from None
            if _key(found[-1].messages) in certifying:
                raise EmpathyEdgeError(
                    f"{file}, row {number}: judges are certified on this conversation; leave it out."
                )
    return found


def split(
    rated: Sequence[RatedReplies], held_out: int, seed: int
) -> tuple[list[RatedReplies], list[RatedReplies]]:
    """The rows to train on, and those of so many other conversations.

    Raises:
        EmpathyEdgeError: there are not twice as many conversations.
    """
    conversations = list(dict.fromkeys(_key(row.messages) for row in rated))
    if len(conversations) < 2 * held_out:
        raise EmpathyEdgeError(
            f"Ratings of {len(conversations)} conversations: at least {2 * held_out} are needed, "
            f"{held_out} of them to test the judge."
        )
    random.Random(seed).shuffle(conversations)
    outside = set(conversations[:held_out])
    return (
        [row for row in rated if _key(row.messages) not in outside],
        [row for row in rated if _key(row.messages) in outside],
    )


def _key(messages: Sequence[Message]) -> str:
    return sha256_json([[turn["role"], turn["content"]] for turn in messages])
