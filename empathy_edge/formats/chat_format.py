"""Chat templates: from messages to the text that a model reads, the same for every runtime.

Templates are rendered here, in a sandbox, and not by each runtime in its own way: a mismatched template is
the most common cause of nonsense output.
"""

from __future__ import annotations

import json
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.prompts import load_prompts

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

STOP_TOKENS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "</s>")
"""The end of a turn in the templates of known model families."""


def messages_for(utterance: str, system: str | None = None) -> list[Message]:
    """A conversation's first messages: the system prompt (ours by default), then the person's utterance."""
    return [
        {"role": "system", "content": system or load_prompts("chat").text("system")},
        {"role": "user", "content": utterance},
    ]


def render(
    template: str, messages: list[Message], *, generate: bool = True, bos: str = "", eos: str = ""
) -> str:
    """Render a model's chat template to text.

    Args:
        template: Jinja source, from the model's own files; it runs in Jinja's immutable sandbox.
        messages: role and content of each turn.
        generate: whether to begin the assistant's turn at the end (transformers: `add_generation_prompt`).
        bos: the beginning-of-sequence token's text.
        eos: the end-of-sequence token's text.

    Raises:
        EmpathyEdgeError: the template is not valid, or uses something that the sandbox forbids.
    """
    import jinja2

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    try:
        return _compiled(template).render(
            messages=messages,
            add_generation_prompt=generate,
            bos_token=bos,
            eos_token=eos,
            raise_exception=refuse,
        )
    except (jinja2.TemplateError, TypeError, ValueError, OverflowError) as error:
        raise EmpathyEdgeError(f"The model's chat template cannot be rendered: {error}") from None


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # As transformers renders templates.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    return environment.from_string(template)


def turn_end(template: str) -> str:
    """The text with which the template ends an assistant's turn, e.g. `<|im_end|>`.

    Raises:
        EmpathyEdgeError: the template ends a turn without a known stop token; a model trained on it would
            never stop.
    """
    probe = "\u241fprobe\u241f"
    conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": probe}]
    tail = render(template, conversation, generate=False, eos="</s>").rpartition(probe)[2]
    token = next((item for item in STOP_TOKENS if tail.lstrip().startswith(item)), None)
    if token is None:
        raise EmpathyEdgeError(
            f"The chat template ends a turn with {tail[:30]!r}, which is no stop token "
            f"({', '.join(STOP_TOKENS)}): a model trained on it would never stop."
        )
    return token


def read_template(folder: Path) -> str:
    """The chat template of a checkpoint or artifact folder.

    Raises:
        EmpathyEdgeError: there is none; such a model cannot chat.
    """
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    if config.is_file():
        template = json.loads(config.read_text(encoding="utf-8")).get("chat_template")
        if isinstance(template, str):
            return template
    raise EmpathyEdgeError(
        f"{folder}: no chat template (chat_template.jinja, or chat_template in tokenizer_config.json).\n"
        "  Take an instruction-tuned checkpoint, or put its template there."
    )
