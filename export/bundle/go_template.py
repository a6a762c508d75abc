"""A chat template in the language of Go's text/template, as Ollama's Modelfile takes it.

Ollama gives it `.Messages`, each with `.Role` and `.Content`, and `.System`, the system turns joined. There
is no function that trims a text; that is done here by a loop over its bytes, for which Go 1.24 is needed
(Ollama 0.6).
"""

from __future__ import annotations

from empathy_edge.formats.prompt_shape import END, PromptShape

_TRIM = (
    '{{ define "trimmed" }}{{ $text := . }}{{ $begin := 0 }}{{ $end := 0 }}{{ $started := false }}'
    "{{ $solid := false }}{{ range $i := len $text }}{{ if $solid }}{{ $end = $i }}{{ end }}"
    "{{ $solid = not (eq (index $text $i) 9 10 11 12 13 32) }}"
    "{{ if and $solid (not $started) }}{{ $begin = $i }}{{ $started = true }}{{ end }}{{ end }}"
    "{{ if $solid }}{{ slice $text $begin }}{{ else if $started }}{{ slice $text $begin $end }}{{ end }}"
    "{{ end }}"
)
"""Writes a text without the spaces around it: 9 to 13 and 32 are the bytes of `WHITESPACE`."""

_LAST_USER = (
    "{{ $last := -1 }}"
    '{{ range $i, $m := .Messages }}{{ if eq $m.Role "user" }}{{ $last = $i }}{{ end }}{{ end }}'
)


def go_template(shape: PromptShape) -> str:
    """The Go template that writes what a chat template of this shape writes."""
    parts = [_TRIM] if shape.trimmed else []
    if shape.system_is_late:
        parts.append(_LAST_USER)
    parts.append('{{ $before := "" }}{{ range $i, $m := .Messages }}')
    starts = "if"
    for (before, role), text in shape.gaps.items():
        if role != END:
            condition = f'and (eq $before "{before}") (eq $m.Role "{role}")'
            parts.append(f"{{{{ {starts} {condition} }}}}{literal(text)}")
            parts.append(_late_system(shape) if shape.system_is_late and role == "user" else "")
            parts.append(_value(shape, role, "$m.Content") + f'{{{{ $before = "{role}" }}}}')
            starts = "else if"
    parts.append("{{ end }}{{ end }}")
    parts.append(_ends(shape))
    return "".join(parts)


def _late_system(shape: PromptShape) -> str:
    """The system turn before the last user's message."""
    system = _value(shape, "system", "$.System")
    return f"{{{{ if and $.System (eq $i $last) }}}}{system}{literal(shape.after_system)}{{{{ end }}}}"


def _value(shape: PromptShape, role: str, name: str) -> str:
    return f'{{{{ template "trimmed" {name} }}}}' if role in shape.trimmed else f"{{{{ {name} }}}}"


def _ends(shape: PromptShape) -> str:
    """What follows the last message, mostly the beginning of the assistant's turn."""
    ends = {before: text for (before, role), text in shape.gaps.items() if role == END}
    if len(set(ends.values())) == 1:
        return literal(next(iter(ends.values())))
    branches = [f'if eq $before "{before}" }}}}{literal(text)}' for before, text in ends.items()]
    return "{{ " + "{{ else ".join(branches) + "{{ end }}"


def literal(text: str) -> str:
    """A fixed text in a template: as it is, or quoted where Go or a Modelfile would read it otherwise.

    >>> literal("<|im_end|>\\n"), literal('say "x"')
    ('<|im_end|>\\n', '{{ "say \\\\"x\\\\"" }}')
    """
    is_plain = all(" " <= character <= "~" or character == "\n" for character in text)
    if is_plain and not set(text) & set('"{'):
        return text
    return '{{ "' + "".join(_escaped(character) for character in text) + '" }}'


def _escaped(character: str) -> str:
    """A character within a Go string."""
    if character in '"\\':
        return "\\" + character
    if " " <= character <= "~":
        return character
    return f"\\U{ord(character):08x}"
