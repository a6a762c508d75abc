"""Rows that hold messages or texts of a conversation, as other tools take them, turned into dialogues.

ShareGPT (`conversations`), OpenAI (`messages`, fine-tuning and batch files), Alpaca and Dolly
(`instruction`), and TRL's prompts and completions (https://huggingface.co/docs/trl/dataset_formats).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from empathy_edge.formats.chat_format import Message
from empathy_edge.formats.dialogue_record import Dialogue, Response
from empathy_edge.formats.row_fields import ID_FIELDS, Row, shown

GOOD, BAD = 3, 1
"""The ratings that a chosen and a rejected response get."""


@dataclass(frozen=True)
class _Fields:
    """How a message is written: the fields of role and text, and what its roles are called."""

    role: str
    text: str
    roles: Mapping[str, str]


OPENAI = _Fields(
    "role",
    "content",
    {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"},
)

SHAREGPT = _Fields(
    "from",
    "value",
    {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
     "chatgpt": "assistant", "model": "assistant"},
)  # fmt: skip


@dataclass(frozen=True)
class Conversation:
    """Messages before the utterance, the utterance, and the reply to it where there is one."""

    history: tuple[Message, ...]
    utterance: str
    reply: str | None


def messages_of(row: Row, field: str, value: Any) -> list[Message]:
    """Messages in OpenAI's or in ShareGPT's form."""
    if not isinstance(value, list) or not value:
        raise row.wrong(f"'{field}' must be a list of at least one message.")
    first = value[0] if isinstance(value[0], dict) else {}
    fields = SHAREGPT if SHAREGPT.role in first and OPENAI.role not in first else OPENAI
    return [_message(row, place, item, fields) for place, item in enumerate(value, 1)]


def _message(row: Row, place: int, item: Any, fields: _Fields) -> Message:
    role = item.get(fields.role) if isinstance(item, dict) else None
    text = _text_parts(item.get(fields.text)) if isinstance(item, dict) else ""
    known = fields.roles.get(role) if isinstance(role, str) else None
    if known is None or not text:
        names = ", ".join(fields.roles)
        raise row.wrong(
            f"message {place} needs a '{fields.role}' ({names}) and a text as '{fields.text}'; "
            f"found {shown(item)}."
        )
    return {"role": known, "content": text}


def _text_parts(content: Any) -> str:
    """A message's text; OpenAI's content may be a list of parts, whose texts count if all are texts."""
    if isinstance(content, str):
        return content.strip()
    if not isinstance(content, list):
        return ""
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str):
            return ""
        texts.append(text)
    return "\n".join(texts).strip()


def split_conversation(row: Row, messages: Sequence[Message]) -> Conversation:
    """The last reply, what it answers, and what was said before; a last message of the user has no reply."""
    messages = without_greeting(messages)
    reply = None
    if messages and messages[-1]["role"] == "assistant":
        reply, messages = messages[-1]["content"], messages[:-1]
    if not messages or messages[-1]["role"] != "user":
        found = f"by '{messages[-1]['role']}'" if messages else "missing"
        before = "the message before the reply" if reply is not None else "the last message"
        raise row.wrong(f"{before} is {found}; it must be the user's.")
    return Conversation(tuple(messages[:-1]), messages[-1]["content"], reply)


def without_greeting(messages: Sequence[Message]) -> list[Message]:
    """Without what the assistant says before the user says anything: many chat templates refuse that."""
    kept: list[Message] = []
    for message in messages:
        is_first = all(item["role"] == "system" for item in kept)
        if not (message["role"] == "assistant" and is_first):
            kept.append(message)
    return kept


SPEAKERS = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
"""How a conversation is written as one text, as in hh-rlhf: `\\n\\nHuman: …\\n\\nAssistant: …`."""

ROLES_OF_SPEAKERS = {"Human": "user", "Assistant": "assistant"}


def is_spoken(value: Any) -> bool:
    """Whether a value is a conversation as one text."""
    return isinstance(value, str) and value.lstrip().startswith("Human:")


def spoken(row: Row, field: str) -> list[Message]:
    """The messages of a conversation as one text."""
    _, *parts = SPEAKERS.split(row.text(field))
    messages = []
    for speaker, said in zip(parts[::2], parts[1::2], strict=True):
        if said.strip():
            messages.append({"role": ROLES_OF_SPEAKERS[speaker], "content": said.strip()})
    if not messages:
        raise row.wrong(f"'{field}' has no text after 'Human:'.")
    return messages


def with_system(row: Row, messages: Sequence[Message]) -> list[Message]:
    """The messages with the row's `system` in front, where they have none."""
    system = row.optional_text("system")
    has_own = bool(messages) and messages[0]["role"] == "system"
    if not system or has_own:
        return list(messages)
    return [{"role": "system", "content": system}, *messages]


def dialogue_of(row: Row, said: Conversation, responses: Sequence[Response]) -> Dialogue:
    """The dialogue of a row, with what else the row says of it.

    Raises:
        EmpathyEdgeError: two responses have the same source.
    """
    sources = [item.source for item in responses]
    for source in sources:
        if sources.count(source) > 1:
            raise row.wrong(f"two responses have the source '{source}'. Give each a source of its own.")
    return Dialogue(
        id=row.id(),
        emotion=row.optional_text("emotion"),
        situation=row.optional_text("situation"),
        utterance=said.utterance,
        responses=tuple(responses),
        split=row.split(),
        history=tuple(with_system(row, said.history)),
    )


def from_sharegpt(row: Row) -> Dialogue:
    """`conversations`; with `chosen` and `rejected` beside it, the layout of LLaMA-Factory's preferences."""
    messages = messages_of(row, "conversations", row.values.get("conversations"))
    if not row.has("chosen", "rejected"):
        return _with_reply(row, messages)
    said = split_conversation(row, messages)
    return dialogue_of(row, said, compared(row, "chosen", "rejected"))


