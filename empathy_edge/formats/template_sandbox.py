"""Renders a Jinja template from elsewhere: as transformers does it, with bounds on its time and memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache, wraps
from typing import Any

from empathy_edge.errors import EmpathyEdgeError

MAX_ROUNDS = 200_000
"""Of all loops of a template together: a template from elsewhere may never end."""

MAX_CHARACTERS = 2_000_000
"""Of a rendered conversation, and of a text or list on the way."""

MAX_INDENT = 100
TODAY = datetime(2024, 7, 26)
"""What `strftime_now` gives, so that a prompt is the same every day.

It is the day that Llama's own templates write where there is no clock.
"""

_DATE_CALL = re.compile(r"""strftime_now\(\s*(["'])([^"'\\]{0,100})\1\s*\)""")
COUNT_LOOP = "count_loop_of_sandbox"
WIDE = re.compile(r"%[^a-zA-Z%]*(?:\d{5,}|\*)")


def render_bounded(template: str, values: Mapping[str, object]) -> str:
    """Render a template with these values.

    Raises:
        EmpathyEdgeError: the template is not valid, uses what the sandbox forbids, or does too much.
    """
    import jinja2

    try:
        return _joined(_compiled(template).generate({**values, COUNT_LOOP: _Loops().count}))
    except (
        jinja2.TemplateError,
        ArithmeticError,
        LookupError,
        NameError,
        TypeError,
        ValueError,
        SyntaxError,
    ) as error:  # a NameError: jinja2 writes the number 1e999 as `inf` into the code that it makes
        why = f": {error}"
    except (AttributeError, AssertionError, RecursionError, MemoryError, NotImplementedError) as error:
        why = f" ({type(error).__name__})."
    raise EmpathyEdgeError(f"The model's chat template cannot be rendered{why}")


def with_fixed_date(template: str) -> str:
    """The template with the day of the sandbox in place of today's, for transformers, which has a clock.

    >>> with_fixed_date("{{ strftime_now('%d %b %Y') }}")
    "{{ '26 Jul 2024' }}"
    """
    return _DATE_CALL.sub(lambda call: repr(TODAY.strftime(call[2])), template)


def _joined(parts: Iterable[str]) -> str:
    found, characters = [], 0
    for part in parts:
        characters += len(part)
        if characters > MAX_CHARACTERS:
            raise ValueError(f"it makes more than {MAX_CHARACTERS} characters")
        found.append(part)
    return "".join(found)


class _Loops:
    """Counts the rounds of all loops of a template together."""

    def __init__(self) -> None:
        self.rounds = 0

    def count(self) -> str:
        """One more round; its text is empty."""
        self.rounds += 1
        if self.rounds > MAX_ROUNDS:
            raise ValueError(f"its loops have more than {MAX_ROUNDS} rounds")
        return ""


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    """The template, compiled as transformers does it, with bounds on its time and memory."""
    environment = _environment()
    environment.filters["tojson"] = _to_json
    for name in ("center", "indent", "wordwrap"):
        environment.filters[name] = _bounded(environment.filters[name])
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda layout: TODAY.strftime(_bounded_text(layout))
    return environment.from_string(template)


def _environment() -> Any:
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def counting() -> nodes.Output:
        return nodes.Output([nodes.Call(nodes.Name(COUNT_LOOP, "load"), [], [], None, None)])

    class Generation(Extension):
        """`{% generation %}` marks what the assistant says; for the text it changes nothing."""

        tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    class Bounded(ImmutableSandboxedEnvironment):
        """Loops are counted, and operators cannot make huge texts or numbers."""

        intercepted_binops = frozenset(["*", "**", "%", "+"])

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**":
                raise ValueError("powers are not allowed")
            if operator == "*" and _size_of_product(left, right) > MAX_CHARACTERS:
                raise ValueError(f"it makes a text or list of more than {MAX_CHARACTERS}")
            if operator == "%" and isinstance(left, str) and WIDE.search(left):
                raise ValueError("it makes a very wide field")
            result = super().call_binop(context, operator, left, right)
            if isinstance(result, str | list | tuple) and len(result) > MAX_CHARACTERS:
                raise ValueError(f"it makes a text or list of more than {MAX_CHARACTERS}")
            return result

        def _parse(self, source: str, name: str | None, filename: str | None) -> Any:
            template = super()._parse(source, name, filename)
            for loop in template.find_all(nodes.For):
                loop.body.insert(0, counting())
            for macro in template.find_all(nodes.Macro):
                macro.body.insert(0, counting())
            return template

    return Bounded(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation])


def _refuse(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    if isinstance(options.get("indent"), int) and options["indent"] > MAX_INDENT:
        raise ValueError("it makes a very wide indentation")
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _bounded(jinja_filter: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose numbers may not be huge."""

    @wraps(jinja_filter)
    def apply(*values: Any, **options: Any) -> Any:
        if any(isinstance(value, int) and value > MAX_CHARACTERS for value in (*values, *options.values())):
            raise ValueError("it makes a very wide text")
        return jinja_filter(*values, **options)

    return apply


def _bounded_text(layout: Any) -> str:
    if not isinstance(layout, str) or len(layout) > MAX_INDENT:
        raise ValueError("a date's layout must be a short text")
    return layout


def _size_of_product(left: Any, right: Any) -> int:
    """How long a text or list is that is repeated; 0 for a product of numbers."""
    for text, times in ((left, right), (right, left)):
        if isinstance(text, str | list | tuple) and isinstance(times, int):
            return len(text) * max(0, times)
    return 0
