"""A chat template for LiteRT-LM, whose messages hold a list of typed parts where others hold a text.

LiteRT-LM renders templates with minijinja. The text of a message is there `[{"type": "text", "text": …}]`,
so that `'…' + message['content']` fails. The lines that are put before the template make texts of the parts;
what follows is the template as the model was trained with it.
"""

from __future__ import annotations

from empathy_edge.formats.template_sandbox import with_fixed_date

_TEXTS_OF_PARTS = """\
{%- set texts = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- if message.content is string -%}
{%- set texts.messages = texts.messages + [message] -%}
{%- else -%}
{%- set text -%}
{%- for part in message.content -%}{%- if part.type == 'text' -%}{{- part.text -}}{%- endif -%}{%- endfor -%}
{%- endset -%}
{%- set texts.messages = texts.messages + [dict(message, content=text)] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = texts.messages -%}
{%- if tools is not defined -%}{%- set tools = none -%}{%- endif -%}
{%- if documents is not defined -%}{%- set documents = none -%}{%- endif -%}
"""


def typed_template(template: str, *, bos: str, eos: str) -> str:
    """A template that renders typed messages as `template` renders texts.

    Args:
        template: Jinja source, as the model was trained with it.
        bos: the text of the beginning-of-sequence token, which the template may write.
        eos: the text of the end-of-sequence token.
    """
    # jinja2 drops a newline at the end of a template, minijinja keeps it.
    tokens = f"{{%- set bos_token = {_quoted(bos)} -%}}{{%- set eos_token = {_quoted(eos)} -%}}"
    return _TEXTS_OF_PARTS.rstrip("\n") + tokens + with_fixed_date(template).removesuffix("\n")


def _quoted(text: str) -> str:
    """A Jinja string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
