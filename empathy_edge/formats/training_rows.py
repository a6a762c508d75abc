"""Training files in TRL's conversational format, checked before training begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message, turn_end_id
from empathy_edge.formats.json_lines import iterate_jsonl

TrainingRow = dict[str, Any]
"""Messages by field, as {"prompt": […], "completion": […]}; TRL and datasets take plain dicts."""

SHOWN = 60
"""Characters of a template's text in an error."""


def load_rows(path: Path, fields: tuple[str, ...], keep: tuple[str, ...] = ()) -> list[TrainingRow]:
    """Read a training file.

    Args:
        path: JSON lines; each row has messages in each of `fields`.
        fields: the fields to keep and to check, as `prompt` and `completion`.
        keep: other fields to keep, unchecked; None where a row lacks one.

    Raises:
        EmpathyEdgeError: the file is missing or empty, or a row lacks messages in a field.
    """
    return list(iterate_rows(path, fields, keep))


def iterate_rows(path: Path, fields: tuple[str, ...], keep: tuple[str, ...] = ()) -> Iterator[TrainingRow]:
    """The rows of a training file one after the other; arguments and errors as of `load_rows`."""
    number = 0
    for number, row in enumerate(iterate_jsonl(path), 1):
        for field in fields:
            if not isinstance(row, dict) or not _are_messages(row.get(field)):
                raise EmpathyEdgeError(
                    f"{path}: row {number}: '{field}' needs messages "
                    "with a role and a content that is not empty."
                )
        yield {field: row.get(field) for field in (*keep, *fields)}
    if number == 0:
        raise EmpathyEdgeError(f"{path}: the file is empty; run distill first.")


def count_rows(files: Sequence[Path], fields: tuple[str, ...]) -> int:
    """How many rows training files have together; errors as of `load_rows`."""
    return sum(1 for file in files for _ in iterate_rows(file, fields))


def check_lengths(path: Path, rows: list[TrainingRow], tokenizer: Any, max_length: int) -> None:
    """Refuse rows on which a model would learn never to stop, or to answer what it is never asked.

    These are rows that would be cut off at `max_length` tokens, that the template refuses, or whose text with
    the response does not begin with the text that the model is asked with.

    Args:
        path: the file that the rows are from, for the message.
        rows: at least one, as `load_rows` returns them.
        tokenizer: transformers', with the model's chat template.
        max_length: tokens of prompt and response together.

    Raises:
        EmpathyEdgeError: names the row and the field.
    """
    stop = turn_end_id(tokenizer)
    for number, row in enumerate(rows, 1):
        check_length(f"{path}: row {number}", row, tokenizer, max_length, stop)


def check_length(where: str, row: TrainingRow, tokenizer: Any, max_length: int, stop: int) -> None:
    """As `check_lengths`, of one row; `where` says which, `stop` is the token that ends a turn."""
    asked = templated(f"{where}: 'prompt'", row["prompt"], tokenizer, generate=True)
    stop_text, eos = tokenizer.convert_ids_to_tokens(stop), tokenizer.eos_token or ""
    for field in row:
        if field == "prompt":
            continue
        text = templated(f"{where}: '{field}'", row["prompt"] + row[field], tokenizer)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) > max_length:
            raise EmpathyEdgeError(
                f"{where}: '{field}' ends at token {len(ids)}, beyond max_length {max_length}.\n"
                "  Raise max_length in the recipe, or shorten the row."
            )
        if stop not in ids[-2:]:
            raise EmpathyEdgeError(f"{where}: '{field}' does not end with the stop token.")
        _require_continuation(f"{where}: '{field}'", asked, text, row[field], stop_text, eos)


def templated(where: str, messages: list[Message], tokenizer: Any, *, generate: bool = False) -> str:
    """The text of messages, as the chat template of a tokenizer of transformers writes it.

    Args:
        where: what the messages are of, for the message.
        messages: role and content of each turn.
        tokenizer: transformers'.
        generate: whether to open the assistant's turn at the end.

    Raises:
        EmpathyEdgeError: the template refuses them.
    """
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
    except TemplateError as error:
        raise EmpathyEdgeError(
            f"{where}: the model's chat template refuses these messages: {error}\n"
            "  Change the row (many templates want user and assistant in turns), or take another template: "
            "--template NAME or FILE.jinja."
        ) from None
    return text


def _require_continuation(
    where: str, asked: str, text: str, response: list[Message], stop: str, eos: str
) -> None:
    """Require that a text continues what the model is asked with, by the response and its stop token alone.

    TRL takes the loss from where the token ids of both differ. Texts are compared, since the last token of
    one may be a part of a longer one in the other.
    """
    if not text.startswith(asked):
        same = next(place for place, letter in enumerate(asked) if text[place : place + 1] != letter)
        found = f"ends a prompt with {asked[same:][:SHOWN]!r}, but writes {text[same:][:SHOWN]!r} there"
    elif len(response) == 1 and not is_response(text[len(asked) :], response[0]["content"], stop, eos):
        found = f"writes {text[len(asked) :][:SHOWN]!r}, not the response and its stop token alone,"
    else:
        return
    raise EmpathyEdgeError(
        f"{where}: the model's chat template {found} where the response is known: the model would be trained "
        "on another text than it is asked with.\n"
        "  Take a template that writes both alike: --template NAME or FILE.jinja (docs/formats.md)."
    )


def is_response(text: str, response: str, stop: str, eos: str) -> bool:
    """Whether a text is a response and its stop token, after which only white space and `eos` may come."""
    said, found, after = text.rpartition(stop)
    return bool(found) and said.strip() == response.strip() and after.strip() in ("", eos)


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_message(item) for item in value)


def _is_message(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("role"), str)
        and isinstance(item.get("content"), str)
        and bool(item["content"].strip())
    )
