"""Names in common use for what a person says and for the reply, and the error where the names say nothing.

A name is taken only where one column has it: nothing is guessed.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.row_fields import FIELDS, ID_FIELDS, Row, printable

SAID = ("message", "user_message", "question", "input")
"""What the utterance is also called."""

REPLIES = ("response", "reply", "empathetic_reply", "answer", "output", "completion")
"""What the response is also called."""

PROMPTS = ("utterance", "text", "prompt", "instruction")
"""What the utterance is called in forms of data that are known."""

BESIDE = frozenset((*ID_FIELDS, "emotion", "situation", "split", "history", "system", "source", "rating"))
"""Fields that say something of a dialogue, and hold neither the utterance nor the response."""


@dataclass(frozen=True)
class Named:
    """A row with our own names, and what the fields were called before."""

    row: Row
    names: str


class ColumnsNotNamed(EmpathyEdgeError):
    """What a person says, or the reply, is in no field whose name is known.

    Attributes:
        problem: what is wrong, and where.
        options: the `--map` options that would name the fields, as far as the values tell.
    """

    def __init__(self, problem: str, values: Mapping[str, Any]) -> None:
        self.problem = problem
        self.options = map_options(values)
        shown = shlex.join(self.options)
        super().__init__(
            f"{problem}\n  Say which field holds what the person says, and which the reply, as in "
            f"{shown}; the forms: docs/formats.md."
        )


class NoResponses(EmpathyEdgeError):
    """No dialogue has a response; a column that nobody has named may hold them."""


def with_usual_names(row: Row) -> Named | None:
    """A row of no known form with our names for the utterance and the response.

    Returns:
        None where no such name is there, where several columns could be meant, or where the reply could be in
        a column of an unknown name.
    """
    said, replies = _texts_called(row.values, SAID), _texts_called(row.values, REPLIES)
    others = {name for name in row.values if name not in (*said, *BESIDE) and name.lower() not in REPLIES}
    if len(said) != 1 or len(replies) > 1 or (others and not replies):
        return None
    return _renamed(row, {said[0]: "utterance"} | {name: "response" for name in replies})


def with_usual_reply(row: Row) -> Named | None:
    """A row with a prompt of known name, with our name for the response.

    Returns:
        None where the response has its name, where none is there, or where several columns could be meant.
    """
    replies = _texts_called(row.values, REPLIES)
    if len(replies) != 1 or "response" in row.values or row.has("responses"):
        return None
    return _renamed(row, {replies[0]: "response"})


def _renamed(row: Row, ours: Mapping[str, str]) -> Named:
    values = {ours.get(name, name): value for name, value in row.values.items()}
    return Named(replace(row, values=values), " and ".join(printable(name) for name in ours))


def map_options(values: Mapping[str, Any]) -> list[str]:
    """`--map` for the fields that seem to hold what the person says and the reply, if not named yet."""
    texts = []
    for name, value in values.items():
        is_open = name not in FIELDS or name in (*SAID, *REPLIES)
        if is_open and name not in (*BESIDE, *PROMPTS) and isinstance(value, str) and value.strip():
            texts.append(name)
    options = []
    if not any(name in values for name in PROMPTS):
        no_replies = [name for name in texts if not _is_like(name, REPLIES)]
        said = _likeliest(no_replies or texts, SAID)
        texts = [name for name in texts if name != said]
        options += ["--map", f"utterance={printable(said or 'FIELD')}"]
    if "response" not in values and (reply := _likeliest(texts, REPLIES)):
        options += ["--map", f"response={printable(reply)}"]
    return options


def _likeliest(texts: Sequence[str], usual: Collection[str]) -> str | None:
    """The first field whose name has a usual one in it, or else the first field."""
    for name in texts:
        if _is_like(name, usual):
            return name
    return texts[0] if texts else None


def _is_like(name: str, usual: Collection[str]) -> bool:
    return any(part in name.lower() for part in usual)


def name_both(columns: Collection[str]) -> bool:
    """Whether columns, in small letters, have both an utterance and a response, by usual names."""
    return not {*SAID}.isdisjoint(columns) and not {*REPLIES}.isdisjoint(columns)


def _texts_called(values: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """The fields with one of these names, in capitals or not, that hold a text."""
    return [name for name, value in values.items() if isinstance(value, str) and str(name).lower() in names]
