"""The forms of data that are recognised, and what a row of each becomes.

A form is recognised by its fields. Which they are, with an example of each: docs/formats.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from empathy_edge.formats.dialogue_record import Dialogue, Response, Split
from empathy_edge.formats.json_lines import whole_characters
from empathy_edge.formats.message_forms import (
    dialogue_of,
    from_alpaca,
    from_batch_request,
    from_completion,
    from_messages,
    from_sharegpt,
    is_spoken,
    own_conversation,
    prompt_of,
)
from empathy_edge.formats.preference_forms import from_preference, from_preferred_output
from empathy_edge.formats.published_forms import (
    from_empathetic_dialogues,
    from_esconv,
    from_paper_csv,
    from_turns,
)
from empathy_edge.formats.row_fields import Row, printable
from empathy_edge.formats.usual_names import ColumnsNotNamed, with_usual_names, with_usual_reply

PLAIN_FIELDS = ("utterance", "text", "prompt")
"""What a prompt without anything else may be called."""

EMPATHETIC_DIALOGUES = "EmpatheticDialogues, as published"


@dataclass(frozen=True)
class Form:
    """A form of rows.

    Attributes:
        name: in words.
        fits: whether a row has it, by its fields.
        read: the dialogue of a row.
        ids_repeat: whether one id may stand in several rows, as those of a prompt with several pairs.
    """

    name: str
    fits: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Row], Dialogue]
    ids_repeat: bool = False


@dataclass(frozen=True)
class Found:
    """A dialogue, the row that it is from, and the name of the row's form."""

    row: Row
    form: str
    dialogue: Dialogue


def from_rated_responses(row: Row) -> Dialogue:
    """Our own form: an utterance, and responses to it with their sources and ratings."""
    items = row.values.get("responses")
    if items is not None and not isinstance(items, list):
        raise row.wrong("'responses' must be a list.")
    said = own_conversation(row)
    responses = [_response(row, number, item) for number, item in enumerate(items or (), 1)]
    return dialogue_of(row, said, [*responses, *_single_response(row)])


def _single_response(row: Row) -> list[Response]:
    """The response in a field of its own, if there is one."""
    text = row.optional_text("response")
    if not text:
        return []
    return [Response(row.optional_text("source") or "response", text, row.rating("rating"))]


def _response(row: Row, number: int, item: Any) -> Response:
    inner = row.of(item, f"response {number}")
    return Response(inner.text("source"), inner.text("text"), inner.rating("rating"))


def from_plain(row: Row) -> Dialogue:
    """A prompt alone: `text`, or TRL's `prompt`, which may be messages or a conversation as one text."""
    field = next((name for name in PLAIN_FIELDS if name in row.values), "text")
    value = row.values.get(field)
    if isinstance(value, list) and not row.has("response"):
        return from_messages(Row(row.number, row.where, {**row.values, "messages": value}))
    if isinstance(value, list) or (field == "prompt" and is_spoken(value)):
        return dialogue_of(row, prompt_of(row, field), _single_response(row))
    said = row.text(field)
    return from_rated_responses(Row(row.number, row.where, {**row.values, "utterance": said}))


