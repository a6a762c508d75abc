"""Rules: patterns that decide something about a text, each beside examples that are tests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

MIN_EXAMPLES = 10
"""Each rule has at least so many examples of both kinds; a test counts them."""


@dataclass(frozen=True)
class Rule:
    """One pattern, searched from the beginning of a word on, whatever the case.

    Attributes:
        name: what a text does that the pattern finds.
        pattern: a regular expression in which white space does not count (`re.VERBOSE`).
        finds: texts that it must find.
        ignores: texts that look alike, but that it must not find.
        reason: what is reported about such a text; several rules can share it.
        is_certain: whether the pattern seldom finds what is harmless. A rule that is not certain counts only
            where a miss is worse than a false alarm.
    """

    name: str
    pattern: str
    finds: tuple[str, ...]
    ignores: tuple[str, ...]
    reason: str = ""
    is_certain: bool = True

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The pattern, compiled."""
        return re.compile(rf"\b(?:{self.pattern})", re.IGNORECASE | re.VERBOSE)

    def matches(self, text: str) -> bool:
        """Whether the pattern is found in a text."""
        return self.regex.search(plain_quotes(text)) is not None


def first_match(rules: Iterable[Rule], text: str) -> Rule | None:
    """The first rule that is found in a text; None where none is."""
    return next((rule for rule in rules if rule.matches(text)), None)


def without(rules: Iterable[Rule], text: str) -> str:
    """The text without what the rules find: harmless phrases are cut out before others are searched."""
    for rule in rules:
        text = rule.regex.sub(" … ", plain_quotes(text))
    return text


def plain_quotes(text: str) -> str:
    """The text with the typewriter's apostrophe, as the patterns have it."""
    return text.replace("’", "'")