def from_messages(row: Row) -> Dialogue:
    """OpenAI's `messages`; a last message of weight 0, from which nobody is to learn, is no response."""
    items = row.values.get("messages")
    messages = messages_of(row, "messages", items)
    has_weight_0 = isinstance(items, list) and items[-1].get("weight") == 0
    if has_weight_0 and messages[-1]["role"] == "assistant":
        messages.pop()
    return _with_reply(row, messages)


def from_batch_request(row: Row) -> Dialogue:
    """A request of OpenAI's Batch API: the messages are in `body`."""
    return _with_reply(
        row,
        messages_of(row, "body.messages", row.of(row.values.get("body"), "'body'").values.get("messages")),
    )


def _with_reply(row: Row, messages: Sequence[Message]) -> Dialogue:
    said = split_conversation(row, messages)
    responses = [] if said.reply is None else [Response("assistant", said.reply, row.rating("rating"))]
    return dialogue_of(row, said, responses)


def compared(row: Row, better: str, worse: str) -> list[Response]:
    """The two responses of a preference, rated 3 and 1."""
    return [
        Response("chosen", last_text(row, better), GOOD),
        Response("rejected", last_text(row, worse), BAD),
    ]


def last_text(row: Row, field: str) -> str:
    """A response: a text, a message, or messages of which the last is the assistant's."""
    value = row.values.get(field)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return row.text(field)
    last = messages_of(row, field, value)[-1]
    if last["role"] != "assistant":
        raise row.wrong(f"'{field}' ends with a message by '{last['role']}'; it must be the assistant's.")
    return last["content"]


ALPACA_INPUTS = ("input", "context")
ALPACA_OUTPUTS = ("output", "response", "completion")
"""What Alpaca, Dolly and others call the response to an instruction."""

ALPACA_OTHERS = frozenset(
    ("instruction", "system", "history", "source", "rating", "emotion", "situation", "split")
)
"""Fields that are not taken for a response under another name."""


def from_alpaca(row: Row) -> Dialogue:
    """Alpaca's `instruction`, `input`, `output`; Dolly's `context` and `response` in their place."""
    said = alpaca_conversation(row)
    field = next((name for name in ALPACA_OUTPUTS if row.has(name)), "")
    if not field:
        _refuse_other_texts(row)
        return dialogue_of(row, said, [])
    source = row.optional_text("source") or field
    return dialogue_of(row, said, [Response(source, row.text(field), row.rating("rating"))])


def alpaca_conversation(row: Row) -> Conversation:
    """Instruction and input as the utterance; `history` as LLaMA-Factory has it, pairs of texts."""
    field = next((name for name in ALPACA_INPUTS if row.has(name)), "input")
    utterance = "\n\n".join(filter(None, (row.text("instruction"), row.optional_text(field))))
    history: list[Message] = []
    for pair in row.value("history") or ():
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise row.wrong(f"'history' has {shown(pair)}; each entry needs two texts.")
        for role, text in zip(("user", "assistant"), pair, strict=True):
            if text.strip():
                history.append({"role": role, "content": text.strip()})
    return Conversation(tuple(without_greeting(history)), utterance, None)


def _refuse_other_texts(row: Row) -> None:
    """Without a field for the response, another text may be the response under an unknown name."""
    if any(name in row.values for name in ALPACA_OUTPUTS):
        return
    known = {*ALPACA_OTHERS, *ALPACA_INPUTS, *ID_FIELDS}
    for name, value in row.values.items():
        if name not in known and isinstance(value, str) and value.strip():
            raise row.wrong(
                f"an 'instruction' without {', '.join(ALPACA_OUTPUTS)}, and a text in '{name}' that would be "
                f"lost.\n  If that is the response: --map response={name}; if there is none: "
                "--map utterance=instruction."
            )


LABELS = {"true": GOOD, "1": GOOD, "1.0": GOOD, "false": BAD, "0": BAD, "0.0": BAD}
"""TRL's `label`, which CSV files hold as a text and tables with gaps as a fraction."""


def from_completion(row: Row) -> Dialogue:
    """TRL's `prompt` and `completion`; `label` says of unpaired preferences whether it is a good one."""
    said = prompt_of(row)
    rating = _label(row) or row.rating("rating")
    source = row.optional_text("source") or "completion"
    return dialogue_of(row, said, [Response(source, last_text(row, "completion"), rating)])


def _label(row: Row) -> int | None:
    value = row.value("label")
    if value is None or value == "":
        return None
    rating = LABELS.get(str(value).strip().lower())
    if rating is None:
        raise row.wrong(f"'label' is {shown(value)}; it must be true or false, or 1 or 0.")
    return rating


def prompt_of(row: Row, field: str = "prompt") -> Conversation:
    """A prompt: a text, a conversation as one text, or messages; the last message must be the user's."""
    value = row.value(field)
    if value is None or (isinstance(value, str) and not is_spoken(value)):
        return Conversation((), row.text(field), None)
    messages = spoken(row, field) if isinstance(value, str) else messages_of(row, field, value)
    if messages[-1]["role"] != "user":
        raise row.wrong(f"'{field}' ends with a message by '{messages[-1]['role']}'; it must be the user's.")
    return split_conversation(row, messages)


def own_conversation(row: Row) -> Conversation:
    """The utterance of our own form, and its `history` without a greeting."""
    history = row.value("history")
    earlier = without_greeting(messages_of(row, "history", history)) if history else []
    return Conversation(tuple(earlier), row.text("utterance"), None)
