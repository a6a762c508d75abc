"""The chat template: rendered the same everywhere, in a sandbox."""

from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import (
    GOLDEN_CONVERSATION,
    messages_for,
    read_template,
    render,
    turn_end,
)


def test_rendering_equals_transformers(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for messages in (GOLDEN_CONVERSATION, messages_for("Hi"), GOLDEN_CONVERSATION[1:]):
        for generate in (True, False):
            wanted = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
            assert render(read_template(tiny_model), messages, generate=generate) == wanted


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{{ messages.append(1) }}",
        "{{ range(99999999999) | list }}",
        "{% for m in messages %}",
        "{{ raise_exception('no') }}",
    ],
)
def test_hostile_or_broken_template_is_one_error(template: str) -> None:
    with pytest.raises(EmpathyEdgeError, match="chat template cannot be rendered"):
        render(template, messages_for("Hi"))


def test_turn_end_must_be_a_stop_token(tiny_model: Path) -> None:
    assert turn_end(read_template(tiny_model)) == "<|im_end|>"
    mute = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    with pytest.raises(EmpathyEdgeError, match="would never stop"):
        turn_end(mute)


def test_missing_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmpathyEdgeError, match=r"no chat template"):
        read_template(tmp_path)
