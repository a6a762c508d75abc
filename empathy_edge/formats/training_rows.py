"""What a step is trained on, checked before training: nothing cut off, the stop token inside the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import turn_end
from empathy_edge.formats.dialogue import read_jsonl


def load_rows(path: Path, fields: tuple[str, ...], keep: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Read a training file in TRL's conversational format; keep `fields`, which are checked, and `keep` as they are.

    Raises:
        EmpathyEdgeError: the file is missing or empty, or a row has no non-empty messages in a field.
    """
    rows = read_jsonl(path)
    if not rows:
        raise EmpathyEdgeError(f"{path}: the file is empty; run distill first.")
    for number, row in enumerate(rows, 1):
        for field in fields:
            messages = row.get(field) if isinstance(row, dict) else None
            good = isinstance(messages, list) and messages and all(_is_message(item) for item in messages)
            if not good:
                raise EmpathyEdgeError(
                    f"{path}: row {number}: '{field}' needs messages with a role and a content that is not empty."
                )
    return [{field: row.get(field) for field in (*keep, *fields)} for row in rows]


def check_lengths(path: Path, rows: list[dict[str, Any]], tokenizer: Any, max_length: int) -> None:
    """Refuse rows whose response `max_length` would cut off: the model would learn never to stop."""
    stop = tokenizer.convert_tokens_to_ids(turn_end(tokenizer.chat_template))
    answers = [field for field in rows[0] if field != "prompt"]
    for number, row in enumerate(rows, 1):
        for field in answers:
            ids = tokenizer.apply_chat_template(row["prompt"] + row[field], return_dict=False)
            if len(ids) > max_length:
                raise EmpathyEdgeError(
                    f"{path}: row {number}: '{field}' ends at token {len(ids)}, beyond max_length {max_length}.\n"
                    "  Raise max_length in the recipe, or shorten the row."
                )
            if stop not in ids[-2:]:
                raise EmpathyEdgeError(f"{path}: row {number}: '{field}' does not end with the stop token.")


def _is_message(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("role"), str)
        and isinstance(item.get("content"), str)
        and bool(item["content"].strip())
    )
