"""The chat's rules for signs of danger as a browser's regular expressions: they hold on the page too."""

from __future__ import annotations

import re

from empathy_edge.bench.result_file import Record
from empathy_edge.chat.crisis import crisis_reply
from empathy_edge.chat.crisis_signs import SIGNS
from empathy_edge.chat.figures_of_speech import FIGURES_OF_SPEECH

_VERBOSE = re.compile(r"\\.|\[(?:\\.|[^\]\\])+\]|\s+", re.DOTALL)
"""In a pattern in which white space does not count: an escape, a set of characters, or white space."""


class CrisisHelp(Record):
    """What the page does as `chat` does.

    Attributes:
        reply: what is answered in place of the model.
        signs: patterns; one that is found is enough.
        harmless: patterns of what is cut out of the message before.
    """

    reply: str
    signs: list[str]
    harmless: list[str]


def crisis_help(country: str | None) -> CrisisHelp:
    """The patterns, and the reply for a country (two letters; by default that of the locale)."""
    return CrisisHelp(
        reply=crisis_reply(country),
        signs=[browser_pattern(rule.regex.pattern) for rule in SIGNS],
        harmless=[browser_pattern(rule.regex.pattern) for rule in FIGURES_OF_SPEECH],
    )


def browser_pattern(pattern: str) -> str:
    """A pattern of `re.VERBOSE` without its white space, which JavaScript would take literally."""
    return _VERBOSE.sub(lambda found: "" if found[0].isspace() else found[0], pattern)
