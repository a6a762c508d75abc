"""The chat template: rendered the same everywhere, in a sandbox."""

import json
from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import (
    GOLDEN_CONVERSATION,
    fit_to_template,
    messages_for,
    read_template,
    render,
    takes_system,
    turn_end,
)
from empathy_edge.formats.template_sandbox import with_fixed_date


def test_rendering_equals_transformers(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for messages in (GOLDEN_CONVERSATION, messages_for("Hi"), GOLDEN_CONVERSATION[1:]):
        for generate in (True, False):
            wanted = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
            assert render(read_template(tiny_model), messages, generate=generate) == wanted


TEMPLATES = {
    "generation tag": "{% for m in messages %}{% if m.role == 'assistant' %}<|a|>{% generation %}"
    "{{ m.content }}<|end|>{% endgeneration %}{% else %}<|{{ m.role }}|>{{ m.content }}{% endif %}"
    "{% endfor %}",
    "date": "Today: {{ strftime_now('%d %b %Y') }}{% if strftime_now is defined %} known{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] | trim }}<|eot|>{% endfor %}",
    "eos": "{{ bos_token }}{% for m in messages %}{{ '[' + m['role'] + '] ' + m['content'] + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
    "tools": "{% if tools %}tools{% endif %}{% if documents is none %}none{% endif %}"
    "{% for m in messages %}{{ m | tojson }}{{ m | tojson(indent=2) }}</s>{% endfor %}",
    "blocks": "{%- for m in messages %}\n    {%- if loop.first %}\n  first\n    {% endif %}\n"
    "{{ m.role }}:{{ m.content }}<|im_end|>\n{% if m.role == 'user' %}{% continue %}{% endif %}x\n"
    "{%- endfor %}\n",
    "namespace": "{% set n = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}"
    "{% set n.system = m.content %}{% else %}{{ n.system }}|{{ m.content }}</s>{% endif %}{% endfor %}",
}
"""Written to use what templates of known families use."""


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_feature_renders_as_in_transformers(name: str, tiny_model: Path) -> None:
    """The review's C8: `strftime_now` and `{% generation %}` were not known here."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    template = TEMPLATES[name]
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    for messages in (GOLDEN_CONVERSATION, messages_for("Hi")):
        for generate in (True, False):
            wanted = tokenizer.apply_chat_template(
                messages,
                chat_template=with_fixed_date(template),
                tokenize=False,
                add_generation_prompt=generate,
            )
            assert render(template, messages, generate=generate, bos=bos, eos=eos) == wanted


REFUSES_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<start_of_turn>{{ m['role'] }}\n{{ m['content'] }}<end_of_turn>\n{% endfor %}"
)
IGNORES_SYSTEM = "{% for m in messages if m.role != 'system' %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"


@pytest.mark.parametrize("template", [REFUSES_SYSTEM, IGNORES_SYSTEM])
def test_a_template_without_a_system_turn_is_given_none(template: str) -> None:
    """The review's C8: a system turn was always added, which Gemma 2 and older Mistral refuse."""
    assert not takes_system(template)
    fitted = fit_to_template(template, messages_for("Hi"))
    assert fitted == [{"role": "user", "content": "Hi"}] and "Hi" in render(template, fitted)


def test_a_template_with_a_system_turn_gets_it(tiny_model: Path) -> None:
    template = read_template(tiny_model)
    assert fit_to_template(template, messages_for("Hi")) == messages_for("Hi")


@pytest.mark.parametrize(
    ("tail", "eos", "wanted"),
    [
        ("<|end_of_text|>\n", "", "<|end_of_text|>"),
        ("<end_of_turn>\n", "<eos>", "<end_of_turn>"),
        ("{{ eos_token }}", "<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
        ("{{ eos_token }}", "[END]", "[END]"),
        ("[|endofturn|]\n", "", "[|endofturn|]"),
        (" </s>", "", "</s>"),
        ("\n<|im_end|>", "<|endoftext|>", "<|im_end|>"),
    ],
)
def test_turn_ends_of_many_families(tail: str, eos: str, wanted: str) -> None:
    """The review's C8: six strings were known; Granite's, DeepSeek's and EXAONE's were not among them."""
    assert turn_end("{% for m in messages %}{{ m.content }}" + tail + "{% endfor %}", eos) == wanted


def test_of_several_named_templates_the_default_is_read(tmp_path: Path) -> None:
    templates = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps({"chat_template": templates}))
    assert read_template(tmp_path) == "plain"
    file.write_text(json.dumps({"chat_template": templates[:1]}))
    with pytest.raises(EmpathyEdgeError, match="tool_use, but none named 'default'"):
        read_template(tmp_path)


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
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}" + "x" * 100 + "{% endfor %}",
        "{{ 'a' * 9999999999 }}",
        "{{ [1] * 9999999999 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ 'a' | center(9999999999) }}",
        "{{ messages | tojson(indent=9999999999) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set n = namespace(t='a') %}{% for i in range(99) %}{% set n.t = n.t + n.t %}{% endfor %}",
        "{{ strftime_now(7) }}",
        "{{ 1 / 0 }}",
        "{{ (" * 500 + "1" + ") }}" * 500,
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
