"""Dialogues as they are published: the paper's ratings, EmpatheticDialogues, ESConv.

EmpatheticDialogues (arXiv 1811.00207) is a CSV with a row for each turn; `_comma_` stands for a comma. ESConv
(arXiv 2106.01144) is a JSON array of conversations between a seeker and a supporter. Each reply of a listener
or supporter becomes a dialogue of its own, with what was said before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from empathy_edge.formats.chat_format import Message
from empathy_edge.formats.dialogue_record import Dialogue, Response, Split, paper_split
from empathy_edge.formats.row_fields import Row, shown

PAPER_COLUMNS = ("dialog_id", "emotion", "situation", "speaker_uttr")
"""The columns of the paper's CSV beside a `response_X` and a `rating_X` for each source X."""

HUMAN = "human"
"""The source of what people answered."""


@dataclass(frozen=True)
class Turn:
    """A message of a published conversation, and the number it has there."""

    number: int
    message: Message


def from_paper_csv(row: Row) -> Dialogue:
    """A row of the paper's CSV (arXiv 2507.08151)."""
    responses = tuple(
        Response(
            source=source,
            text=row.text(f"response_{source}"),
            rating=row.rating(f"rating_{source}"),
        )
        for source in _sources_of(row)
    )
    return Dialogue(
        id=row.text("dialog_id") if isinstance(row.values.get("dialog_id"), str) else row.id(),
        emotion=row.text("emotion"),
        situation=row.text("situation"),
        utterance=row.text("speaker_uttr"),
        responses=responses,
        split=paper_split(responses),
    )


def _sources_of(row: Row) -> list[str]:
    """The sources X of the columns `response_X`, once all columns are known to be there."""
    columns = list(row.values)
    sources = [name.removeprefix("response_") for name in columns if name.startswith("response_")]
    missing = [name for name in PAPER_COLUMNS if name not in columns]
    missing += [f"rating_{source}" for source in sources if f"rating_{source}" not in columns]
    if missing or not sources:
        wanted = ", ".join(missing) if missing else "response_<source>"
        raise row.wrong(
            f"wrong columns: {wanted} missing (found: {', '.join(columns[:8])}).\n"
            f"  The header needs {', '.join(PAPER_COLUMNS)}, and response_X with rating_X for each source X."
        )
    return sources


def from_turns(row: Row) -> Dialogue:
    """EmpatheticDialogues as JSON: turns without ratings; the first one and the reply to it are taken."""
    turns = row.values.get("turns")
    if not isinstance(turns, list) or len(turns) < 2:
        raise row.wrong("'turns' needs at least two, the speaker's and the listener's.")
    return Dialogue(
        id=row.id(),
        emotion=row.optional_text("emotion"),
        situation=row.optional_text("situation"),
        utterance=row.of(turns[0], "turn 1").text("text"),
        responses=(Response(HUMAN, row.of(turns[1], "turn 2").text("text")),),
        split=row.split(),
    )


def from_empathetic_dialogues(rows: Sequence[Row], split: Split) -> Iterator[Dialogue]:
    """The listener's turns of one conversation: the rows with one `conv_id`, in the order of their numbers.

    Raises:
        EmpathyEdgeError: a turn is missing or there twice: who speaks would not be known.
    """
    rows = _in_order(rows)
    first = rows[0]
    speaker = first.values.get("speaker_idx")
    turns = []
    for row in rows:
        role = "user" if row.values.get("speaker_idx") == speaker else "assistant"
        text = _with_commas(row.text("utterance"))
        turns.append(Turn(_turn_number(row), {"role": role, "content": text}))
    yield from replies_of(
        turns,
        conversation=first.text("conv_id"),
        emotion=first.optional_text("context"),
        situation=_with_commas(first.optional_text("prompt")),
        split=split,
    )


def _in_order(rows: Sequence[Row]) -> list[Row]:
    ordered = sorted(rows, key=_turn_number)
    numbers = [_turn_number(row) for row in ordered]
    if numbers != list(range(1, len(numbers) + 1)):
        listed = ", ".join(str(number) for number in numbers[:12])
        raise rows[0].wrong(
            f"the turns of the conversation '{rows[0].values.get('conv_id')}' have the numbers {listed}; "
            "'utterance_idx' must count 1, 2, 3 without gaps. Add the turns, or leave the conversation out."
        )
    return ordered


def _turn_number(row: Row) -> int:
    value = row.values.get("utterance_idx")
    try:
        return int(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise row.wrong(f"'utterance_idx' is {shown(value)}; it must be a whole number.") from None


def _with_commas(text: str) -> str:
    return text.replace("_comma_", ",")


SPEAKERS = {"seeker": "user", "usr": "user", "supporter": "assistant", "sys": "assistant"}
"""Who speaks in ESConv, as published and in its copy on the hub."""


def from_esconv(row: Row, split: Split) -> Iterator[Dialogue]:
    """The supporter's turns of a conversation; what one says in several messages is joined."""
    turns = row.values.get("dialog")
    if not isinstance(turns, list) or not turns:
        raise row.wrong("'dialog' must be a list of at least one message.")
    found = [_esconv_turn(row, number, item) for number, item in enumerate(turns, 1)]
    conversation = row.id()
    yield from replies_of(
        [turn for turn in found if turn is not None],
        conversation=conversation,
        emotion=row.optional_text("emotion_type"),
        situation=row.optional_text("situation"),
        split=split,
    )


def _esconv_turn(row: Row, number: int, item: Any) -> Turn | None:
    """A message; None for an empty one."""
    inner = row.of(item, f"message {number}")
    speaker = inner.values.get("speaker")
    role = SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise inner.wrong(f"'speaker' is {shown(speaker)}; it must be one of {', '.join(SPEAKERS)}.")
    text = inner.optional_text("content") or inner.optional_text("text")
    return Turn(number, {"role": role, "content": text}) if text else None


def replies_of(
    turns: Sequence[Turn], *, conversation: str, emotion: str, situation: str, split: Split
) -> Iterator[Dialogue]:
    """A dialogue for each reply; its id is the conversation's and the number of the reply's (last) turn."""
    said: list[Message] = []
    for turn in _joined(turns):
        message = turn.message
        if message["role"] == "assistant" and said:
            yield Dialogue(
                id=f"{conversation}-{turn.number}",
                emotion=emotion,
                situation=situation,
                utterance=said[-1]["content"],
                responses=(Response(HUMAN, message["content"]),),
                split=split,
                history=tuple(said[:-1]),
            )
        if message["role"] == "user" or said:  # a supporter's greeting answers nothing
            said.append(message)


def _joined(turns: Sequence[Turn]) -> list[Turn]:
    """Consecutive messages of one speaker as one, with the number of the last."""
    joined: list[Turn] = []
    for turn in turns:
        if joined and joined[-1].message["role"] == turn.message["role"]:
            before = joined.pop().message["content"]
            content = f"{before} {turn.message['content']}"
            turn = Turn(turn.number, {"role": turn.message["role"], "content": content})
        joined.append(turn)
    return joined
