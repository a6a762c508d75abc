"""Does LiteRT-LM itself make of a conversation the prompt that the model was trained on?"""

from __future__ import annotations

from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION, Message, fit_to_template
from empathy_edge.runtimes.litert_lm_runtime import LiteRtLmRuntime

CONTEXT = 1024

_USER: Message = {"role": "user", "content": "I lost my job today.  I don't know what to do…"}
_ASSISTANT: Message = {"role": "assistant", "content": "Oh no. I'm so sorry."}
_SYSTEM: Message = {"role": "system", "content": "You are a warm listener."}

CONVERSATIONS: tuple[list[Message], ...] = (
    [_USER],
    [_SYSTEM, _USER],
    [_USER, _ASSISTANT, {"role": "user", "content": "Thanks. It was ten years."}],
    [_SYSTEM, _USER, _ASSISTANT, {"role": "user", "content": "Thanks. It was ten years."}],
    GOLDEN_CONVERSATION,
)
"""One turn and several, with a system turn and without."""


def require_same_prompts(file: Path, model: Path) -> None:
    """Compare prompts token by token.

    Args:
        file: the .litertlm.
        model: a folder with the tokenizer, the template and config.json of the checkpoint.

    Raises:
        EmpathyEdgeError: LiteRT-LM cannot render the template, or makes other tokens of it.
    """
    runtime = LiteRtLmRuntime(file, model, threads=1, context=CONTEXT)
    try:
        for conversation in CONVERSATIONS:
            messages = fit_to_template(runtime.template, conversation)
            expected = runtime.encode(messages)
            found = runtime.own_prompt(messages)
            if found != expected:
                place = next(
                    (number for number, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b),
                    min(len(found), len(expected)),
                )
                raise EmpathyEdgeError(
                    f"{file}: LiteRT-LM makes another prompt of {len(messages)} turns than the model was "
                    f"trained on: {len(found)} tokens, not {len(expected)}; the first difference is at "
                    f"{place}. Its template engine (minijinja) does not support all of "
                    "jinja2; give the model a simpler one: --template FILE."
                )
    finally:
        runtime.close()
