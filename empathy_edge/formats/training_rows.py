"""Training files in TRL's conversational format, checked before training begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import turn_end_id
from empathy_edge.formats.json_lines import iterate_jsonl

TrainingRow = dict[str, Any]
"""Messages by field, as {"prompt": […], "completion": […]}; TRL and datasets take plain dicts."""


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
    """Refuse rows that would be cut off at `max_length` tokens: the model would learn never to stop.

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
    for field in row:
        if field == "prompt":
            continue
        ids = tokenizer.apply_chat_template(row["prompt"] + row[field], return_dict=False)
        if len(ids) > max_length:
            raise EmpathyEdgeError(
                f"{where}: '{field}' ends at token {len(ids)}, beyond max_length {max_length}.\n"
                "  Raise max_length in the recipe, or shorten the row."
            )
        if stop not in ids[-2:]:
            raise EmpathyEdgeError(f"{where}: '{field}' does not end with the stop token.")


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_message(item) for item in value)


def _is_message(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("role"), str)
        and isinstance(item.get("content"), str)
        and bool(item["content"].strip())
    )
