"""Where the report's lines may break: browsers break at hyphens, too, and split names and options."""

from __future__ import annotations

import re
from html import escape

NAME = re.compile(r"\w-\w*[\d_]|--\w")
"""In a word of prose: it is a name or an option, as gguf-q8_0 or --judge, and no fine-tuned."""


def command_html(text: str) -> str:
    """A command as HTML that is broken at spaces only."""
    return " ".join(_unbroken(word) for word in text.split(" "))


def prose_html(text: str) -> str:
    """Prose as HTML in which names and options are not broken at their hyphens."""
    return " ".join(_unbroken(word) if NAME.search(word) else escape(word) for word in text.split(" "))


def _unbroken(word: str) -> str:
    return f'<span class="word">{escape(word)}</span>'
