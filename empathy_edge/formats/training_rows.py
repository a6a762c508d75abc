"""Training files in TRL's conversational format, checked before training begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import fit_to_template, template_of, turn_end_id
from empathy_edge.formats.json_lines import read_jsonl

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
    rows = read_jsonl(path)
    if not rows:
        raise EmpathyEdgeError(f"{path}: the file is empty; run distill first.")
    for number, row in enumerate(rows, 1):
        for field in fields:
            if not isinstance(row, dict) or not _are_messages(row.get(field)):
                raise EmpathyEdgeError(
                    f"{path}: row {number}: '{field}' needs messages "
                    "with a role and a content that is not empty."
                )
    return [{field: row.get(field) for field in (*keep, *fields)} for row in rows]


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
    response_fields = [field for field in rows[0] if field != "prompt"]
    for number, row in enumerate(rows, 1):
        for field in response_fields:
            ids = tokenizer.apply_chat_template(row["prompt"] + row[field], return_dict=False)
            if len(ids) > max_length:
                raise EmpathyEdgeError(
                    f"{path}: row {number}: '{field}' ends at token {len(ids)}, "
                    f"beyond max_length {max_length}.\n"
                    "  Raise max_length in the recipe, or shorten the row."
                )
            if stop not in ids[-2:]:
                raise EmpathyEdgeError(f"{path}: row {number}: '{field}' does not end with the stop token.")


def fit_rows(rows: list[TrainingRow], tokenizer: Any) -> list[TrainingRow]:
    """The rows, their prompts without the system turn where the tokenizer's template takes none."""
    template = template_of(tokenizer)
    return [row | {"prompt": fit_to_template(template, row["prompt"])} for row in rows]


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_message(item) for item in value)


def _is_message(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("role"), str)
        and isinstance(item.get("content"), str)
        and bool(item["content"].strip())
    )
