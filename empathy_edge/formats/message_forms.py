"""Rows that hold messages or texts of a conversation, as other tools take them, turned into dialogues.

ShareGPT (`conversations`), OpenAI (`messages`, fine-tuning and batch files), Alpaca (`instruction`), and
TRL's prompts, completions and preferences (https://huggingface.co/docs/trl/dataset_formats).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from empathy_edge.formats.chat_format import Message
from empathy_edge.formats.dialogue_record import Dialogue, Response
from empathy_edge.formats.row_fields import Row, shown

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


def dialogue_of(row: Row, said: Conversation, responses: Sequence[Response]) -> Dialogue:
    """The dialogue of a row, with what else the row says of it."""
    return Dialogue(
        id=row.id(),
        emotion=row.optional_text("emotion"),
        situation=row.optional_text("situation"),
        utterance=said.utterance,
        responses=tuple(responses),
        split=row.split(),
        history=said.history,
    )


def from_sharegpt(row: Row) -> Dialogue:
    """`conversations`; with `chosen` and `rejected` beside it, the layout of LLaMA-Factory's preferences."""
    messages = messages_of(row, "conversations", row.values.get("conversations"))
    if (system := row.optional_text("system")) and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    if not row.has("chosen", "rejected"):
        return _with_reply(row, messages)
    said = split_conversation(row, messages)
    return dialogue_of(row, said, _compared(row, "chosen", "rejected"))


def from_messages(row: Row) -> Dialogue:
    """OpenAI's `messages`."""
    return _with_reply(row, messages_of(row, "messages", row.values.get("messages")))


def from_batch_request(row: Row) -> Dialogue:
    """A request of OpenAI's Batch API: the messages are in `body`."""
    return _with_reply(
        row,
        messages_of(row, "body.messages", row.of(row.values.get("body"), "'body'").values.get("messages")),
    )


def from_preferred_output(row: Row) -> Dialogue:
    """OpenAI's file for preference fine-tuning."""
    messages = messages_of(
        row, "input.messages", row.of(row.values.get("input"), "'input'").values.get("messages")
    )
    responses = _compared(row, "preferred_output", "non_preferred_output")
    return dialogue_of(row, split_conversation(row, messages), responses)


def _with_reply(row: Row, messages: Sequence[Message]) -> Dialogue:
    said = split_conversation(row, messages)
    responses = [] if said.reply is None else [Response("assistant", said.reply, row.rating("rating"))]
    return dialogue_of(row, said, responses)


def _compared(row: Row, better: str, worse: str) -> list[Response]:
    return [
        Response("chosen", _last_text(row, better), GOOD),
        Response("rejected", _last_text(row, worse), BAD),
    ]


def _last_text(row: Row, field: str) -> str:
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


def from_alpaca(row: Row) -> Dialogue:
    """`instruction`, `input`, `output`; also `system` and `history`, as LLaMA-Factory takes them."""
    said = "\n\n".join(filter(None, (row.text("instruction"), row.optional_text("input"))))
    history: list[Message] = []
    if system := row.optional_text("system"):
        history.append({"role": "system", "content": system})
    for pair in row.values.get("history") or ():
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise row.wrong(f"'history' has {shown(pair)}; each entry needs two texts.")
        history += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    output = row.optional_text("output")
    responses = [Response("output", output, row.rating("rating"))] if output else []
    return dialogue_of(row, Conversation(tuple(history), said, None), responses)


def from_completion(row: Row) -> Dialogue:
    """TRL's `prompt` and `completion`; `label` says of unpaired preferences whether it is a good one."""
    said = _prompt(row, row.values.get("prompt"))
    label = row.values.get("label")
    rating = (GOOD if label else BAD) if isinstance(label, bool) else row.rating("rating")
    source = row.optional_text("source") or "completion"
    return dialogue_of(row, said, [Response(source, _last_text(row, "completion"), rating)])


def from_preference(row: Row) -> Dialogue:
    """TRL's `chosen` and `rejected`; the prompt may be a field, or what both begin with."""
    chosen = row.values.get("chosen")
    if isinstance(chosen, list) and len(chosen) > 1:  # it repeats the prompt
        messages = messages_of(row, "chosen", chosen)
        return dialogue_of(row, split_conversation(row, messages), _compared(row, "chosen", "rejected"))
    if row.has("prompt"):
        said = _prompt(row, row.values.get("prompt"))
        return dialogue_of(row, said, _without_prompt(row, _compared(row, "chosen", "rejected")))
    return _of_common_beginning(row)


def _prompt(row: Row, value: Any) -> Conversation:
    """A prompt: a text, or messages that end with the user's."""
    if isinstance(value, str):
        return Conversation((), row.text("prompt"), None)
    messages = messages_of(row, "prompt", value)
    if messages[-1]["role"] != "user":
        raise row.wrong(f"'prompt' ends with a message by '{messages[-1]['role']}'; it must be the user's.")
    return split_conversation(row, messages)


def _without_prompt(row: Row, responses: Sequence[Response]) -> list[Response]:
    """Texts that repeat the prompt, without it."""
    prompt = row.values.get("prompt")
    if not isinstance(prompt, str):
        return list(responses)
    return [
        Response(item.source, item.text.removeprefix(prompt.strip()).strip() or item.text, item.rating)
        for item in responses
    ]


SPEAKERS = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
"""How a conversation is written as one text, as in hh-rlhf: `\\n\\nHuman: …\\n\\nAssistant: …`."""

ROLES_OF_SPEAKERS = {"Human": "user", "Assistant": "assistant"}


def _of_common_beginning(row: Row) -> Dialogue:
    chosen, rejected = row.text("chosen"), row.text("rejected")
    if chosen.startswith("Human:"):
        said = split_conversation(row, _spoken(row, "chosen", chosen))
        other = split_conversation(row, _spoken(row, "rejected", rejected))
        if said.reply is None or other.reply is None:
            raise row.wrong("'chosen' and 'rejected' must end with a text after 'Assistant:'.")
        return dialogue_of(row, said, _pair_of(said.reply, other.reply))
    place = _length_of_common_words(chosen, rejected)
    prompt = chosen[:place].strip()
    if not prompt or not chosen[place:].strip() or not rejected[place:].strip():
        raise row.wrong("no 'prompt', and 'chosen' and 'rejected' do not begin with the same words.")
    said = Conversation((), prompt, None)
    return dialogue_of(row, said, _pair_of(chosen[place:].strip(), rejected[place:].strip()))


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


def _spoken(row: Row, field: str, text: str) -> list[Message]:
    _, *parts = SPEAKERS.split(text)
    messages = []
    for speaker, said in zip(parts[::2], parts[1::2], strict=True):
        if said.strip():
            messages.append({"role": ROLES_OF_SPEAKERS[speaker], "content": said.strip()})
    if not messages:
        raise row.wrong(f"'{field}' has no text after 'Human:'.")
    return messages
