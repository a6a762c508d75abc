"""Rows that hold a better and a worse response to one prompt: TRL's and OpenAI's preferences, hh-rlhf.

TRL's forms: https://huggingface.co/docs/trl/dataset_formats. The prompt is a field of the row, or what both
responses begin with; it is never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from empathy_edge.formats.dialogue_record import Dialogue, Response
from empathy_edge.formats.message_forms import (
    BAD,
    GOOD,
    Conversation,
    alpaca_conversation,
    compared,
    dialogue_of,
    is_spoken,
    messages_of,
    own_conversation,
    prompt_of,
    split_conversation,
    spoken,
)
from empathy_edge.formats.row_fields import Row

PROMPT_FIELDS = ("prompt", "utterance", "instruction", "question", "messages", "input")
"""What may hold the prompt of a preference: `prompt`, or else the first of these that is not empty."""

ENDS_OF_A_SENTENCE = (".", "!", "?", "…", ":", '"', "”", ")")


def from_preference(row: Row) -> Dialogue:
    """TRL's `chosen` and `rejected`, which may repeat the prompt.

    Raises:
        EmpathyEdgeError: there is no prompt, or it is empty or does not end with the user.
    """
    chosen = row.value("chosen")
    if isinstance(chosen, list) and len(chosen) > 1:
        messages = messages_of(row, "chosen", chosen)
        return dialogue_of(row, split_conversation(row, messages), compared(row, "chosen", "rejected"))
    if is_spoken(chosen):
        return _of_spoken(row)
    said = _given_prompt(row)
    if said is None:
        return _of_common_beginning(row)
    return dialogue_of(row, said, _without_prompt(said.utterance, compared(row, "chosen", "rejected")))


def from_preferred_output(row: Row) -> Dialogue:
    """OpenAI's file for preference fine-tuning."""
    messages = messages_of(
        row, "input.messages", row.of(row.values.get("input"), "'input'").values.get("messages")
    )
    responses = compared(row, "preferred_output", "non_preferred_output")
    return dialogue_of(row, split_conversation(row, messages), responses)


def _of_spoken(row: Row) -> Dialogue:
    said = split_conversation(row, spoken(row, "chosen"))
    other = split_conversation(row, spoken(row, "rejected"))
    if said.reply is None or other.reply is None:
        raise row.wrong("'chosen' and 'rejected' must end with a text after 'Assistant:'.")
    return dialogue_of(row, said, _pair_of(said.reply, other.reply))


def _given_prompt(row: Row) -> Conversation | None:
    """What the row's own field says; None where it has no field for a prompt."""
    there = [field for field in PROMPT_FIELDS if field in row.values]
    if not there:
        return None
    filled = [field for field in there if row.has(field)]
    field = "prompt" if "prompt" in there else (filled or there)[0]
    if field == "utterance":
        return own_conversation(row)
    if field == "instruction":
        return alpaca_conversation(row)
    return prompt_of(row, field)


def _without_prompt(prompt: str, responses: Sequence[Response]) -> list[Response]:
    """Texts that repeat the prompt, without it."""
    return [replace(item, text=item.text.removeprefix(prompt).strip() or item.text) for item in responses]


def _of_common_beginning(row: Row) -> Dialogue:
    """Two texts that begin with the same sentences or lines, which are the prompt."""
    chosen, rejected = row.text("chosen"), row.text("rejected")
    place = _length_of_common_words(chosen, rejected)
    prompt, better, worse = chosen[:place].strip(), chosen[place:].strip(), rejected[place:].strip()
    ends = prompt.endswith(ENDS_OF_A_SENTENCE) or "\n" in chosen[len(prompt) : place]
    if "system" in row.values or not (prompt and better and worse and ends):
        raise row.wrong(
            "no 'prompt', and 'chosen' and 'rejected' do not begin with the same sentence.\n"
            "  Say which field holds the prompt, as in --map prompt=FIELD."
        )
    return dialogue_of(row, Conversation((), prompt, None), _pair_of(better, worse))


def _length_of_common_words(one: str, other: str) -> int:
    """How many characters two texts begin with in common; words are not cut."""
    length = 0
    for place, (first, second) in enumerate(zip(one, other, strict=False), 1):
        if first != second:
            break
        if first.isspace():
            length = place
    return length


def _pair_of(chosen: str, rejected: str) -> list[Response]:
    return [Response("chosen", chosen, GOOD), Response("rejected", rejected, BAD)]
