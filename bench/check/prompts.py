"""The prompts of a check: the shipped ones, or the user's own."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from empathy_edge.data import check_prompts
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message, messages_for
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.formats.json_lines import lines_of, read_jsonl
from empathy_edge.system.files import sha256_json

FEWEST = 64
"""With fewer prompts no artifact can pass: one bad reply in twenty would not be noticed."""

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class CheckPrompt:
    """A conversation that ends with what a person says; `messages` holds no system turn of ours."""

    id: str
    messages: tuple[Message, ...]

    @property
    def said(self) -> str:
        """The person's last message."""
        return self.messages[-1]["content"]

    def conversation(self) -> list[Message]:
        """The messages with our system prompt, where the prompt has none of its own."""
        if self.messages[0]["role"] == "system":
            return list(self.messages)
        return [messages_for("")[0], *self.messages]


def read_prompts(file: Path | None, most: int | None, seed: int) -> list[CheckPrompt]:
    """The prompts in a random order that depends on the seed only; the shipped ones where no file is given.

    Args:
        file: `.txt` with a prompt on each line; JSON lines with `messages` (OpenAI's form, the last one by
            the user); or dialogues, as `distill` takes them, of which the utterances are used.
        most: only so many of them.
        seed: of the order.

    Raises:
        EmpathyEdgeError: the file is missing or a row is wrong; names the row.
    """
    path = file or check_prompts()
    prompts = _read(path)
    if not prompts:
        raise EmpathyEdgeError(f"{path}: no prompts in it.")
    seen: dict[str, int] = {}
    for number, prompt in enumerate(prompts, 1):
        if prompt.id in seen:
            raise EmpathyEdgeError(
                f"{path}: row {number}: the id '{prompt.id}' is in row {seen[prompt.id]}, too."
            )
        seen[prompt.id] = number
    random.Random(seed).shuffle(prompts)
    return prompts[:most]


def sha256_of(prompts: list[CheckPrompt]) -> str:
    """The hash of the prompts, in their order."""
    return sha256_json([[prompt.id, list(prompt.messages)] for prompt in prompts])


def _read(path: Path) -> list[CheckPrompt]:
    if not path.is_file():
        raise EmpathyEdgeError(f"{path}: no such file. Give prompts as .txt (one a line), .jsonl or .csv.")
    if path.suffix == ".txt":
        lines = [line.strip() for line in lines_of(path.read_text(encoding="utf-8-sig"))]
        return [_single(f"line-{number}", line) for number, line in enumerate(lines, 1) if line]
    if path.suffix == ".jsonl":
        rows = read_jsonl(path)
        if rows and "messages" in rows[0]:
            return [_of_messages(path, number, row) for number, row in enumerate(rows, 1)]
    return [_single(dialogue.id, dialogue.utterance) for dialogue in read_dialogues(path)]


def _single(name: str, text: str) -> CheckPrompt:
    return CheckPrompt(name, ({"role": "user", "content": text},))


def _of_messages(path: Path, number: int, row: dict[str, object]) -> CheckPrompt:
    where = f"{path}: row {number}"
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise EmpathyEdgeError(f"{where}: 'messages' must be a list of at least one message.")
    read: list[Message] = []
    for place, item in enumerate(messages, 1):
        role = item.get("role") if isinstance(item, dict) else None
        content = item.get("content") if isinstance(item, dict) else None
        if role not in ROLES or not isinstance(content, str) or not content.strip():
            raise EmpathyEdgeError(
                f"{where}: message {place} needs a 'role' ({', '.join(ROLES)}) and a text as 'content'."
            )
        read.append({"role": str(role), "content": content})
    if read[-1]["role"] != "user":
        raise EmpathyEdgeError(
            f"{where}: the last message is by '{read[-1]['role']}'; it must be the user's."
        )
    return CheckPrompt(str(row.get("id", f"row-{number}")), tuple(read))
