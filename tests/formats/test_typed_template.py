"""Templates for LiteRT-LM: rendered by jinja2 here, by LiteRT-LM itself in tests/export/test_litertlm.py."""

from typing import Any

import pytest

from empathy_edge.export.litertlm.prompts_check import CONVERSATIONS
from empathy_edge.formats.built_in_templates import BUILT_IN, built_in_template
from empathy_edge.formats.chat_format import fit_to_template, render
from empathy_edge.formats.template_sandbox import render_bounded
from empathy_edge.formats.typed_template import typed_template


@pytest.mark.parametrize("name", BUILT_IN)
def test_typed_messages_give_the_same_text(name: str) -> None:
    template = built_in_template(name, begins_with_bos=True)
    for conversation in CONVERSATIONS:
        messages = fit_to_template(template, conversation)
        typed: list[dict[str, Any]] = []
        for message in messages:
            typed.append({**message, "content": [{"type": "text", "text": message["content"]}]})
        values = {"messages": typed, "add_generation_prompt": True}
        found = render_bounded(typed_template(template, bos="<s>", eos="it's"), values)
        assert found == render(template, messages, bos="<s>", eos="it's")
