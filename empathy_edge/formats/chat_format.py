"""Chat templates: from messages to the text that a model reads, the same for every runtime.

Templates are rendered here, in a sandbox, and not by each runtime in its own way: a mismatched template is
the most common cause of nonsense output.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.built_in_templates import BUILT_IN, proposed
from empathy_edge.formats.template_sandbox import render_bounded, with_fixed_date
from empathy_edge.formats.vocabulary import Vocabulary, vocabulary_of_folder
from empathy_edge.prompts import load_prompts
from empathy_edge.system.files import read_json_object

Message = dict[str, str]

GOLDEN_CONVERSATION: list[Message] = [
    {"role": "system", "content": "You are a warm listener.  Be brief."},
    {
        "role": "user",
        "content": "My dog Édgar, 13½, died at 04:07 today… I can't stop crying 😢\n\n\tWhat now?",
    },
    {"role": "assistant", "content": "I'm so sorry. Thirteen years is a whole life together."},
    {"role": "user", "content": "Merci — 谢谢, شكرا. He weighed 31.5 kg & hated 'cats' <b>so</b> much!!"},
]
"""A fixed conversation with accents, emoji, digits, CJK, right-to-left text and odd whitespace.

Its token ids must be the same in a checkpoint and in every artifact made from it.
"""

DEFAULT = "default"
"""The name of a model's only template, and of the one that is taken where nobody chooses."""

MAX_TEMPLATE_BYTES = 2_000_000

SPECIAL_TOKEN = re.compile(r"<[^<>\s]{1,40}>|\[\|[^\[\]\s]{1,40}\|\]")
"""How the special tokens of templates look: `<|im_end|>`, `<end_of_turn>`, `</s>`, `[|endofturn|]`."""


def messages_for(utterance: str, system: str | None = None, history: Sequence[Message] = ()) -> list[Message]:
    """What a model answers: the system prompt (ours by default), earlier messages, the person's utterance.

    A history that begins with a system prompt keeps its own. A template that takes no system turn is given
    none: see `fit_to_template`.
    """
    said: Message = {"role": "user", "content": utterance}
    if history and history[0]["role"] == "system":
        return [*history, said]
    return [{"role": "system", "content": system or load_prompts("chat").text("system")}, *history, said]


def render(
    template: str, messages: list[Message], *, generate: bool = True, bos: str = "", eos: str = ""
) -> str:
    """Render a model's chat template to text.

    Args:
        template: Jinja source, from the model's own files; its time and memory are bounded.
        messages: role and content of each turn.
        generate: whether to begin the assistant's turn at the end (transformers: `add_generation_prompt`).
        bos: the beginning-of-sequence token's text.
        eos: the end-of-sequence token's text.

    Raises:
        EmpathyEdgeError: the template is not valid, or uses something that the sandbox forbids.
    """
    values = {
        "messages": messages,
        "tools": None,
        "documents": None,
        "add_generation_prompt": generate,
        "bos_token": bos,
        "eos_token": eos,
    }
    return render_bounded(template, values)


@lru_cache(maxsize=8)
def takes_system(template: str) -> bool:
    """Whether the template shows a system turn; others refuse it, or leave it out."""
    probe = "\u241fprobe\u241f"
    try:
        shown = render(template, [{"role": "system", "content": probe}, {"role": "user", "content": "a"}])
    except EmpathyEdgeError:
        return False
    return probe in shown


def fit_to_template(template: str, messages: list[Message]) -> list[Message]:
    """The messages, without the system turn where the template takes none."""
    if takes_system(template):
        return messages
    return [message for message in messages if message["role"] != "system"]


def turn_end(template: str, eos: str = "") -> str:
    """The text with which the template ends an assistant's turn, e.g. `<|im_end|>`.

    Args:
        template: Jinja source.
        eos: the end-of-sequence token's text, which many templates take.

    Raises:
        EmpathyEdgeError: the template ends a turn without a special token; a model trained on it would
            never stop.
    """
    probe = "\u241fprobe\u241f"
    conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": probe}]
    tail = render(template, conversation, generate=False, eos=eos).rpartition(probe)[2]
    if eos and tail.lstrip().startswith(eos):
        return eos
    token = SPECIAL_TOKEN.match(tail.lstrip())
    if token is None:
        raise EmpathyEdgeError(
            f"The chat template ends a turn with {tail[:30]!r}, which is no special token: "
            "a model trained on it would never stop."
        )
    return token[0]