def _has(*fields: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda values: all(field in values for field in fields)


def _is_our_own(values: Mapping[str, Any]) -> bool:
    """An utterance, which beside `chosen` and `rejected` alone is the prompt of a preference."""
    is_pair = "chosen" in values and "rejected" in values
    return "utterance" in values and (bool(values.get("responses")) or not is_pair)


def _is_paper_csv(values: Mapping[str, Any]) -> bool:
    sources = [str(name).removeprefix("response_") for name in values if str(name).startswith("response_")]
    return "speaker_uttr" in values or any(f"rating_{source}" in values for source in sources)


def _has_messages_in(field: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda values: isinstance(values.get(field), dict) and "messages" in values[field]


FORMS = (
    Form("dialogues in our own form", _is_our_own, from_rated_responses),
    Form("the paper's CSV of rated responses", _is_paper_csv, from_paper_csv),
    Form("EmpatheticDialogues as turns", _has("turns"), from_turns),
    Form("ShareGPT", _has("conversations"), from_sharegpt),
    Form("OpenAI preference file", _has_messages_in("input"), from_preferred_output, ids_repeat=True),
    Form("OpenAI batch requests", _has_messages_in("body"), from_batch_request),
    Form("preferences (TRL)", _has("chosen", "rejected"), from_preference, ids_repeat=True),
    Form("OpenAI messages", _has("messages"), from_messages),
    Form("Alpaca", _has("instruction"), from_alpaca),
    Form("prompts and completions (TRL)", _has("prompt", "completion"), from_completion, ids_repeat=True),
    Form("prompts", lambda values: any(field in values for field in PLAIN_FIELDS), from_plain),
)
"""In this order: the first that fits a row is taken."""

PROMPTS = (FORMS[0], FORMS[-1])
"""Forms that leave it open what the response is called."""


def dialogues_of(rows: Iterable[Row], split: Split) -> Iterator[Found]:
    """The dialogues of a file's rows.

    Args:
        rows: of one file.
        split: of published files that do not say it themselves.

    Raises:
        EmpathyEdgeError: a row is wrong, or of no known form; names it, and what was found.
    """
    form: Form | None = None
    ended: set[str] = set()
    for conversation, group in groupby(map(_unpacked, rows), key=_conversation_of):
        if conversation is not None:
            together = list(group)
            if conversation in ended:
                raise together[0].wrong(
                    f"the conversation '{conversation}' goes on here, after another one. "
                    "Sort the file by conv_id."
                )
            ended.add(conversation)
            for dialogue in from_empathetic_dialogues(together, split):
                yield Found(together[0], EMPATHETIC_DIALOGUES, dialogue)
            continue
        for row in group:
            if isinstance(row.values.get("dialog"), list):
                for dialogue in from_esconv(row, split):
                    yield Found(row, "ESConv, as published", dialogue)
                continue
            fitting = next((item for item in FORMS if item.fits(row.values)), None)
            if found := _by_usual_names(row, fitting):
                yield found
                continue
            form = fitting or form
            if form is None:
                raise _unknown_form(row)
            yield Found(row, form.name, form.read(row))


def _by_usual_names(row: Row, fitting: Form | None) -> Found | None:
    """The dialogue of a row whose form leaves open what its texts are called, where their names tell."""
    if fitting is not None and fitting not in PROMPTS:
        return None
    named = with_usual_reply(row) if fitting else with_usual_names(row)
    if named is None:
        return None
    read = fitting.read if fitting else from_rated_responses
    return Found(row, f"dialogues by usual names ({named.names})", read(named.row))


def _unpacked(row: Row) -> Row:
    """A row whose only field is a text with a conversation of ESConv in JSON, as the hub has it."""
    text = row.values.get("text")
    if len(row.values) != 1 or not isinstance(text, str) or not text.lstrip().startswith("{"):
        return row
    try:
        values = whole_characters(json.loads(text), text)
    except (ValueError, RecursionError):
        return row
    is_esconv = isinstance(values, dict) and isinstance(values.get("dialog"), list)
    return replace(row, values=values) if is_esconv else row


def has_a_form(values: Mapping[str, Any]) -> bool:
    """Whether an object is a row of a known form."""
    return isinstance(values.get("dialog"), list) or any(form.fits(values) for form in FORMS)


def may_repeat_ids(form: str) -> bool:
    """Whether rows of this form may share an id."""
    return any(item.name == form and item.ids_repeat for item in FORMS)


def _conversation_of(row: Row) -> str | None:
    """What the rows of one conversation of EmpatheticDialogues share; None in other files."""
    values = row.values
    if "conv_id" in values and "utterance_idx" in values:
        return str(values["conv_id"])
    return None


def _unknown_form(row: Row) -> Exception:
    columns = ", ".join(str(name) for name in list(row.values)[:12]) or "nothing"
    problem = printable(f"{row.where}: of no known form; its fields are: {columns}.")
    return ColumnsNotNamed(problem, row.values)