def template_of(tokenizer: Any) -> str:
    """The chat template of a tokenizer of transformers: of several, the one named `default`.

    Raises:
        EmpathyEdgeError: it has none.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get(DEFAULT)
    if not isinstance(template, str):
        raise EmpathyEdgeError("The tokenizer has no chat template; take an instruction-tuned checkpoint.")
    return template


def turn_end_id(tokenizer: Any) -> int:
    """The token with which the template of a tokenizer of transformers ends an assistant's turn.

    Raises:
        EmpathyEdgeError: that text is no token.
    """
    text = turn_end(template_of(tokenizer), tokenizer.eos_token or "")
    token: int | None = tokenizer.get_vocab().get(text)
    if token is None:
        raise EmpathyEdgeError(f"The template ends a turn with {text}, which is no token of the tokenizer.")
    return token


def eos_of(folder: Path) -> str:
    """The text of the end-of-sequence token of a checkpoint or artifact folder; empty where it has none."""
    config = folder / "tokenizer_config.json"
    token = read_json_object(config).get("eos_token") if config.is_file() else None
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def set_template(tokenizer: Any, template: str) -> None:
    """Let a tokenizer of transformers render a template as the runtimes here do: the same text every day."""
    tokenizer.chat_template = with_fixed_date(template)


def has_template(folder: Path) -> bool:
    """Whether a checkpoint's or adapter's folder brings a chat template."""
    return bool(named_templates(folder))


def read_template(folder: Path) -> str:
    """The chat template of a checkpoint or artifact folder: of several, the one named `default`.

    Raises:
        EmpathyEdgeError: there is none; such a model cannot chat. It says which built-in one fits.
    """
    found = named_templates(folder)
    if DEFAULT in found:
        return found[DEFAULT]
    if found:
        raise EmpathyEdgeError(
            f"{folder}: has the chat templates {', '.join(found)}, but none named '{DEFAULT}'. "
            f"Choose one: --template {next(iter(found))}"
        )
    has_tokenizer = (folder / "tokenizer.json").is_file()
    raise no_template(folder, vocabulary_of_folder(folder) if has_tokenizer else None)


def no_template(model: Path, vocabulary: Vocabulary | None) -> EmpathyEdgeError:
    """The error of a model without a chat template, with what would fit it."""
    fitting = proposed(vocabulary) if vocabulary else []
    because = f"is of the type {vocabulary.model_type} and " if vocabulary and vocabulary.model_type else ""
    hint = f"\n  It {because}has the tokens of: {', '.join(fitting)}." if fitting else ""
    return EmpathyEdgeError(
        f"{model}: no chat template. Name the one that it was trained with: --template NAME or FILE.jinja, "
        "of this command or of export."
        f"\n  Built in: {', '.join(BUILT_IN)}.{hint}"
    )


def named_templates(folder: Path) -> dict[str, str]:
    """The chat templates of a checkpoint, adapter or artifact folder by name; a single one is `default`.

    They are where transformers 5 looks for them: chat_template.jinja, additional_chat_templates/NAME.jinja,
    tokenizer_config.json, and chat_template.json of models that also see.

    Raises:
        EmpathyEdgeError: a file of them is no text or no JSON.
    """
    found: dict[str, str] = {}
    for name in ("chat_template.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            found |= _templates_in(read_json_object(folder / name).get("chat_template"))
    for file in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        found[file.stem] = template_text(file)
    if (folder / "chat_template.jinja").is_file():
        found[DEFAULT] = template_text(folder / "chat_template.jinja")
    return found


def _templates_in(value: Any) -> dict[str, str]:
    """The templates of a JSON file's `chat_template`: a text, a list of named ones, or an object of them."""
    if isinstance(value, list):
        value = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
    if isinstance(value, dict):
        return {str(name): text for name, text in value.items() if isinstance(text, str)}
    return {DEFAULT: value} if isinstance(value, str) and value else {}


def template_text(file: Path) -> str:
    """The text of a template's file.

    Raises:
        EmpathyEdgeError: it is too large for a template, or not UTF-8.
    """
    if file.stat().st_size > MAX_TEMPLATE_BYTES:
        raise EmpathyEdgeError(f"{file}: {file.stat().st_size / 1e6:.1f} MB is no chat template's size.")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise EmpathyEdgeError(f"{file}: not UTF-8 (byte {error.start}).") from None
